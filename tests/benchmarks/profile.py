"""Where the web process's time goes for one POST, in one process: microseconds of CPU by stage.

    .venv/bin/python -m tests.benchmarks.profile

The whole request runs as under granian, through the WSGI application, with each stage's function
wrapped: a stage is charged for its own CPU time, without that of the stages it calls. Waiting for
PostgreSQL is no CPU time of ours. What granian adds (HTTP, threads) shows in the benchmark as the
difference to the web group's time.
"""

import argparse
import importlib
import io
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from typing import Any

from tests.benchmarks import samples
from tests.harness import RAISED

# Stage, and where its function is looked up when a request comes: `module:attribute` or
# `module:attribute[key]`. What isn't there (any more) is left out.
STAGES = (
    ("authenticate", "rest_framework.views:APIView.initial"),
    ("limit", "ingest.ratelimits:Limiter.check"),
    ("decompress", "ingest.bodies:DECOMPRESSORS[gzip]"),
    ("decode, validate", "ingest.formats:FORMATS[events]"),
    ("scrub", "ingest.intake:scrub"),
    ("canonicalise, pseudonymise", "ingest.intake:_canonical"),
    ("digest", "ingest.intake:_digest"),
    ("pack", "ingest.intake:pack"),
    ("ledger insert (our side)", "ingest.intake:_execute"),
)
REST = "Django, DRF, the answer"
_ROUNDS = 5

Times = dict[str, float]


class Clock:
    """Charges each stage with the thread's CPU time while it is the innermost one."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._mark = 0.0

    def enter(self, stage: str) -> None:
        self._charge()
        self._stack.append(stage)

    def leave(self) -> None:
        self._charge()
        self._stack.pop()

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return wrapped

    def _charge(self) -> None:
        now = time.thread_time()
        if self._stack:
            self.spent[self._stack[-1]] += now - self._mark
        self._mark = now


def table(data_dir: str, key: str, requests: int = 400) -> dict[str, Times]:
    """Microseconds by stage of a batch of 100 and of a single event, measured in a new process.

    `data_dir` is the data folder of a service that runs: its database is written to.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.profile", "--json"),
            *("--key", key, "--requests", str(requests)),
        ],
        env={
            **os.environ,
            **RAISED,
            "TELEMETRY_DATA_DIR": data_dir,
            "PROMETHEUS_MULTIPROC_DIR": f"{data_dir}/metrics",
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    measured: dict[str, Times] = json.loads(done.stdout.splitlines()[-1])
    return measured


def lines(measured: dict[str, Times]) -> list[str]:
    """The table in Markdown."""
    rows = [
        f"| {stage} | {_cell(measured['100'], stage)} | {_cell(measured['1'], stage)} |"
        for stage in (*(stage for stage, _ in STAGES), REST)
    ]
    total = f"| all | {sum(measured['100'].values()):,.0f} | {sum(measured['1'].values()):,.0f} |"
    head = "| stage | µs a batch of 100 | µs a batch of one |"
    return [head, "| --- | ---: | ---: |", *rows, total]


def _cell(times: Times, stage: str) -> str:
    """A stage that wasn't found is part of the one that calls it."""
    return f"{times[stage]:,.0f}" if stage in times else "–"


def main() -> None:
    """Measure: against a service that runs (`--key`), or against one made for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--key", help="an ingest key of the service on TELEMETRY_DATA_DIR")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    measured = (
        _measure(arguments.key, arguments.requests)
        if arguments.key
        else _on_a_new_service(arguments.requests)
    )
    print(json.dumps(measured) if arguments.json else "\n".join(lines(measured)))


def _on_a_new_service(requests: int) -> dict[str, Times]:
    from tests.benchmarks.stacks import Ours

    with Ours() as ours:
        return table(str(ours.data_dir), ours.target.key, requests)


def _measure(key: str, requests: int) -> dict[str, Times]:
    os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
    from telemetry_site.wsgi import application

    importlib.import_module("ingest.views")
    clock = Clock()
    for stage, place in STAGES:
        _instrument(clock, stage, place)
    serve = clock.wrap(REST, application)
    return {str(size): _medians(clock, serve, key, size, requests) for size in (100, 1)}


def _medians(clock: Clock, serve: Callable[..., Any], key: str, size: int, requests: int) -> Times:
    rounds = [
        _round(clock, serve, key, samples.batches(requests, size, seed=time.time_ns()))
        for _ in range(_ROUNDS)
    ]
    return {
        stage: sorted(times.get(stage, 0.0) for times in rounds)[_ROUNDS // 2]
        for stage in rounds[0]
    }


def _round(clock: Clock, serve: Callable[..., Any], key: str, bodies: list[bytes]) -> Times:
    clock.spent.clear()
    for body in bodies:
        post(serve, key, body)
    return {stage: spent / len(bodies) * 1e6 for stage, spent in clock.spent.items()}


def post(serve: Callable[..., Any], key: str, body: bytes) -> None:
    """One batch through a WSGI application; AssertionError where it isn't accepted."""
    answer = serve(_environ(key, body), _started)
    b"".join(answer)
    answer.close()


def _started(status: str, headers: Any, error: Any = None) -> None:
    assert status.startswith("200"), status


def _environ(key: str, body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/v1/events",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "127.0.0.1",
        "HTTP_CONTENT_ENCODING": "gzip",
        "HTTP_X_API_KEY": key,
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
    }


def _instrument(clock: Clock, stage: str, place: str) -> None:
    """Put a clock around the function at `place`, where there is one."""
    module, _, path = place.partition(":")
    path, _, item = path.partition("[")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for step in owners:
        owner = getattr(owner, step, None)
    found = getattr(owner, name, None)
    if isinstance(found, MutableMapping):
        key = item.rstrip("]")
        if key in found:
            found[key] = clock.wrap(stage, found[key])
    elif found is not None:
        setattr(owner, name, clock.wrap(stage, found))


if __name__ == "__main__":
    main()
