"""OpenTelemetry's endpoints: `/otlp/v1/logs` and `/otlp/v1/metrics`; traces are refused.

A request becomes as many batches as it takes, in order. Each is durable before the next is begun,
and has its content for a name: where the database goes away in the middle, the exporter sends all
of it again, and what was accepted is a duplicate.
"""

from dataclasses import dataclass, field, replace

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from rest_framework.request import Request

from ingest import bodies, intake
from ingest.authentication import SENDERS, MayIngest
from ingest.endpoints import LimitedView, SenderView, envelope_of, room_for
from ingest.formats import OTLP_FORMATS
from ingest.formats.otlp.frames import JSON, PROTOBUF
from ingest.forwarding.via import check_is_not_ours
from ingest.otlp import answers
from ingest.records import DecodedBatch, Rejection
from ingest.schema import otlp as operations
from telemetry_site.errors import error_response

BOUNDS = bodies.Bounds(
    settings.MAX_OTLP_WIRE_BYTES,
    settings.MAX_OTLP_BODY_BYTES,
    frozenset({PROTOBUF, JSON}),
    f"{PROTOBUF} or {JSON}",
)


@dataclass
class _Outcome:
    """What became of the items of a request so far: rejections by their places in it."""

    accepted: int = 0
    rejections: list[tuple[int, Rejection]] = field(default_factory=list)

    @property
    def received(self) -> int:
        return self.accepted + len(self.rejections)

    def add(self, accepted: int, rejections: list[Rejection]) -> None:
        before = self.received
        self.rejections += [(before + rejection.index, rejection) for rejection in rejections]
        self.accepted += accepted


class OtlpView(SenderView):
    """Takes one signal. Users are optional, and no limit counts by what is in the body."""

    rules = ("otlp.key",)
    items: str
    # What answers, and which field of it counts what was rejected.
    reply: type[ExportLogsServiceResponse | ExportMetricsServiceResponse]
    rejected: str

    def take(self, request: HttpRequest, arrival: intake.Arrival) -> HttpResponse:
        check_is_not_ours(request)
        body = bodies.read(request, BOUNDS)
        arrival.wire_bytes, arrival.body_bytes = body.wire_bytes, len(body.content)
        envelope = envelope_of(request, arrival)
        outcome = _Outcome()
        decode = OTLP_FORMATS[self.format]
        with room_for(body):
            for decoded in decode(body.content, answers.encoding_of(request), envelope):
                outcome.add(*_accept(decoded, _part_of(arrival, decoded)))
        if outcome.rejections and not outcome.accepted:
            return self._refused(outcome)
        return answers.taken(request, self.answer(outcome))

    def _refused(self, outcome: _Outcome) -> HttpResponse:
        """400, as the specification wants it for what is invalid and will be so again: nothing was
        taken, so that it is no partial success."""
        first = outcome.rejections[0][1]
        return error_response(
            400,
            first.code,
            answers.reasons(outcome.rejections, self.items, outcome.received),
            [problem.report | {"index": place} for place, problem in outcome.rejections],
        )

    def answer(self, outcome: _Outcome) -> Message:
        """What the exporter of an accepted request is told."""
        answer = self.reply()
        if outcome.rejections:
            partly = answer.partial_success
            setattr(partly, self.rejected, len(outcome.rejections))
            partly.error_message = answers.reasons(outcome.rejections, self.items, outcome.received)
        return answer


def _accept(decoded: DecodedBatch, arrival: intake.Arrival) -> tuple[int, list[Rejection]]:
    """How many of a batch are durable now, and why the others are not taken."""
    try:
        receipt = intake.accept(decoded, arrival)
    except intake.AllRejected as refused:
        intake.refuse(arrival, refused.rejections[0].code, refused.rejections)
        return 0, refused.rejections
    return receipt.accepted, receipt.rejections


def _part_of(arrival: intake.Arrival, decoded: DecodedBatch) -> intake.Arrival:
    """The arrival of one batch of a request: it has its share of the bytes that were sent."""
    own = decoded.body_bytes or 0
    # With its resource in each event it may be larger than the request.
    share = min(own, arrival.body_bytes) / max(1, arrival.body_bytes)
    return replace(arrival, wire_bytes=int(arrival.wire_bytes * share), body_bytes=own)


class LogsView(OtlpView):
    """`POST /otlp/v1/logs`: log records."""

    format = "otlp_logs"
    items = "log_records"
    reply = ExportLogsServiceResponse
    rejected = "rejected_log_records"
    operation = operations.LOGS


class MetricsView(OtlpView):
    """`POST /otlp/v1/metrics`: data points."""

    format = "otlp_metrics"
    items = "data_points"
    reply = ExportMetricsServiceResponse
    rejected = "rejected_data_points"
    operation = operations.METRICS


class TracesView(LimitedView):
    """`POST /otlp/v1/traces`: not taken."""

    authentication_classes = SENDERS
    permission_classes = [MayIngest]
    rules = ("otlp.key",)
    operation = operations.TRACES

    def post(self, request: Request) -> HttpResponse:
        return error_response(
            501,
            "traces_not_taken",
            "This server takes logs and metrics. Configure no exporter of traces to it.",
        )
