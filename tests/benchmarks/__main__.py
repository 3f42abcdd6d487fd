"""`make bench`: every figure, one after the other; prints a table and writes docs/benchmarks.md.

.venv/bin/python -m tests.benchmarks [--quick] [--only NAME] …
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks import (
    copying,
    erasing,
    errors,
    exports,
    forwarding,
    interference,
    latency,
    memory,
    pages,
    profile,
    queries,
    report,
    restricting,
    rollups,
    rules,
    scrubbing,
    throughput,
)
from tests.benchmarks.report import Line
from tests.benchmarks.samples import SNAPSHOT_FIELDS
from tests.benchmarks.stacks import Naive, Ours
from tests.collector.server import Collector

NO_LOAD_WARNING = " (the generator was late: machine too busy)"


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    runs: int = 3
    ours_batches: int = 3000
    naive_batches: int = 600
    ours_singles: int = 8000
    naive_singles: int = 3000
    latency_seconds: float = 20
    saturation_requests: int = 4000
    soak_seconds: float = 600
    soak_rate: float = 50
    backlog_batches: int = 10_000
    profile_requests: int = 500
    ledger_rows: int = 10_000_000
    restricting_batches: int = 500
    event_rows: tuple[int, ...] = (1_000_000, 10_000_000)
    export_events: int = 1_000_000
    rollup_events: tuple[int, ...] = (500_000, 5_000_000)
    turn_seconds: float = 10
    turns: int = 8


QUICK = Scale(
    runs=1,
    ours_batches=800,
    naive_batches=150,
    ours_singles=1500,
    naive_singles=600,
    latency_seconds=5,
    saturation_requests=1000,
    soak_seconds=20,
    backlog_batches=1000,
    profile_requests=100,
    ledger_rows=200_000,
    restricting_batches=100,
    event_rows=(200_000, 400_000),
    export_events=200_000,
    rollup_events=(200_000, 500_000),
    turn_seconds=5,
    turns=2,
)


@dataclass
class Results:
    """What has been found so far."""

    scale: Scale
    lines: list[Line] = field(default_factory=list)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    machine: str = ""

    def add(self, what: str, bar: str, figure: str, met: bool | None, runs: str = "") -> None:
        line = Line(what, bar, figure, met, runs)
        self.lines.append(line)
        say(f"{what}: {figure} (bar: {bar}) {line.verdict}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def throughput_and_copy(results: Results) -> None:
    """The service against the naive stack and against raw COPY, in events per CPU-second."""
    scale = results.scale
    found: dict[str, list[throughput.Run]] = {}
    copied: list[float] = []
    with Ours() as ours, Naive() as naive:
        with ours.superuser() as connection:
            results.machine = report.machine(connection)
        for stack in (ours, naive):
            throughput.run(stack, 100, 100, seed=1)  # warm up
        for number in range(scale.runs):
            # The same seeds for both: both get the same bodies.
            for stack, batches, singles in (
                (ours, scale.ours_batches, scale.ours_singles),
                (naive, scale.naive_batches, scale.naive_singles),
            ):
                for size, requests in ((100, batches), (1, singles)):
                    run = throughput.run(stack, requests, size, seed=1000 * size + number)
                    found.setdefault(f"{stack.title} {size}", []).append(run)
                    say(
                        f"{stack.title}, {size} a request: {run.per_cpu_second:,.0f} events per "
                        f"CPU-second ({run.accepted_a_second:,.0f} requests/s accepted, "
                        f"{run.events / run.seconds:,.0f} events/s stored)"
                    )
            copied.append(copying.run(ours, scale.ours_batches, 100, seed=number))
            say(f"raw COPY: {copied[-1]:,.0f} events per CPU-second")
    _compare(results, found, "batches of 100", 100, least=4)
    _compare(results, found, "one event a request", 1, least=3)
    share = median(
        run.per_cpu_second / copy for run, copy in zip(found["ours 100"], copied, strict=True)
    )
    results.add(
        "batches of 100 against raw COPY", "≥ 30 %", f"{share:.0%}", share >= 0.3, _runs(copied)
    )
    for what, runs in found.items():
        title, size = what.split()
        name = f"{title}, {'batches of 100' if size == '100' else 'one event a request'}"
        results.costs[name] = report.median_cost([run.cost for run in runs])


def _compare(
    results: Results, found: dict[str, list[throughput.Run]], what: str, size: int, least: float
) -> None:
    ours, naive = (
        [run.per_cpu_second for run in found[f"{title} {size}"]] for title in ("ours", "naive")
    )
    # Of the same round, between which the machine changes less.
    ratio = median(one / other for one, other in zip(ours, naive, strict=True))
    results.add(f"naive stack, {what}: events per CPU-second", "", f"{median(naive):,.0f}", None,
                _runs(naive))  # fmt: skip
    results.add(f"the service, {what}: events per CPU-second", f"≥ {least:g} × naive",
                f"{median(ours):,.0f} = {ratio:.1f} ×", ratio >= least, _runs(ours))  # fmt: skip


def _runs(values: list[float]) -> str:
    return " · ".join(f"{value:,.0f}" for value in values)


def latencies(results: Results) -> None:
    """Answers, and rows, at half the saturation rate: with Redis well, frozen and dead."""
    scale = results.scale
    with Ours() as ours:
        latency.saturation(ours, 200, 100, seed=5)  # warm up
        rate = latency.saturation(ours, scale.saturation_requests, 100, seed=6)
        results.add("saturation, batches of 100", "", f"{rate:,.0f} requests/s", None)
        well = [_latency(ours, rate / 2, scale.latency_seconds, seed) for seed in range(scale.runs)]
        _add_latency(results, f"accept at {rate / 2:,.0f} requests/s", well, 0.006, 0.050)
        stored = [found.stored_p99 or 0.0 for found in well]
        results.add("accepted → stored, p99", "≤ 1 s", f"{median(stored) * 1000:,.0f} ms",
                    median(stored) <= 1, _milliseconds(stored))  # fmt: skip
        frozen = []
        for seed in range(100, 100 + scale.runs):
            with latency.frozen_redis(ours):
                frozen.append(_latency(ours, rate / 2, scale.latency_seconds, seed, storing=False))
        _add_latency(results, "accept with Redis frozen", frozen, None, 0.100)
    with latency.ours_on_another_redis() as (ours, redis):
        latency.saturation(ours, 200, 100, seed=7)  # warm up
        redis.kill()
        dead = [
            _latency(ours, rate / 2, scale.latency_seconds, seed, storing=False)
            for seed in range(200, 200 + scale.runs)
        ]
        _add_latency(results, "accept with Redis dead", dead, None, 0.100)


def _latency(
    ours: Ours, rate: float, seconds: float, seed: int, *, storing: bool = True
) -> latency.Latency:
    found = latency.at_rate(ours, rate, seconds, 100, seed, storing=storing)
    say(
        f"p50 {found.p50 * 1000:.1f} ms, p99 {found.p99 * 1000:.1f} ms, slowest "
        f"{found.slowest * 1000:.0f} ms{'' if found.trustworthy else NO_LOAD_WARNING}"
    )
    return found


def _add_latency(
    results: Results, what: str, found: list[latency.Latency], p50: float | None, p99: float
) -> None:
    late = "" if all(one.trustworthy for one in found) else NO_LOAD_WARNING
    middle, tail = [one.p50 for one in found], [one.p99 for one in found]
    results.add(f"{what}, p50", f"≤ {p50 * 1000:g} ms" if p50 else "",
                f"{median(middle) * 1000:.1f} ms{late}",
                median(middle) <= p50 if p50 else None, _milliseconds(middle))  # fmt: skip
    results.add(f"{what}, p99", f"≤ {p99 * 1000:g} ms", f"{median(tail) * 1000:.1f} ms{late}",
                median(tail) <= p99, _milliseconds(tail))  # fmt: skip


def _milliseconds(values: list[float]) -> str:
    return " · ".join(f"{value * 1000:.1f}" for value in values)


def backlog(results: Results) -> None:
    """A backlog that piles up while no worker stores, and how it drains."""
    with Ours() as ours:
        throughput.run(ours, 100, 100, seed=8)  # warm up
        found = memory.backlog(ours, results.scale.backlog_batches, seed=9)
    largest = max(growth.largest for growth in found.growth)
    grown = max(growth.largest - growth.start for growth in found.growth)
    results.add(f"backlog of {found.events:,} events: worker's memory while it drains", "≤ 150 MB",
                f"{largest:.0f} MB (grew by {grown:.0f})", largest <= 150)  # fmt: skip
    results.add("backlog drains at", "", f"{found.drained_a_second:,.0f} events/s", None)
    results.costs["ours: accepting only"] = found.cost(found.accepting)
    results.costs["ours: storing only"] = found.cost(found.draining)


def soak(results: Results) -> None:
    """Memory of each process under a steady load."""
    scale = results.scale
    with Ours() as ours:
        throughput.run(ours, 300, 100, seed=10)  # warm up
        found = memory.soak(ours, scale.soak_seconds, scale.soak_rate, seed=11)
    name = f"memory, {scale.soak_seconds:g} s of {scale.soak_rate:g} batches/s"
    # A short soak is all warming up: nothing can be said about growth.
    judged = scale.soak_seconds >= 300
    for growth in found:
        flat = growth.largest <= 150 and growth.slope < 0.5
        results.add(
            f"{name}: {growth.name}",
            "≤ 150 MB, flat",
            f"{growth.start:.0f} → at most {growth.largest:.0f} MB, "
            f"{growth.slope:+.2f} MB a minute",
            flat if judged else None,
        )


# Path, what is counted, items a request, rows a request, least per CPU-second.
DIALECTS = (
    ("/v1/metrics", "points, batches of 100", 100, 100, 20_000),
    ("/api/telemetry/snapshot", "snapshots", 1, len(SNAPSHOT_FIELDS), 600),
    ("/otlp/v1/logs", "OTLP log records by protobuf, batches of 100", 100, 100, 10_000),
)


def dialects(results: Results) -> None:
    """Measurements, snapshots and OTLP's log records, in items per CPU-second."""
    scale = results.scale
    with Ours() as ours:
        for path, what, items, rows, least in DIALECTS:
            ours.aim(path)
            throughput.run(ours, 100, items, 12, rows)  # warm up
            requests = scale.ours_batches if items > 1 else scale.ours_singles
            runs = [
                throughput.run(ours, requests, items, 13 + number, rows)
                for number in range(scale.runs)
            ]
            found = [run.per_cpu_second for run in runs]
            results.add(f"{what}: per CPU-second", f"≥ {least:,}", f"{median(found):,.0f}",
                        median(found) >= least, _runs(found))  # fmt: skip
            results.costs[f"ours, {what}"] = report.median_cost([run.cost for run in runs])


def stages(results: Results) -> None:
    """The stages of one request, in one process; what limits and scrubbing take of it."""
    with Ours() as ours:
        measured = profile.table(
            str(ours.data_dir), ours.target.key, results.scale.profile_requests
        )
    results.stages = profile.lines(measured)
    print("\n".join(results.stages), flush=True)
    limit = max(times["limit"] for times in measured.values())
    results.add("all limits of a request, CPU", "≤ 300 µs", f"{limit:.0f} µs", limit <= 300)
    clean, full = scrubbing.clean(100) * 1e6, scrubbing.full(100) * 1e6
    results.add("scrubbing a clean batch of 100, CPU", "≤ 150 µs", f"{clean:.0f} µs", clean <= 150)
    results.add("scrubbing a batch of 100 in which every event hits, CPU", "≤ 3,000 µs",
                f"{full:,.0f} µs", full <= 3000)  # fmt: skip
    for name, own, most in (
        ("no privacy rules", [], 1),
        ("20 privacy rules that hit nothing", rules.MISSING, 400),
        ("20 privacy rules of which ten hit every event", rules.HITTING + rules.MISSING[:10], 2500),
    ):
        spent = rules.seconds(own, 100) * 1e6
        results.add(f"{name}, a batch of 100, CPU", f"≤ {most:,} µs", f"{spent:,.1f} µs",
                    spent <= most)  # fmt: skip


def restrictions(results: Results) -> None:
    """What it costs storing to leave out what persons don't let be stored."""
    more = restricting.percent(results.scale.restricting_batches)
    results.add("storing with suppression and consent checks, CPU", "≤ 5 % more", f"{more:.1f} %",
                more <= restricting.MOST_PERCENT)  # fmt: skip


def admin(results: Results) -> None:
    """The admin's pages of the ledger over ten million rows: in one day, and in a month."""
    rows = results.scale.ledger_rows
    for days, found in pages.run(rows):
        slowest = max(found, key=lambda look: look.slowest)
        name = f"{len(found)} pages and filters of the admin, {rows:,} batches in {days} days"
        results.add(f"{name}: the slowest", f"≤ {pages.MOST_MILLISECONDS} ms",
                    f"{slowest.slowest:,.0f} ms (`{slowest.page}`)",
                    slowest.slowest <= pages.MOST_MILLISECONDS)  # fmt: skip


def privacy(results: Results) -> None:
    """One person erased out of more and more events, while those of others are stored."""
    for found in erasing.run(list(results.scale.event_rows)):
        results.add(f"erasing {erasing.PERSON_EVENTS:,} events of {found.rows:,} while "
                    f"{found.batches} batches of 100 are stored", f"≤ {erasing.MOST_SECONDS} s",
                    f"{found.seconds:.1f} s", found.seconds <= erasing.MOST_SECONDS)  # fmt: skip


def export(results: Results) -> None:
    """One person's export: how fast, and how much memory, which doesn't grow with the events."""
    with Ours() as ours:
        for events, runs in ((100_000, results.scale.runs), (results.scale.export_events, 1)):
            found = exports.run(ours, events, runs)
            pace = [made.a_second for made in found]
            grown = max(made.grown for made in found)
            name = f"export of {events:,} events among {events * exports.SHARE:,}"
            results.add(f"{name}: from the request to the file", "≥ 50,000 events/s",
                        f"{median(pace):,.0f} events/s, {found[0].file_bytes / 2**20:.1f} MiB",
                        median(pace) >= 50_000, _runs(pace))  # fmt: skip
            results.add(f"{name}: growth of the worker", "≤ 30 MB", f"{grown:.1f} MB",
                        grown <= 30)  # fmt: skip


def numbers(results: Results) -> None:
    """Questions about numbers, over HTTP."""
    with Ours() as ours:
        for found in queries.run(ours):
            most = found.question.most
            results.add(found.question.what, f"≤ {most:g} ms", f"{found.median:.0f} ms",
                        found.median <= most, _runs(found.milliseconds[:3]))  # fmt: skip


def rolling_up(results: Results) -> None:
    """One hour of events rolled up, by five dimensions: CPU of all it takes, and memory."""
    with Ours() as ours:
        for events in results.scale.rollup_events:
            found = rollups.run(ours, events)
            name = (
                f"rolling up an hour of {events:,} events by {len(rollups.DIMENSIONS)} dimensions"
            )
            results.add(f"{name}: events per CPU-second", "≥ 150,000",
                        f"{found.per_cpu_second:,.0f} ({found.seconds:.1f} s)",
                        found.per_cpu_second >= 150_000)  # fmt: skip
            results.add(f"{name}: growth of the worker",
                        f"≤ {rollups.MOST_LATE:g} MB in the second half",
                        f"{found.grown:.1f} MB, {found.grown_late:.1f} of it in the second half",
                        found.grown_late <= rollups.MOST_LATE)  # fmt: skip


def rolling_up_meanwhile(results: Results) -> None:
    """Answers at half saturation, while an hour is counted and while nothing is."""
    scale = results.scale
    turns = []
    with Ours() as ours:
        latency.saturation(ours, 200, 100, seed=20)  # warm up
        rate = latency.saturation(ours, scale.saturation_requests, 100, seed=21) / 2
        for turn in interference.run(ours, rate, scale.turn_seconds, scale.turns):
            turns.append(turn)
            say(
                f"p99 {turn.paused.percentile(99) * 1000:.1f} ms, "
                f"{turn.running.percentile(99) * 1000:.1f} ms while {turn.counting:.1f} of "
                f"{scale.turn_seconds:g} s are spent on counting"
            )
    late = "" if all(turn.is_trustworthy for turn in turns) else NO_LOAD_WARNING
    paused = [turn.paused.percentile(99) for turn in turns]
    running = [turn.running.percentile(99) for turn in turns]
    name = f"accept at {rate:,.0f} requests/s"
    results.add(f"{name}, nothing rolled up, p99", "", f"{median(paused) * 1000:.1f} ms{late}",
                None, _milliseconds(paused))  # fmt: skip
    more = interference.ratio(turns) - 1
    results.add(f"{name}, {interference.EVENTS:,} events rolled up meanwhile, p99",
                "< 20 % more", f"{median(running) * 1000:.1f} ms = {more:+.0%}{late}", more < 0.2,
                _milliseconds(running))  # fmt: skip


def forwarding_to_a_collector(results: Results) -> None:
    """A collector: the CPU that forwarding to it takes, and answers while it is away."""
    _forwarding_cost(results)
    _collector_away(results)


def _forwarding_cost(results: Results) -> None:
    scale = results.scale
    with Collector() as collector, Ours() as alone, forwarding.Forwarding(collector) as sending:
        collector.keeps = False
        pairs = []
        for pair in forwarding.costs(alone, sending, scale.ours_batches, scale.runs):
            pairs.append(pair)
            say(f"{pair.forwarded.per_cpu_second:,.0f} events per CPU-second, {pair.more:+.0%} CPU")
    more = median(pair.more for pair in pairs)
    results.add("forwarding to a collector, batches of 100: CPU, against storing alone",
                f"≤ {forwarding.MOST_MORE:.0%} more", f"{more:+.0%}", more <= forwarding.MOST_MORE,
                " · ".join(f"{pair.more:+.0%}" for pair in pairs))  # fmt: skip
    results.costs["ours, forwarding, batches of 100"] = report.median_cost(
        [pair.forwarded.cost for pair in pairs]
    )


def _collector_away(results: Results) -> None:
    scale = results.scale
    turns = []
    with Collector() as collector, forwarding.Forwarding(collector) as ours:
        collector.keeps = False
        latency.saturation(ours, 200, 100, seed=40)  # warm up
        rate = latency.saturation(ours, scale.saturation_requests, 100, seed=41) / 2
        for turn in forwarding.outages(ours, collector, rate, scale.turn_seconds, scale.turns):
            turns.append(turn)
            say(
                f"p99 {turn.there.percentile(99) * 1000:.1f} ms, "
                f"{turn.away.percentile(99) * 1000:.1f} ms while the collector is away"
            )
    late = "" if all(turn.is_trustworthy for turn in turns) else NO_LOAD_WARNING
    there = [turn.there.percentile(99) for turn in turns]
    away = [turn.away.percentile(99) for turn in turns]
    name = f"accept at {rate:,.0f} requests/s"
    results.add(f"{name}, forwarding to a collector, p99", "",
                f"{median(there) * 1000:.1f} ms{late}", None, _milliseconds(there))  # fmt: skip
    more = forwarding.slower(turns)
    results.add(f"{name}, the collector away, p99", f"< {forwarding.MOST_SLOWER:.0%} more",
                f"{median(away) * 1000:.1f} ms = {more:+.0%}{late}",
                more < forwarding.MOST_SLOWER, _milliseconds(away))  # fmt: skip


def estimates(results: Results) -> None:
    """People and quantiles as they are estimated, against what they are."""
    of_people, of_quantiles = [*errors.people()], [*errors.quantiles()]
    results.errors = errors.tables(of_people, of_quantiles)
    print("\n".join(results.errors), flush=True)
    people = max(errors.spread(found) for one in of_people for found in (one.at_once, one.united))
    results.add("people: the largest root mean square of an estimate's error",
                f"≤ {errors.MOST_OF_PEOPLE:.0%}", f"{people:.2%}",
                people <= errors.MOST_OF_PEOPLE)  # fmt: skip
    quantile = max(abs(error) for one in of_quantiles for error in one.at_once + one.united)
    results.add("p50, p95, p99: the largest error", f"≤ {errors.MOST_OF_QUANTILES:.0%}",
                f"{quantile:.2%}", quantile <= errors.MOST_OF_QUANTILES)  # fmt: skip


PARTS: dict[str, Callable[[Results], None]] = {
    "throughput": throughput_and_copy,
    "latency": latencies,
    "dialects": dialects,
    "backlog": backlog,
    "stages": stages,
    "restrictions": restrictions,
    "admin": admin,
    "privacy": privacy,
    "export": export,
    "numbers": numbers,
    "rollups": rolling_up,
    "interference": rolling_up_meanwhile,
    "forwarding": forwarding_to_a_collector,
    "estimates": estimates,
    "soak": soak,
}


def page(results: Results) -> str:
    """docs/benchmarks.md."""
    return "\n\n".join(
        [
            report.HOW.rstrip(),
            f"Machine: {results.machine}",
            "## Figures",
            report.lines_table(results.lines),
            "## Where the CPU goes",
            report.cost_table(results.costs),
            "One request in one process (`python -m tests.benchmarks.profile`); waiting for "
            "PostgreSQL isn't in it, nor is what granian adds:",
            "\n".join(results.stages),
            "## What is estimated, against what it is",
            "\n".join(results.errors),
        ]
    )


def main() -> None:
    """Run all parts, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short runs; writes nothing")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; writes nothing")
    arguments = parser.parse_args()
    # Told to end it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = Results(QUICK if arguments.quick else Scale())
    for name in arguments.only or PARTS:
        say(f"--- {name}: {PARTS[name].__doc__}")
        PARTS[name](results)
    print(f"\n{report.lines_table(results.lines)}\n\n{report.cost_table(results.costs)}\n")
    if not (arguments.quick or arguments.only):
        report.PAGE.write_text(page(results) + "\n")
        say(f"written: {report.PAGE}")


if __name__ == "__main__":
    main()
