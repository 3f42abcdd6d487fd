"""What every endpoint for callers with a key is: limited, and closed to who is blocked; and what
every one is that takes what clients send."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest import blocks, headers, intake
from ingest.authentication import SENDERS, MayIngest, granted
from ingest.bodies import Body
from ingest.ratelimits import Caller, Limiter
from ingest.records import Envelope, Limits, MalformedBatch
from telemetry_site.errors import STATUS_OF_CODE, error_response, unavailable

LIMITS = Limits(
    batch_events=settings.MAX_BATCH_EVENTS,
    event_bytes=settings.MAX_EVENT_BYTES,
    depth=settings.MAX_DEPTH,
    name_length=settings.MAX_NAME_LENGTH,
    structure=settings.MAX_STRUCTURE,
)
# Decoding a body of the largest size takes tens of megabytes: of those one at a time.
_LARGE_BYTES = 1024**2
_large_body = threading.Lock()


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


class SenderView(LimitedView):
    """A view that takes what clients send, in one wire format."""

    authentication_classes = SENDERS
    permission_classes = [MayIngest]
    format: str

    def post(self, request: Request) -> HttpResponse:
        arrival = intake.Arrival(
            grant=granted(request),
            format=self.format,
            request_id=request.META["telemetry.request_id"],
            received_at=timezone.now(),
            started=request.META["telemetry.started"],
        )
        try:
            return self._answer_to(request._request, arrival)
        except intake.DiskFull:
            return unavailable("The server's disk is nearly full.", "disk_full")

    def user(self, request: HttpRequest) -> str | None:
        try:
            return headers.text(request, headers.USER)
        except MalformedBatch:
            return None  # the batch is refused for it, and that is written down

    def _answer_to(self, request: HttpRequest, arrival: intake.Arrival) -> HttpResponse:
        try:
            return self.take(request, arrival)
        except MalformedBatch as reason:
            intake.refuse(arrival, reason.code, [])
            errors = [{"field": reason.field, "code": reason.code, "message": reason.details}]
            return error_response(
                STATUS_OF_CODE.get(reason.code, 400),
                reason.code,
                reason.details,
                errors if reason.field else (),
            )

    def take(self, request: HttpRequest, arrival: intake.Arrival) -> HttpResponse:
        """Accept what is in the body; raises MalformedBatch where that can't be."""
        raise NotImplementedError


def envelope_of(
    request: HttpRequest, arrival: intake.Arrival, batch_id: UUID | None = None
) -> Envelope:
    """What the headers say of a request's batches. Raises MalformedBatch."""
    arrival.user_id = headers.text(request, headers.USER)
    return Envelope(
        user_id=arrival.user_id,
        client_version=headers.text(request, "X-Client-Version"),
        batch_id=batch_id,
        users_optional=arrival.grant.users_optional,
        limits=LIMITS,
    )


def room_for(body: Body) -> AbstractContextManager[Any]:
    """Hold while a body is decoded."""
    return _large_body if len(body.content) > _LARGE_BYTES else nullcontext()
