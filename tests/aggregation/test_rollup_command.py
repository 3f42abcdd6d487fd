"""`manage.py rollup`: everything of some time anew, or what is dirty, now."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from aggregation import rollups
from aggregation.models import Dimension, DirtyMark, EventDay, EventHour, EventMonth
from tests.aggregation.placing import DAY, sums
from tests.aggregation.rolling import event, hashed, hour, store
from tests.harness import ROOT, Project, Service, wait_for
from tests.ingest.sending import batch, send, settled
from tests.ingest.sending import event as sent
from tests.ingest.traces import project_id
from tests.ingest.waiting import storing


@pytest.fixture
def alone(service: Service) -> Iterator[None]:
    """The service's own worker doesn't see what is stored here."""
    with storing():
        yield


def rollup(*words: str) -> str:
    out = StringIO()
    call_command("rollup", *words, stdout=out)
    return out.getvalue()


def days(first: int, behind: int) -> list[str]:
    """`--from` and `--to`, so many days before today."""
    today = hour().date()
    return ["--from", f"{today - first * DAY}", "--to", f"{today - behind * DAY}"]


def test_what_is_dirty_is_made_at_once_whatever_was_made_before(
    project: Project, alone: None
) -> None:
    for count in (1, 2):
        store(project, event("a", hour(0), subject=hashed(count)))
        assert "Made 1 hours, 1 days, 1 months." in rollup("--project", project.project)
        for table in (EventHour, EventDay, EventMonth):
            assert sums(project, table)["", ""] == (count, count)
    assert not DirtyMark.objects.filter(project_id=project_id(project)).exists()


def test_a_time_is_made_anew_with_what_is_declared_now(project: Project, alone: None) -> None:
    store(project, event("a", hour(72), client_version="1"), event("a", hour(30)))
    rollup("--project", project.project)
    Dimension.objects.create(project_id=project_id(project), name="version", path="client_version")
    told = rollup(*days(4, 2), "--project", project.project)
    assert "hours        1 of 1" in told
    assert sums(project)["version", "1"] == (1, 0)
    assert ("version", "(none)") not in sums(project), "it is behind the last day"
    assert sums(project, EventMonth)["version", "1"] == (1, 0)


def test_hours_of_which_nothing_is_left_are_emptied(project: Project, alone: None) -> None:
    store(project, event("a", hour(30)))
    rollup("--project", project.project)
    EventHour.objects.filter(project_id=project_id(project)).update(count=7)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ingest_event WHERE project_id = %s", [project_id(project)])
    rollup(*days(2, 0), "--project", project.project)
    assert sums(project) == sums(project, EventDay) == {}


WRONG = [
    (["--from", "2026-11-01"], "both --from and --to"),
    (["--to", "2026-11-01"], "both --from and --to"),
    (["--from", "2026-11-02", "--to", "2026-11-02"], "--from must lie before --to"),
    (["--from", "2026-11-1x", "--to", "2026-11-02"], "is no day such as"),
    (["--project", "no-such"], "There is no project 'no-such'."),
    (["--from", "0001-01-01", "--to", "0001-01-02"], "There is nothing from 0001-01-01"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_what_is_wrong_is_said(service: Service, words: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        rollup(*words)


def test_it_runs_beside_the_worker(service: Service, project: Project) -> None:
    answer = send(service, project, batch(sent(), sent()))
    settled(service, project, answer.json["batch_id"])
    told = service.manage("rollup", "--project", project.project)
    assert told.splitlines()[-1].startswith("Made ")
    assert sums(project, EventMonth)["", ""][0] == 2
    today = f"{hour(0).date()}", f"{hour(0).date() + DAY}"
    service.manage("rollup", "--from", today[0], "--to", today[1], "--project", project.project)
    assert sums(project)["", ""][0] == 2


def test_a_bucket_that_another_worker_makes_is_waited_for(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = send(service, project, batch(sent()))
    settled(service, project, answer.json["batch_id"])
    begun, finish = threading.Event(), threading.Event()
    from_raw: Any = rollups.FROM_RAW["events"]

    def slow(bucket: Any) -> Any:
        begun.set()
        assert finish.wait(30)
        return from_raw(bucket)

    def other() -> None:
        try:
            rollup(*days(0, -1), "--project", project.project)
        finally:
            connections.close_all()

    monkeypatch.setitem(rollups.FROM_RAW, "events", slow)
    first = threading.Thread(target=other)
    first.start()
    assert begun.wait(30)
    second = threading.Thread(target=other)
    second.start()
    finish.set()
    first.join(30)
    second.join(30)
    assert not first.is_alive()
    assert not second.is_alive()
    assert sums(project)["", ""][0] == 1


def test_ctrl_c_leaves_the_rest_dirty(service: Service, project: Project) -> None:
    """Held up at its first bucket by somebody who has that locked."""
    answer = send(service, project, batch(sent()))
    settled(service, project, answer.json["batch_id"])
    pk = project_id(project)
    rollup("--project", project.project)
    with service.database() as holder, holder.transaction():
        holder.execute("SELECT FROM aggregation_build WHERE project_id = %s FOR UPDATE", [pk])
        command = subprocess.Popen(
            [sys.executable, "manage.py", "rollup", *days(0, -1), "--project", project.project],
            cwd=ROOT, env=service.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Whoever runs the tests in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        wait_for(lambda: _waits(service), 30, "the command to wait for the row")
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=30)
        assert command.returncode == 130
        assert (
            said.strip() == "CommandError: Stopped. What isn't made stays dirty: a worker makes it."
        )
        assert DirtyMark.objects.filter(project_id=pk, level=0).exists()
    rollup("--project", project.project)
    assert sums(project)["", ""][0] == 1


def _waits(service: Service) -> bool:
    with service.database() as connection:
        return bool(
            connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query LIKE '%aggregation_build%' AND pid <> pg_backend_pid()"
            ).fetchone()[0]  # type: ignore[index]
        )
