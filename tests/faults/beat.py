"""Faults of beat, which sends out the schedules: killed, and running twice."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.faults.reckoning import drained, value
from tests.faults.trial import Outcome, Trial, broker, frozen, kill, replaced
from tests.harness import ROOT, Service

SWEEP_SECONDS = 10  # from one sweep of the ledger to the next
HOLDER = "SELECT holder FROM telemetry_site_lease WHERE name = 'beat' AND until > now()"
# Renewed by each run of the worker's task. Where nothing is sent, only beat makes it run.
WORKED = "SELECT until FROM telemetry_site_lease WHERE name = 'ingest worker'"


def beat_killed(service: Service, times: int) -> Outcome:
    """kill -9 of beat: `up` starts another, which goes on once the dead one's lease is over."""
    trial = Trial(service, "beat killed")
    for _ in range(times):
        beat = service.processes("beat")[0]
        trial.wait(lambda pid=beat.pid: _leads(service, pid), "beat to hold the lease")
        with trial.recovery():
            with trial.load, trial.fault():
                kill(beat)
                trial.wait(lambda old=beat: replaced(service, "beat", old), "another beat")
                trial.under_load()
            drained(service)
            successor = service.processes("beat")[0].pid
            trial.wait(lambda pid=successor: _leads(service, pid), "the next beat to lead")
            _schedules_go_on(trial)
    return trial.outcome(times, "until the next one sends schedules")


def _schedules_go_on(trial: Trial) -> None:
    """Wait for the worker to run a task where nothing is sent."""
    last = value(trial.service, WORKED)
    trial.wait(lambda: value(trial.service, WORKED) > last, "schedules to go on")


def beat_twice(service: Service, seconds: int) -> Outcome:
    """Two beats, as on two machines: one sends schedules, and the other when the first one dies."""
    trial = Trial(service, "two beats")
    first = service.processes("beat")[0]
    trial.wait(lambda: _leads(service, first.pid), "beat to hold the lease")
    with _second_beat(service) as second:
        sweeps = _sweeps(service, seconds)
        assert second.poll() is None, "the second beat ended"
        assert _leads(service, first.pid), "the second beat took over from a living one"
        assert sweeps <= 1 + seconds / SWEEP_SECONDS, f"{sweeps} sweeps in {seconds} s: both run"
        with trial.recovery():
            with trial.load, trial.fault():
                kill(first)
                trial.wait(lambda: _another_leads(service, first.pid), "another beat to lead")
            drained(service)
            _schedules_go_on(trial)
        assert replaced(service, "beat", first), "up started no other beat"
    return trial.outcome(1, f"{seconds} s together: {sweeps} sweeps, from one of them")


def _sweeps(service: Service, seconds: float) -> int:
    """The sweeps that are sent in so much time, counted in the queue of a worker that hangs.

    One more may have gone straight to that worker.
    """
    drained(service)
    with frozen(*service.processes("ingest")), broker(service) as client:
        before = client.llen("ingest")
        time.sleep(seconds)
        return int(client.llen("ingest")) - int(before)


@contextlib.contextmanager
def _second_beat(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "--quiet", "-A", "telemetry_site", "beat", "--pidfile="],
        cwd=ROOT,
        env={**service.environment, "DJANGO_SETTINGS_MODULE": "telemetry_site.settings"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def _another_leads(service: Service, pid: int) -> bool:
    return value(service, HOLDER) not in (None, _name(pid))


def _leads(service: Service, pid: int) -> bool:
    return bool(value(service, HOLDER) == _name(pid))


def _name(pid: int) -> str:
    return f"{os.uname().nodename}:{pid}"
