"""Counting gives way to those who send: its processes, and PostgreSQL's that work for it."""

import os
from pathlib import Path

import psutil

from aggregation.tasks import roll_up_hours
from tests.harness import Service, wait_for

LEAST = 19


def weight(pid: int) -> int:
    """What its session weighs where Linux shares out time by sessions; the process, elsewhere."""
    session = Path(f"/proc/{pid}/autogroup")
    return int(session.read_text().split()[-1]) if session.exists() else os.getpriority(0, pid)


def backends(service: Service) -> list[int]:
    """Processes of PostgreSQL that work for the application."""
    with service.superuser() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'telemetry_app'"
        ).fetchall()
    return [pid for (pid,) in rows]


def give_way(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and weight(pid) == LEAST]


def children(service: Service, queue: str) -> list[int]:
    """The processes that run the tasks of a queue."""
    running: list[int] = wait_for(
        lambda: [process.pid for process in service.processes(queue)[1:]], 30, "its processes"
    )
    return running


def test_what_counts_and_its_backend_give_way(service: Service) -> None:
    roll_up_hours.apply_async(queue="rollup")
    wait_for(lambda: give_way(children(service, "rollup")), 60, "a worker that gives way")
    wait_for(lambda: give_way(backends(service)), 60, "a backend that gives way")


def test_nobody_else_gives_way_like_that(service: Service) -> None:
    web = [process.pid for process in service.processes("web")]
    assert web
    assert not give_way([*web, *children(service, "ingest")])
    assert len(give_way(backends(service))) < len(backends(service))
