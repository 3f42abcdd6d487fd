"""What became of the events a project sent."""

from datetime import datetime
from typing import Any

from django.db.models import Sum

from ingest.models import OUTCOMES, Batch, LedgerSum
from telemetry_site.replica import reader

# Kept of each batch; what waits is the rest of what was received.
_SETTLED = ("stored", "duplicate", "rejected", "suppressed", "dead")


def by_format(project_id: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """What became of the events a project sent from `start` until before `end`, by format.

    Exempt: counts of outcomes, no person in them. The ledger's rows answer for the days it keeps,
    their hourly sums for those before; `received` is always the sum of the other counts.
    """
    totals: dict[str, dict[str, int]] = {}
    sums: Any = {name: Sum(name) for name in ("received", *_SETTLED)}
    using = reader()
    live = Batch.objects.using(using).filter(
        project_id=project_id, received_at__gte=start, received_at__lt=end
    )
    kept = LedgerSum.objects.using(using).filter(
        project_id=project_id, hour__gte=start, hour__lt=end
    )
    for rows in (live, kept):
        for row in rows.values("format").annotate(**sums):
            total = totals.setdefault(row["format"], dict.fromkeys(OUTCOMES, 0))
            for name in sums:
                total[name] += row[name]  # type: ignore[literal-required]
    for total in totals.values():
        total["waiting"] = total["received"] - sum(total[name] for name in _SETTLED)
    return [{"format": name, **total} for name, total in sorted(totals.items())]
