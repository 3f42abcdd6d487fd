"""What looking up persons' restrictions costs storing: CPU of the worker's side and PostgreSQL's.

Batches of a hundred events of five persons wait; one process stores them, by turns with and without
the look-up, while a table of restricted persons is there whom none of them is.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

import psutil

from tests.benchmarks import samples
from tests.benchmarks.stacks import Ours
from tests.harness import RAISED

ROUNDS = 8
MOST_PERCENT = 5.0
RESTRICTED = """
INSERT INTO privacy_personrestriction (project_id, subject, suppressed, refused)
SELECT (SELECT min(id) FROM ingest_project), decode(md5(n::text), 'hex'), true, '{}'
FROM generate_series(1, 100000) AS n
"""


def percent(batches: int) -> float:
    """How much more CPU storing takes with the look-up, in percent: the median of the rounds."""
    with Ours() as ours, ours.database() as connection:
        connection.execute(RESTRICTED)
        workers = ours.processes("ingest")
        for process in workers:
            process.suspend()
        try:
            return _measured_elsewhere(ours, batches)
        finally:
            for process in workers:
                process.resume()


def _measured_elsewhere(ours: Ours, batches: int) -> float:
    """In a process that has the service's settings."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.restricting"),
            *("--key", ours.target.key, "--batches", str(batches)),
            *("--postgres", str(ours.parents["postgres"].pid)),
        ],
        env={**os.environ, **RAISED, "TELEMETRY_DATA_DIR": str(ours.data_dir)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, and print the percentage."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--key", required=True)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--postgres", type=int, required=True)
    arguments = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "telemetry_site.settings"
    serve = importlib.import_module("telemetry_site.wsgi").application
    storage = importlib.import_module("ingest.storage")
    postgres = psutil.Process(arguments.postgres)
    with_it, without = storage.restrictions.leave_out, lambda rows: (rows, {})
    ratios = []
    for number in range(ROUNDS + 1):
        spent = {}
        for name, look in (("with", with_it), ("without", without)):
            _accept(serve, arguments.key, arguments.batches)
            storage.restrictions.leave_out = look
            spent[name] = _storing(storage, postgres)
        if number:  # the first is for what is prepared once
            ratios.append(spent["with"] / spent["without"])
    print(json.dumps((sorted(ratios)[ROUNDS // 2] - 1) * 100))


def _accept(serve: Any, key: str, batches: int) -> None:
    from tests.benchmarks.profile import post

    for body in samples.batches(batches, 100, seed=time.time_ns()):
        post(serve, key, body)


def _storing(storage: Any, postgres: psutil.Process) -> float:
    """CPU seconds of storing all that waits, here and in PostgreSQL."""
    before = _used(postgres)
    storage.store_waiting(300.0, lambda: False)
    return _used(postgres) - before


def _used(postgres: psutil.Process) -> float:
    here = time.process_time()
    for process in [postgres, *postgres.children()]:
        times = process.cpu_times()
        here += times.user + times.system
    return here + postgres.cpu_times().children_user + postgres.cpu_times().children_system


if __name__ == "__main__":
    main()
