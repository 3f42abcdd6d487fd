"""Questions about numbers; the answers come from `queries`."""

from datetime import UTC, datetime, timedelta

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from aggregation import queries, schema
from ingest.authentication import MayQuery, granted
from ingest.endpoints import LimitedView
from telemetry_site.responses import json_response

DEFAULT_RANGE = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)


class AccountingView(LimitedView):
    """`GET /v1/query/accounting?from&to`: what became of the events sent in that time, by format.

    Times are RFC 3339; `to` defaults to now and `from` to a day before it.
    """

    permission_classes = [MayQuery]
    rules = ("query.key",)
    operation = schema.ACCOUNTING

    def get(self, request: Request) -> HttpResponse:
        end = _moment(request, "to") or timezone.now()
        start = _moment(request, "from") or end - min(DEFAULT_RANGE, end - EARLIEST)
        if start >= end:
            raise ValidationError("from must lie before to", code="invalid_range")
        formats = queries.accounting(granted(request).project_id, start, end)
        body = {"from": start, "to": end, "formats": formats}
        return json_response(body)


def _moment(request: Request, parameter: str) -> datetime | None:
    text = request.query_params.get(parameter)
    if not text:
        return None
    try:
        # In a query string a plus sign that isn't escaped arrives as a blank.
        moment = msgspec.convert(text.replace(" ", "+"), datetime)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise ValidationError(
            f"{parameter} must be a time such as 2026-11-20T10:30:00Z (RFC 3339)",
            code="invalid_timestamp",
        ) from None
