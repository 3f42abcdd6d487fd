"""What the demo tells: where each event ended, by the answers and by the accounting, and what is
counted of them. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from telemetry_site.demo.sending import Answered

# What a client's events are called in the ledger.
FORMATS = {
    "plug-ins": "events",
    "tools": "submit",
    "pages": "client_telemetry",
    "metrics": "metrics",
    "snapshots": "snapshot",
}
COLUMNS = (
    "batches", "events", "limited", "refused", "received", "stored", "duplicate", "rejected",
    "dead",
)  # fmt: skip
# What the accounting knows of; limited and refused ones never reached the ledger.
KEPT = ("received", "stored", "duplicate", "rejected", "dead")


def told(answers: Iterable[Answered]) -> dict[str, Counter[str]]:
    """Client -> counts, as the answers tell: what was accepted counts as stored."""
    counts: dict[str, Counter[str]] = {client: Counter() for client in FORMATS}
    for answer in answers:
        row = counts[answer.sending.client]
        row.update(batches=1, events=answer.sending.events)
        row.update(_outcomes(answer))
    return counts


def _outcomes(answer: Answered) -> dict[str, int]:
    events = answer.sending.events
    if answer.status == 429:
        return {"limited": events}
    if answer.status == 400:
        return {"received": events, "rejected": events}
    if answer.status == 204:
        return {"received": events, "stored": events}
    if answer.status != 200:
        return {"refused": events}
    accepted, rejected = answer.body["accepted"], answer.body["rejected"]
    settled = "duplicate" if answer.body.get("duplicate") else "stored"
    return {"received": accepted + rejected, settled: accepted, "rejected": rejected}


def accounted(accounting: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Client -> counts, as the service's accounting has them."""
    by_format = {row["format"]: row for row in accounting["formats"]}
    return {
        client: Counter({name: by_format.get(format, {}).get(name, 0) for name in KEPT})
        for client, format in FORMATS.items()
    }


def differences(
    answers: Mapping[str, Counter[str]], accounting: Mapping[str, Counter[str]]
) -> list[str]:
    """A sentence for each count in which the two don't agree. Who is answered knows of no death."""
    settled = {
        client: {**row, "stored": row["stored"] + row["dead"], "dead": 0}
        for client, row in accounting.items()
    }
    return [
        f"{client}, {name}: {answers[client][name]} told, {row[name]} kept"
        for client, row in settled.items()
        for name in KEPT
        if row[name] != answers[client][name]
    ]


def table(answers: Mapping[str, Counter[str]], accounting: Mapping[str, Counter[str]]) -> list[str]:
    """The lines of the table: one a client, and their sum."""
    rows = {client: Counter({**answers[client], **accounting[client]}) for client in FORMATS}
    rows["all"] = sum(rows.values(), Counter())
    head = f"{'client':<10}" + "".join(f"{name:>10}" for name in COLUMNS)
    lines = [
        f"{client:<10}" + "".join(f"{row[name]:>10,}" for name in COLUMNS)
        for client, row in rows.items()
    ]
    return [head, "-" * len(head), *lines[:-1], "-" * len(head), lines[-1]]


def days(daily: Mapping[str, Any]) -> list[str]:
    """The lines of a table of days, as `/v1/query/daily` has them."""
    rows = daily["days"]
    lines = _lined(
        list(rows[0]), [[_shown(value, "withheld") for value in row.values()] for row in rows]
    )
    if not daily["withheld"]["cells"]:
        return lines
    return [
        *lines,
        f"Withheld: a day of fewer than {daily['threshold']} people, and what would give it away.",
    ]


def nodes(latest: Mapping[str, Any]) -> list[str]:
    """The lines of a table of nodes, as `/v1/query/nodes` has them."""
    rows = latest["nodes"]
    fields = sorted({name for row in rows for name in row["fields"]})
    return _lined(
        ["node_id", "time", *fields],
        [
            [
                row["node_id"],
                f"{datetime.fromisoformat(row['timestamp']):%H:%M:%S}",
                *(_shown(row["fields"].get(name), "-") for name in fields),
            ]
            for row in rows
        ],
    )


def _shown(value: Any, missing: str) -> str:
    if value is None:
        return missing
    return value if isinstance(value, str) else f"{value:,}"


def _lined(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under their head; the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in (head, *rows)
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
