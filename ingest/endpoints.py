"""What every endpoint for callers with a key is: limited, and closed to who is blocked."""

from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest import blocks
from ingest.authentication import granted
from ingest.ratelimits import Caller, Limiter


class CountingView(APIView):
    """A view that counts who asks once it knows who that is, and tells what is left of `rules`."""

    rules: tuple[str, ...] = ()
    limiter: Limiter | None = None

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if self.limiter is not None:
            for name, value in self.limiter.headers.items():
                response[name] = value
        return response


class LimitedView(CountingView):
    """A view whose callers may ask only so often: `rules` names the limits that hold here."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # A blocked network costs no look at its keys.
        blocks.check(Caller(request._request))
        super().initial(request, *args, **kwargs)
        grant = granted(request)
        caller = Caller(
            request=request._request,
            project_id=grant.project_id,
            key_id=grant.key_id,
            overrides=grant.rate_limits,
            user=self.user(request._request),
        )
        blocks.check(caller)
        self.limiter = Limiter(caller, self.rules)
        self.check_limits()

    def check_limits(self) -> None:
        """Refuse who is over a limit, or blocked: counting tells of a block made just now."""
        assert self.limiter is not None
        self.limiter.check()
        blocks.check(self.limiter.caller)

    def user(self, request: HttpRequest) -> str | None:
        """Whom the headers say the request is from."""
        return None
