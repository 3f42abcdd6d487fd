"""What every endpoint for callers with a key is: limited."""

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest.authentication import granted
from ingest.ratelimits import Caller, Limiter


class LimitedView(APIView):
    """A view whose callers may ask only so often: `rules` names the limits that hold here."""

    rules: tuple[str, ...] = ()
    limiter: Limiter | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        grant = granted(request)
        self.limiter = Limiter(
            Caller(
                request=request._request,
                project_id=grant.project_id,
                key_id=grant.key_id,
                overrides=grant.rate_limits,
                user=self.user(request._request),
            ),
            self.rules,
        )
        self.limiter.check()

    def user(self, request: HttpRequest) -> str | None:
        """Whom the headers say the request is from."""
        return None

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if self.limiter is not None:
            for name, value in self.limiter.headers.items():
                response[name] = value
        return response
