"""The endpoints that clients post to, and where they ask what became of a batch.

Each does four things: authenticate, limit, decode, call one function.
"""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest import bodies, headers, intake
from ingest.authentication import SENDERS, MayIngest, granted
from ingest.cors import origin_of
from ingest.endpoints import LIMITS, LimitedView, SenderView, envelope_of, room_for
from ingest.formats import FORMATS, NAMES
from ingest.formats.otlp.frames import MOST_ITEMS
from ingest.models import ApiKey, Batch
from ingest.records import DecodedBatch, MalformedBatch
from ingest.schema import operations
from telemetry_site.errors import MOST_ERRORS, error_response
from telemetry_site.responses import json_response


class IntakeView(SenderView):
    """Takes a batch in one wire format."""

    items = "events"

    def take(self, request: HttpRequest, arrival: intake.Arrival) -> HttpResponse:
        body = bodies.read(request)
        arrival.wire_bytes, arrival.body_bytes = body.wire_bytes, len(body.content)
        envelope = envelope_of(request, arrival, _idempotency_key(request))
        try:
            with room_for(body):
                decoded = FORMATS[self.format](body.content, envelope)
                self._check_sender(decoded)
                receipt = intake.accept(decoded, arrival)
        except intake.AllRejected as refused:
            first = refused.rejections[0]
            intake.refuse(arrival, first.code, refused.rejections)
            return error_response(
                400,
                first.code,
                first.sentence(self.items),
                [problem.report for problem in refused.rejections],
            )
        return self.answer(arrival, receipt)

    def _check_sender(self, decoded: DecodedBatch) -> None:
        """The limits that count by what only the body says."""
        assert self.limiter is not None
        caller = self.limiter.caller
        caller.user = caller.user or decoded.user_id
        caller.node, caller.decoded = decoded.node, True
        self.check_limits()

    def answer(self, arrival: intake.Arrival, receipt: intake.Receipt) -> HttpResponse:
        """What the client of an accepted batch is told."""
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
        return json_response(answer)


class EventsView(IntakeView):
    """`POST /v1/events`: the native batch."""

    format = "events"
    rules = ("events.ip", "events.key", "events.user")
    operation = operations.EVENTS


class SubmitView(IntakeView):
    """`POST /v1/submit`: the submission client's batch."""

    format = "submit"
    rules = ("submit.user",)
    operation = operations.SUBMIT

    def answer(self, arrival: intake.Arrival, receipt: intake.Receipt) -> HttpResponse:
        answer: dict[str, Any] = {
            "success": True,
            "accepted": receipt.accepted,
            "rejected": len(receipt.rejections),
        }
        if receipt.rejections:
            answer["errors"] = [
                problem.sentence(self.items) for problem in receipt.rejections[:MOST_ERRORS]
            ]
        return json_response(answer)


class ClientTelemetryView(IntakeView):
    """`POST /api/client-telemetry`: the browser's batch, or one event of it."""

    format = "client_telemetry"
    rules = ("browser.ip",)
    operation = operations.CLIENT_TELEMETRY

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        origin = origin_of(request._request)
        ours = f"{request.scheme}://{request.get_host()}"
        if origin and origin != ours and origin not in granted(request).origins:
            raise PermissionDenied(
                "The page's origin isn't among the project's; list it in the admin.",
                code="origin_not_allowed",
            )

    def answer(self, arrival: intake.Arrival, receipt: intake.Receipt) -> HttpResponse:
        response = HttpResponse(status=204)
        del response["Content-Type"]
        return response


class MetricsView(IntakeView):
    """`POST /v1/metrics`: a batch of measurements."""

    format = "metrics"
    items = "metrics"
    rules = ("metrics.key",)
    operation = operations.METRICS


class SnapshotView(IntakeView):
    """`POST /api/telemetry/snapshot`: how one node is, one moment."""

    format = "snapshot"
    items = "snapshots"
    rules = ("snapshot.node",)
    operation = operations.SNAPSHOT


class BatchView(LimitedView):
    """`GET /v1/batches/{batch_id}`: did it arrive, and what became of its events?"""

    authentication_classes = SENDERS
    permission_classes = [MayIngest]
    operation = operations.BATCH

    def get(self, request: Request, batch_id: UUID) -> HttpResponse:
        batch = Batch.objects.claimed_by(granted(request).project_id, batch_id)
        if batch is None:
            return error_response(
                404, "unknown_batch", "No batch of this id was accepted in the last 31 days."
            )
        is_server = granted(request).scope == ApiKey.Scope.SECRET
        return json_response(batch.report if is_server else batch.report_to_client)


class PingView(APIView):
    """`GET /v1/ping`: is somebody there?"""

    authentication_classes = []
    operation = operations.PING

    def get(self, request: Request) -> HttpResponse:
        return json_response({"status": "ok"})


class InfoView(APIView):
    """`GET /v1/info`: what this server is and takes."""

    authentication_classes = []
    operation = operations.INFO

    def get(self, request: Request) -> HttpResponse:
        return json_response(
            {
                "name": "telemetry",
                "version": settings.VERSION,
                "api_versions": ["v1"],
                "formats": NAMES,
                "encodings": bodies.ENCODINGS,
                "limits": {
                    "wire_bytes": settings.MAX_WIRE_BYTES,
                    "body_bytes": settings.MAX_BODY_BYTES,
                    "otlp_wire_bytes": settings.MAX_OTLP_WIRE_BYTES,
                    "otlp_body_bytes": settings.MAX_OTLP_BODY_BYTES,
                    "otlp_items": MOST_ITEMS,
                    "batch_events": LIMITS.batch_events,
                    "event_bytes": LIMITS.event_bytes,
                    "depth": LIMITS.depth,
                    "name_length": LIMITS.name_length,
                    "structure": LIMITS.structure,
                    "age_days": settings.MAX_AGE_DAYS,
                },
            }
        )


def _idempotency_key(request: HttpRequest) -> UUID | None:
    value = headers.text(request, "Idempotency-Key")
    try:
        return UUID(value) if value else None
    except ValueError:
        raise MalformedBatch("invalid_batch_id", "Idempotency-Key must be a UUID") from None
