"""Stored points as OpenTelemetry's metrics (docs/otlp.md). Pure.

What a metric's form can't tell of its kind is in its metadata, which OpenTelemetry has for this.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_DELTA,
    Metric,
    NumberDataPoint,
    ScopeMetrics,
    SummaryDataPoint,
)

from ingest.forwarding.rendering import histograms
from ingest.forwarding.rendering.attributes import (
    PERSONAL,
    SDK_NAME,
    USER,
    describe,
    renamed,
    set_all,
    set_text,
)
from ingest.forwarding.rendering.rows import PointRow

# Its histograms' bounds are the samples themselves.
SCOPE = SDK_NAME
KIND = "client_telemetry.kind"

_decode = msgspec.json.Decoder().decode


class _Form(NamedTuple):
    """A form of OpenTelemetry's metrics: what a metric's data is called, the kind of point it
    stands for where nothing else is said, and what fills in a point of it."""

    field: str
    kind: str
    fill: Callable[[Any, PointRow], None]
    # Whether it says since when, and whether it is a delta or cumulative.
    has_start: bool = True
    has_temporality: bool = True


def metrics(project_slug: str, rows: Sequence[PointRow]) -> ExportMetricsServiceRequest:
    """The points of a project: a resource a node, a metric a name and form."""
    request = ExportMetricsServiceRequest()
    nodes: dict[str | None, ScopeMetrics] = {}
    known: dict[tuple[str | None, str, str, bool, _Form], Callable[[], Any]] = {}
    for row in rows:
        form = _form(row)
        key = (row.node, row.name, row.kind, row.cumulative, form)
        add = known.get(key)
        if add is None:
            scope = nodes.get(row.node)
            if scope is None:
                scope = nodes[row.node] = _scope(request, project_slug, row.node)
            add = known[key] = _metric(scope.metrics.add(), row, form)
        _fill(add(), row, form)
    return request


def _scope(
    request: ExportMetricsServiceRequest, project_slug: str, node: str | None
) -> ScopeMetrics:
    resource = request.resource_metrics.add()
    describe(resource.resource, project_slug, **{"instance.id": node})
    scope = resource.scope_metrics.add()
    scope.scope.name = SCOPE
    return scope


def _metric(metric: Metric, row: PointRow, form: _Form) -> Callable[[], Any]:
    """Begin a metric; what adds a point to it."""
    metric.name = row.name
    if row.kind != form.kind:
        set_text(metric.metadata.add, KIND, row.kind)
    data = getattr(metric, form.field)
    if form.has_temporality:
        data.aggregation_temporality = _TEMPORALITY[row.cumulative]
    if form.field == "sum":
        data.is_monotonic = True
    add: Callable[[], Any] = data.data_points.add
    return add


def _fill(point: Any, row: PointRow, form: _Form) -> None:
    point.time_unix_nano = row.occurred_at * 1000
    if form.has_start:
        _set_start(point, row)
    form.fill(point, row)
    add = point.attributes.add
    if row.subject is not None:
        set_text(add, USER, row.subject.hex())
    set_all(add, renamed(_decode(row.tags), PERSONAL))


def _set_start(point: Any, row: PointRow) -> None:
    """Say since when, as far as that is known."""
    if row.started_at is not None:
        point.start_time_unix_nano = row.started_at * 1000
    elif not row.cumulative:
        # The shortest time that it can have been: no two windows of a series overlap.
        point.start_time_unix_nano = (row.occurred_at - 1) * 1000


def _set_number(point: NumberDataPoint, row: PointRow) -> None:
    assert row.value is not None
    point.as_double = row.value


def _set_summary(point: SummaryDataPoint, row: PointRow) -> None:
    point.count = row.count or 0
    point.sum = row.sum or 0.0
    for quantile, value in ((0.0, row.min), (1.0, row.max)):
        if value is not None:
            point.quantile_values.add(quantile=quantile, value=value)


def _form(row: PointRow) -> _Form:
    if row.kind == "counter":
        return _SUM
    if row.kind == "histogram":
        if not row.samples:
            return _UNBUCKETED
        return _EXACT if histograms.is_exact(row.samples) else _EXPONENTIAL
    if row.kind == "summary":
        # A quantile must not be negative.
        return _UNBUCKETED if (row.min or 0.0) < 0 else _SUMMARY
    return _GAUGE


_SUM = _Form("sum", "counter", _set_number)
_GAUGE = _Form("gauge", "gauge", _set_number, has_start=False, has_temporality=False)
_EXACT = _Form("histogram", "histogram", histograms.set_exact)
_EXPONENTIAL = _Form("exponential_histogram", "histogram", histograms.set_exponential)
_UNBUCKETED = _Form("histogram", "histogram", histograms.set_unbucketed)
_SUMMARY = _Form("summary", "summary", _set_summary, has_temporality=False)
_TEMPORALITY = {False: AGGREGATION_TEMPORALITY_DELTA, True: AGGREGATION_TEMPORALITY_CUMULATIVE}
