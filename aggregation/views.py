"""Questions about numbers; the answers come from `queries`.

Each view does four things: authenticate, limit, decode, call one function.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from aggregation.queries import accounting, events, metrics, nodes, parameters
from aggregation.schema import operations
from aggregation.spreadsheets import csv_response
from ingest.authentication import MayQuery, granted
from ingest.endpoints import LimitedView
from telemetry_site.responses import json_response

DEFAULT_RANGE = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)


class QueryView(LimitedView):
    """A question about one project's numbers."""

    permission_classes = [MayQuery]
    rules = ("query.key",)


class AccountingView(QueryView):
    """`GET /v1/query/accounting?from&to`: what became of the events sent in that time, by format.

    `to` defaults to now and `from` to a day before it.
    """

    operation = operations.ACCOUNTING

    def get(self, request: Request) -> HttpResponse:
        end = _moment(request, "to") or timezone.now()
        start = _moment(request, "from") or end - min(DEFAULT_RANGE, end - EARLIEST)
        if start >= end:
            parameters.refuse("from", "must lie before to", "invalid_range")
        formats = accounting.by_format(granted(request).project_id, start, end)
        body = {"from": start, "to": end, "formats": formats}
        return json_response(body)


class EventsView(QueryView):
    """`GET /v1/query/events`: events, people and sessions over time."""

    operation = operations.EVENTS

    def get(self, request: Request) -> HttpResponse:
        question = parameters.events(request.query_params, granted(request).project_id)
        answer = events.over_time(question)
        return _answered(request, "events", answer.json, answer.table)


class DailyView(QueryView):
    """`GET /v1/query/daily`: events, users and bytes by day, the latest first."""

    operation = operations.DAILY

    def get(self, request: Request) -> HttpResponse:
        question = parameters.daily(request.query_params, granted(request).project_id)
        answer = events.daily(question)
        return _answered(request, "daily", answer.json, answer.table)


class MetricsView(QueryView):
    """`GET /v1/query/metrics`: a metric over time."""

    operation = operations.METRICS

    def get(self, request: Request) -> HttpResponse:
        question = parameters.metrics(request.query_params, granted(request).project_id)
        answer = metrics.over_time(question)
        return _answered(request, "metrics", answer.json, answer.table)


class NodesView(QueryView):
    """`GET /v1/query/nodes`: the latest snapshot of each node."""

    operation = operations.NODES

    def get(self, request: Request) -> HttpResponse:
        parameters.nodes(request.query_params)
        answer = nodes.latest(granted(request).project_id)
        return _answered(request, "nodes", answer.json, answer.table)


def _answered(
    request: Request, name: str, body: Mapping[str, Any], rows: Iterable[Sequence[Any]]
) -> HttpResponse:
    """An answer in the format that is asked for."""
    if not parameters.answers_csv(request.query_params):
        return json_response(body)
    return csv_response(name, body, rows)


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    return parameters.moment(name, text, ZoneInfo("UTC")) if text else None
