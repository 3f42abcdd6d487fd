"""The endpoints that clients post to, and where they ask what became of a batch.

Each does four things: authenticate, limit, decode, call one function.
"""

import threading
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest import bodies, intake
from ingest.authentication import MayIngest, granted
from ingest.formats import FORMATS
from ingest.models import Batch
from ingest.records import Envelope, Limits, MalformedBatch
from telemetry_site.errors import MOST_ERRORS, STATUS_OF_CODE, error_response, unavailable
from telemetry_site.responses import json_response

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


class IntakeView(APIView):
    """Takes a batch in one wire format."""

    permission_classes = [MayIngest]
    format: str

    def post(self, request: Request) -> HttpResponse:
        arrival = intake.Arrival(
            grant=granted(request),
            format=self.format,
            request_id=request.META["telemetry.request_id"],
            received_at=timezone.now(),
        )
        try:
            return self._answer_to(request._request, arrival)
        except intake.DiskFull:
            return unavailable("The server's disk is nearly full.", "disk_full")

    def _answer_to(self, request: HttpRequest, arrival: intake.Arrival) -> HttpResponse:
        try:
            receipt = self._accept(request, arrival)
        except MalformedBatch as reason:
            intake.refuse(arrival, reason.code, [])
            errors = [{"field": reason.field, "code": reason.code, "message": reason.details}]
            return error_response(
                STATUS_OF_CODE.get(reason.code, 400),
                reason.code,
                reason.details,
                errors if reason.field else (),
            )
        except intake.AllRejected as refused:
            first = refused.rejections[0]
            intake.refuse(arrival, first.code, refused.rejections)
            return error_response(
                400, first.code, str(first), [problem.report for problem in refused.rejections]
            )
        return json_response(self.answer(arrival, receipt))

    def _accept(self, request: HttpRequest, arrival: intake.Arrival) -> intake.Receipt:
        body = bodies.read(request)
        arrival.wire_bytes, arrival.body_bytes = body.wire_bytes, len(body.content)
        envelope = Envelope(
            user_id=_header(request, "X-User-ID"),
            client_version=_header(request, "X-Client-Version"),
            batch_id=_idempotency_key(request),
            users_optional=arrival.grant.users_optional,
            limits=LIMITS,
        )
        with _large_body if len(body.content) > _LARGE_BYTES else nullcontext():
            return intake.accept(FORMATS[self.format](body.content, envelope), arrival)

    def answer(self, arrival: intake.Arrival, receipt: intake.Receipt) -> dict[str, Any]:
        """The body of the 200."""
        answer: dict[str, Any] = {
            "batch_id": receipt.batch_id,
            "received": receipt.accepted + len(receipt.rejections),
            "accepted": receipt.accepted,
            "rejected": len(receipt.rejections),
            "timestamp": arrival.received_at,
        }
        if receipt.rejections:
            answer["errors"] = [problem.report for problem in receipt.rejections[:MOST_ERRORS]]
        if receipt.duplicate:
            answer["duplicate"] = True
        return answer


class EventsView(IntakeView):
    """`POST /v1/events`: the native batch."""

    format = "events"


class BatchView(APIView):
    """`GET /v1/batches/{batch_id}`: did it arrive, and what became of its events?"""

    permission_classes = [MayIngest]

    def get(self, request: Request, batch_id: UUID) -> HttpResponse:
        batch = Batch.objects.claimed_by(granted(request).project_id, batch_id)
        if batch is None:
            return error_response(
                404, "unknown_batch", "No batch of this id was accepted in the last 31 days."
            )
        return json_response(batch.report)


class PingView(APIView):
    """`GET /v1/ping`: is somebody there?"""

    authentication_classes = []

    def get(self, request: Request) -> HttpResponse:
        return json_response({"status": "ok"})


class InfoView(APIView):
    """`GET /v1/info`: what this server is and takes."""

    authentication_classes = []

    def get(self, request: Request) -> HttpResponse:
        return json_response(
            {
                "name": "telemetry",
                "version": settings.VERSION,
                "api_versions": ["v1"],
                "formats": sorted(FORMATS),
                "encodings": bodies.ENCODINGS,
                "limits": {
                    "wire_bytes": settings.MAX_WIRE_BYTES,
                    "body_bytes": settings.MAX_BODY_BYTES,
                    "batch_events": LIMITS.batch_events,
                    "event_bytes": LIMITS.event_bytes,
                    "depth": LIMITS.depth,
                    "name_length": LIMITS.name_length,
                    "structure": LIMITS.structure,
                    "age_days": settings.MAX_AGE_DAYS,
                },
            }
        )


def _header(request: HttpRequest, name: str) -> str | None:
    """A header's text, None where it is absent or empty. WSGI hands bytes out as Latin-1."""
    variable = "HTTP_" + name.upper().replace("-", "_")
    value: bytes = request.META.get(variable, "").strip().encode("latin-1")
    if len(value) > LIMITS.name_length:
        raise MalformedBatch("too_long", f"{name} is longer than {LIMITS.name_length} bytes")
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        raise MalformedBatch("invalid_utf8", f"{name} is not valid UTF-8") from None


def _idempotency_key(request: HttpRequest) -> UUID | None:
    value = _header(request, "Idempotency-Key")
    try:
        return UUID(value) if value else None
    except ValueError:
        raise MalformedBatch("invalid_batch_id", "Idempotency-Key must be a UUID") from None
