"""The worker that makes exports: killed, without Redis, failing; and persons erased meanwhile."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from privacy import drafts, exports
from privacy.export import Gathering
from privacy.models import AuditEntry, DeletionRequest, ExportRequest
from tests.faults.trial import frozen, kill, remains
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, batch, event, send
from tests.ingest.sending import settled as stored
from tests.ingest.traces import project_id
from tests.privacy.asking import about, ask, pseudonym, somebody, subject_token
from tests.privacy.exporting import LATER, export, fetched, rows, settled, standing_still, status


@contextmanager
def held() -> Iterator[None]:
    """No worker comes to the measurements: an export stops halfway."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE ingest_metricpoint IN ACCESS EXCLUSIVE MODE")
        yield


def with_events(service: Service, project: Project) -> str:
    """Somebody of whom three events are stored."""
    user = somebody()
    sent = batch(*[event(f"event {n}", user_id=user) for n in range(3)])
    assert stored(service, project, accepted(send(service, project, sent)))["stored"] == 3
    return user


# Should a nudge be lost, the schedule comes within a minute.
PATIENCE = 90


def asked(project: Project, user: str) -> ExportRequest:
    """A request that no worker is told of."""
    return exports.ask(project_id(project), pseudonym(project, user), "test")


def files() -> set[Path]:
    return set((settings.DATA_DIR / "exports").glob("*"))


@pytest.mark.parametrize("whole", [False, True], ids=["the child", "the whole worker"])
def test_a_worker_killed_halfway_leaves_nothing_and_the_next_begins_again(
    service: Service, project: Project, whole: bool
) -> None:
    user = with_events(service, project)
    before = files()
    with held():
        export_id = export(service, project, user, LATER).json["export_id"]
        row = ExportRequest.objects.filter(pk=export_id, state="running")
        wait_for(row.exists, PATIENCE, "a worker to begin")
        workers = service.processes("privacy")
        killed = workers if whole else workers[1:]
        kill(*killed)
        wait_for(lambda: not remains(killed), 20, "the worker to be dead")
        assert files() == before, "nothing half-written has a name"
    wait_for(lambda: service.processes("privacy")[1:], 60, "another worker")
    # Asking again asks for the same one, and tells the worker.
    assert export(service, project, user, LATER).json["export_id"] == export_id
    report = settled(service, project, export_id)
    assert (report["status"], report["events"]) == ("done", 3)
    assert len(fetched(report["download_url"])["events"]) == 3
    assert rows(project)[0].attempts >= 2
    assert len(files() - before) == 1


def test_without_redis_it_is_written_down_and_done_later(
    service: Service, project: Project
) -> None:
    user = with_events(service, project)
    with frozen(*service.processes("redis")):
        begun = time.monotonic()
        answer = export(service, project, user, {"Prefer": "wait=10"})
        assert time.monotonic() - begun < 5, "nobody was told: waiting would be in vain"
    assert (answer.status, answer.json["status"]) == (202, "waiting")
    export(service, project, user, LATER)
    assert settled(service, project, answer.json["export_id"])["status"] == "done"
    # Who comes next finds limits that hold.
    wait_for(lambda: "ratelimit" in status(service, project.secret_key, answer.json["export_id"])
             .headers, 30, "limits to be back")  # fmt: skip


def test_two_workers_make_an_export_once(service: Service, project: Project) -> None:
    with standing_still(service, "privacy"):
        request = asked(project, with_events(service, project))

        def work() -> None:
            exports.make_waiting(20)
            close_old_connections()
            connection.close()

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        request.refresh_from_db()
        assert (request.state, request.attempts) == ("done", 1)


def test_an_erasure_does_not_wait_for_an_export_that_takes_long(
    service: Service, project: Project
) -> None:
    gone = with_events(service, project)
    slow = asked(project, somebody())
    with transaction.atomic():
        ExportRequest.objects.select_for_update().get(pk=slow.pk)
        # More of them take no more processes.
        for _ in range(3):
            assert exports.nudge()
        wait_for(waits_for_a_lock, PATIENCE, "a worker to come to the export")
        bearer = subject_token(project, gone)
        asked_for = ask(service, "delete", bearer, {"user_id": gone, "grace_days": 0})
        token = asked_for.json["deletion_token"]
        wait_for(
            lambda: about(service, "status", token).json["status"] == "completed",
            30,
            "the erasure to be complete",
        )
    assert settled(service, project, str(slow.pk))["status"] == "done"


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query LIKE '%privacy_exportrequest%' AND pid <> pg_backend_pid())"
        )
        return bool(cursor.fetchone()[0])


def test_who_asks_while_exports_are_made_is_not_forgotten(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_still(service, "privacy"):
        first = asked(project, somebody())
        later: list[ExportRequest] = []
        make = exports._make

        def meanwhile(export: ExportRequest) -> None:
            if export.pk == first.pk:
                later.append(asked(project, somebody()))
            make(export)

        monkeypatch.setattr(exports, "_make", meanwhile)
        assert exports.make_waiting(20) is True
        assert exports.make_waiting(20) is False
        later[0].refresh_from_db()
        assert later[0].state == "done"


@pytest.fixture
def alone(service: Service) -> Iterator[None]:
    """The service's own worker makes nothing meanwhile."""
    with standing_still(service, "privacy"):
        yield


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_made_fails_after_five_attempts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> Iterator[bytes]:
        yield b"{"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Gathering, "pieces", broken)
    request = asked(project, somebody())
    before = files()
    for attempt in range(1, 7):
        exports.make_waiting(20)
        request.refresh_from_db()
        expected = "waiting" if attempt < exports.MOST_ATTEMPTS else "failed"
        assert (request.state, request.attempts) == (expected, min(attempt, 5))
    assert request.error == "It could not be made in 5 attempts (OSError)."
    assert request.expires_at is not None
    assert files() == before
    actions = AuditEntry.objects.filter(object=str(request.pk)).order_by("number")
    assert [entry.action for entry in actions] == ["export.asked", "export.failed"]
    ExportRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now())
    exports.expire()
    request.refresh_from_db()
    assert (request.state, request.subject) == ("failed", None)


@pytest.mark.usefixtures("alone")
def test_while_the_disk_is_nearly_full_exports_wait(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(project, somebody())
    before = files()
    with monkeypatch.context() as full:
        full.setattr("django.conf.settings.DISK_ALARM_BYTES", 2**60)
        exports.make_waiting(20)
    request.refresh_from_db()
    assert (request.state, request.attempts) == ("waiting", 0)
    assert files() == before
    exports.make_waiting(20)
    request.refresh_from_db()
    assert request.state == "done"


@pytest.mark.usefixtures("alone")
def test_an_export_that_would_fill_the_disk_is_stopped_and_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(project, somebody())
    before = files()
    given = []

    def without_end(_: Any) -> Iterator[bytes]:
        monkeypatch.setattr("django.conf.settings.DISK_ALARM_BYTES", 2**60)
        while True:
            given.append(1)
            yield b"x" * 1024**2

    with monkeypatch.context() as much:
        much.setattr(Gathering, "pieces", without_end)
        exports.make_waiting(20)
    monkeypatch.undo()
    request.refresh_from_db()
    assert (request.state, request.attempts, request.error) == ("waiting", 1, "NoRoom")
    assert len(given) == 1
    assert files() == before
    exports.make_waiting(20)
    request.refresh_from_db()
    assert (request.state, request.error) == ("done", "")


@pytest.mark.usefixtures("alone")
def test_a_draft_is_moved_to_its_place_and_not_copied(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.DATA_DIR / "exports").mkdir(mode=0o700, exist_ok=True)
    drafts_made: list[int] = []
    begin = drafts.begin

    def noted() -> IO[bytes]:
        draft = begin()
        drafts_made.append(os.fstat(draft.fileno()).st_ino)
        return draft

    monkeypatch.setattr(drafts, "begin", noted)
    request = asked(project, somebody())
    before = files()
    exports.make_waiting(20)
    (file,) = files() - before
    request.refresh_from_db()
    assert (request.state, file.name) == ("done", request.file)
    assert [file.stat().st_ino] == drafts_made
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("alone")
def test_an_export_at_which_workers_die_fails_and_its_leftover_goes(project: Project) -> None:
    request = asked(project, somebody())
    leftover = settings.DATA_DIR / "exports" / f"{request.pk.hex}.json.gz"
    leftover.parent.mkdir(mode=0o700, exist_ok=True)
    leftover.write_bytes(b"half of it")
    ExportRequest.objects.filter(pk=request.pk).update(
        state="running", attempts=5, file=leftover.name
    )
    exports.make_waiting(20)
    request.refresh_from_db()
    assert (request.state, request.error) == ("failed", "The worker died each time it was made.")
    assert not leftover.exists()


@pytest.mark.usefixtures("alone")
def test_a_person_erased_meanwhile_has_no_export(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(project, somebody())
    pieces = Gathering.pieces

    def erased_meanwhile(gathering: Gathering) -> Iterator[bytes]:
        yield from pieces(gathering)
        ExportRequest.objects.filter(pk=request.pk).delete()

    monkeypatch.setattr(Gathering, "pieces", erased_meanwhile)
    before = files()
    exports.make_waiting(20)
    assert files() == before
    assert not ExportRequest.objects.filter(pk=request.pk).exists()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("state", ["running", "failed"])
def test_while_a_person_is_erased_nothing_is_made(project: Project, state: str) -> None:
    user = somebody()
    now = timezone.now()
    deletion = DeletionRequest.objects.create(
        project_id=project_id(project), subject=pseudonym(project, user), state=state, due_at=now,
        started_at=now,
    )  # fmt: skip
    request = asked(project, user)
    exports.make_waiting(20)
    request.refresh_from_db()
    assert (request.state, request.attempts) == ("waiting", 0)
    deletion.delete()
    exports.make_waiting(20)
    request.refresh_from_db()
    assert request.state == "done"


@pytest.mark.usefixtures("alone")
def test_time_over_leaves_the_rest_for_another_task(project: Project) -> None:
    requests = [asked(project, somebody()) for _ in range(2)]
    assert exports.make_waiting(-1) is True
    assert exports.make_waiting(20) is False
    for request in requests:
        request.refresh_from_db()
        assert request.state == "done"
