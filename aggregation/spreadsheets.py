"""An answer as a file for spreadsheets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.http import HttpResponse

from aggregation.queries.answers import csv_text


def csv_response(name: str, body: Mapping[str, Any], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """Rows as CSV. What `body`, the same answer as JSON, says before the numbers is in its
    headers."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.csv"',
        "Telemetry-Complete-Until": body["complete_until"].isoformat(),
        "Telemetry-Clean-Until": body["clean_until"].isoformat(),
    }
    if "privacy" in body:
        words = "{epsilon:g} a day, {lifetime_epsilon:g} at most".format(**body["privacy"])
        headers["Telemetry-Epsilon"] = words
    if "withheld" in body:
        headers["Telemetry-Threshold"] = str(body["threshold"])
        headers["Telemetry-Withheld"] = "groups={groups}, cells={cells}".format(**body["withheld"])
    if body.get("next"):
        headers["Telemetry-Next"] = body["next"]
    return HttpResponse(csv_text(rows), content_type="text/csv; charset=utf-8", headers=headers)
