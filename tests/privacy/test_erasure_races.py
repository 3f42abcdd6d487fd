"""Erasure against what happens at the same time: storing, deaths, cancelling, failures, replays.

Some run it step by step in a transaction of this process, which the service's worker doesn't see.
"""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from ingest import erasing, storage
from ingest.models import Batch, Event
from ingest.partitions import EVENTS
from ingest.payloads import unpack
from ingest.records import StoredPoint, microseconds
from privacy import deletions, erasure, restrictions
from privacy.models import AuditEntry, DeletionRequest, PersonRestriction
from privacy.register import STORES
from privacy.tasks import erase_from_the_dead
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.ingest.traces import project_id
from tests.ingest.waiting import plant, record, reread, store_all, storing
from tests.privacy.asking import about, ask, pseudonym, somebody
from tests.privacy.erasing import (
    due_now,
    erased,
    events,
    person,
    request_of,
    run,
    tombstone,
)
from tests.privacy.erasing import settled as settled_request
from tests.telemetry_site.scraping import scrape

pytestmark = pytest.mark.usefixtures("none_late")

OWN, SHARED, WAITING = (bytes([number]) * 16 for number in (1, 2, 3))


def nothing(table: str, rows: int) -> None:
    """Notes nothing of what is erased."""


def a_point(subject: bytes, part: int = 0) -> StoredPoint:
    nothing_more = [None] * 5
    return StoredPoint(
        0, part, microseconds(timezone.now()), "p", "gauge", subject, None, b"{}", False, 1.0,
        *nothing_more,
    )  # fmt: skip


def records_of(project: Project, *subjects: bytes | None, **fields: Any) -> list[Any]:
    return [record(n, subject=subject, **fields) for n, subject in enumerate(subjects)]


def sums_up(one: Batch) -> bool:
    """Whether what the ledger says waits, or is dead, is what its payload holds."""
    records = unpack(bytes(one.payload)) if one.payload else []
    left = one.dead if one.state == "dead" else one.waiting
    return left == len({found.position for found in records}) and one.waiting >= 0


# --- races with storing ---


def test_what_is_being_stored_when_it_begins_is_erased_too(
    service: Service, project: Project
) -> None:
    user = somebody()
    whom = person(project, user)
    with service.database() as storer, storer.transaction():
        # As storing does it: the lock, the look at the restrictions, the rows.
        storer.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", [0x73746F72, whom.project_id])
        token = ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": 0}).json[
            "deletion_token"
        ]
        storer.execute(
            "INSERT INTO ingest_event (project_id, occurred_at, batch_id, position, subject, name,"
            " category, properties) VALUES (%s, now(), gen_random_uuid(), 0, %s, 'late', '', '{}')",
            [whom.project_id, whom.subject],
        )
        wait_for(lambda: _waits_for_storing(service), 30, "the erasure to wait for the storer")
        assert about(service, "status", token).json["status"] == "running"
    told = settled_request(service, token)
    assert told["receipt"]["erased"] == {"ingest_event": 1}
    assert events(project, user) == []


def _waits_for_storing(service: Service) -> bool:
    query = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND NOT granted"
    with service.database() as connection:
        return bool(connection.execute(query, [0x73746F72]).rowcount)


def test_batches_that_come_while_it_runs_bring_nobody_back(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()

    def one(_: int) -> Any:
        return accepted(send(service, project, batch(event(user_id=user), event(user_id=other))))

    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(one, n) for n in range(60)]
        sent[20].result()
        assert erased(service, project, user)["status"] == "completed"
        reports = [settled(service, project, each.result()) for each in sent]
    assert events(project, user) == []
    assert len(events(project, other)) == 60
    assert {report["waiting"] for report in reports} == {0}


@pytest.mark.parametrize("of", ["one of two", "all of it"])
def test_dead_batch_is_replayed_without_the_person(
    service: Service, project: Project, of: str
) -> None:
    user, other = somebody(), somebody()
    subjects = [pseudonym(project, user)] + [pseudonym(project, other)] * (of == "one of two")
    dead = plant(project, records_of(project, *subjects), state="dead", dead=len(subjects))
    assert erased(service, project, user)["receipt"]["erased"] == {"ingest_batch": 1}
    reread(dead)
    assert sums_up(dead)
    assert dead.suppressed == 1
    assert (dead.state, dead.payload is None) == (
        ("dead", False) if of == "one of two" else ("stored", True)
    )
    with transaction.atomic():
        storage.replay([(dead.day, dead.pk)])
    wait_for(lambda: _is_stored(dead), 30, "the replayed batch to be stored")
    assert (dead.stored, dead.suppressed, dead.dead) == (len(subjects) - 1, 1, 0)
    assert (events(project, user), len(events(project, other))) == ([], len(subjects) - 1)


@pytest.mark.parametrize("asked", ["erased", "still to be erased"])
def test_who_is_erased_is_taken_out_of_what_workers_died_at_since(
    project: Project, asked: str
) -> None:
    user, other = somebody(), pseudonym(project, somebody())
    whom = person(project, user)
    with storing():
        request = request_of(project, user)
        if asked == "erased":
            assert run(request).state == "completed"
        content = records_of(project, whom.subject, other, whom.subject)
        deadly = plant(project, content, state="dead", attempts=3, dead=3)
        erase_from_the_dead()
        reread(deadly)
        left = [found.subject for found in unpack(bytes(deadly.payload))]
        # Who isn't erased yet may still think better of it.
        both = [whom.subject, other, whom.subject]
        expected = ([other], 2, 1) if asked == "erased" else (both, 0, 3)
        assert (left, deadly.suppressed, deadly.dead) == expected
        assert sums_up(deadly)


def test_session_of_who_is_erased_is_told_by_the_batch_it_is_in(project: Project) -> None:
    whom = person(project, somebody())
    with storing():
        restrictions.suppress(whom.project_id, whom.subject)
        theirs = plant(project, records_of(project, whom.subject, None, session=OWN))
        nobodys = plant(project, records_of(project, None, session=OWN))
        store_all(theirs, nobodys)
        assert (theirs.stored, theirs.suppressed) == (0, 2)
        assert (nobodys.stored, nobodys.suppressed) == (1, 0)


def test_what_came_before_opting_in_again_is_not_stored_after_it(project: Project) -> None:
    whom = person(project, somebody())
    with storing():
        restrictions.suppress(whom.project_id, whom.subject)
        before = plant(project, records_of(project, whom.subject))
        restrictions.consent(whom.project_id, whom.subject, {"application": True})
        after = plant(project, records_of(project, whom.subject))
        store_all(before, after)
        assert (before.stored, before.suppressed) == (0, 1)
        assert (after.stored, after.suppressed) == (1, 0)


def test_what_is_stored_between_two_steps_is_erased_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whom = person(project, somebody())
    erase = erasing._erase
    with storing():
        store_all(plant(project, records_of(project, whom.subject, session=OWN)))
        waiting = plant(project, records_of(project, None, session=OWN))

        def erase_and_store(*arguments: Any) -> Iterator[None]:
            yield from erase(*arguments)
            store_all(waiting)

        monkeypatch.setattr(erasing, "_erase", erase_and_store)
        list(erasing.erase_records(whom, nothing))
        assert not Event.objects.filter(project_id=whom.project_id).exists()


def test_looking_for_too_long_says_what_to_do(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: Any) -> Any:
        raise SoftTimeLimitExceeded

    with storing():
        request = request_of(project, somebody())
        monkeypatch.setattr(erasing, "unpack", too_long)
        plant(project, [record()])
        assert run(request).state == "failed"
        assert "discard the dead batches: Dead set in the admin" in request.error


def _is_stored(batch: Batch) -> bool:
    reread(batch)
    return bool(batch.state == "stored")


def test_points_of_a_snapshot_go_together_and_count_once(project: Project) -> None:
    whom = person(project, somebody())
    points = [a_point(whom.subject, part) for part in range(5)]
    with storing():
        one = plant(project, [*points, record(1)], received=2)
        for _ in erasing.erase_records(whom, nothing):
            pass
        reread(one)
        assert (one.suppressed, one.waiting, len(unpack(bytes(one.payload)))) == (1, 1, 1)
        assert sums_up(one)


# --- deaths ---


def test_a_death_after_any_chunk_loses_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "CHUNK", 2)
    monkeypatch.setattr(erasing, "SESSIONS", 1)
    whom = person(project, somebody())
    other = pseudonym(project, somebody())
    with storing():
        store_all(
            plant(project, records_of(project, *[whom.subject] * 5, session=OWN)),
            plant(project, records_of(project, *[None] * 5, session=OWN)),
            plant(project, records_of(project, whom.subject, None, other, session=SHARED)),
            plant(project, records_of(project, None, None, session=WAITING)),
        )
        plant(project, records_of(project, whom.subject, None, session=WAITING))
        plant(project, records_of(project, None, other, session=OWN[:15] + b"x"))
        steps = 0
        while True:
            point = transaction.savepoint()
            done = len(list(islice(erasing.erase_records(whom, nothing), steps)))
            rest = list(erasing.erase_records(whom, nothing))
            assert _left(whom, other) == (0, 2, 2), f"killed after {steps} chunks"
            transaction.savepoint_rollback(point)
            if done < steps:
                assert not rest
                break
            steps += 1
        assert steps > 8


def _left(whom: erasing.Person, other: bytes) -> tuple[int, int, int]:
    """Rows of the person; of others and nobody in the table; records that wait."""
    stored = Event.objects.filter(project_id=whom.project_id)
    kept = [
        one
        for held in Batch.objects.filter(project_id=whom.project_id, state="received")
        for one in unpack(bytes(held.payload))
    ]
    own = stored.filter(subject=whom.subject).count()
    own += sum(one.subject == whom.subject for one in kept)
    return own, stored.exclude(subject=whom.subject).count(), len(kept)


def test_time_that_is_over_leaves_the_rest_to_the_next_task(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "CHUNK", 3)
    user = somebody()
    whom = person(project, user)
    with storing():
        store_all(plant(project, records_of(project, *[whom.subject] * 10)))
        request = request_of(project, user)
        for left in (7, 4, 1):
            assert run(request, seconds=0).state == "running"
            assert len(events(project, user)) == left
            assert request.report["receipt"] is None
        assert run(request, seconds=0).state == "running"
        assert run(request).state == "completed"
        assert request.receipt["erased"] == {"ingest_event": 10}
        assert request.subject is None
        assert request.attempts == 1


def test_day_that_is_detached_and_not_yet_dropped_is_erased_too(
    service: Service, project: Project
) -> None:
    whom = person(project, somebody())
    day = (timezone.now() - timedelta(days=200)).date()
    name = f"partitions.{EVENTS.partition(day)}"
    with service.database() as connection:
        connection.execute(f"CREATE TABLE {name} (LIKE ingest_event INCLUDING ALL)")
        try:
            connection.execute(
                f"INSERT INTO {name} (project_id, occurred_at, batch_id, position, subject, name,"
                " category, properties) VALUES (%s, %s, gen_random_uuid(), 0, %s, 'old', '', '{}')",
                [whom.project_id, day, whom.subject],
            )
            assert erasing.count_events(whom, timezone.now()) == 1
            assert len(list(erasing.erase_records(whom, nothing))) == 1
            assert erasing.count_events(whom, timezone.now()) == 0
        finally:
            connection.execute(f"DROP TABLE IF EXISTS {name}")


# --- cancelling, asking again, opting in ---


def test_cancelling_and_running_at_once_is_one_or_the_other(
    service: Service, project: Project
) -> None:
    users = [somebody() for _ in range(12)]
    sent = batch(*(event(user_id=user) for user in users))
    settled(service, project, accepted(send(service, project, sent)))

    def both(user: str) -> dict[str, Any]:
        asked = ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": 0})
        token = asked.json["deletion_token"]
        about(service, "cancel", token)

        def look() -> dict[str, Any] | None:
            told: dict[str, Any] = about(service, "status", token).json
            return told if told["status"] in ("completed", "cancelled") else None

        return wait_for(look, 30, "one or the other")

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(both, users))
    for user, told in zip(users, outcomes, strict=True):
        gone = told["status"] == "completed"
        assert len(events(project, user)) == (0 if gone else 1)
        assert tombstone(project, user).suppressed is gone


def test_request_that_was_just_cancelled_is_not_run(project: Project) -> None:
    user = somebody()
    with storing():
        request = request_of(project, user)
        deletions.cancel(request, "test")
        assert run(request).state == "cancelled"
        assert not tombstone(project, user).suppressed


def test_asking_again_while_it_is_failed_is_the_same_request(project: Project) -> None:
    user = somebody()
    with storing():
        request = request_of(project, user)
        DeletionRequest.objects.filter(pk=request.pk).update(state="failed")
        assert request_of(project, user).pk == request.pk


# --- failures ---


def test_payload_nobody_can_read_fails_it_until_it_is_discarded(
    service: Service, project: Project
) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    dead = plant(project, b"no payload of ours", state="dead", dead=1)
    assert erased(service, project, user)["status"] == "failed"
    assert events(project, user) == [], "all else is erased"
    (request,) = DeletionRequest.objects.filter(project_id=project_id(project))
    assert "Discard them: Dead set in the admin" in request.error
    assert request.retry_at > timezone.now() + timedelta(minutes=50)
    finding = service.request("GET", "/readyz").json["checks"]["erasures"]
    assert (finding["ok"], "1 failed" in finding["detail"]) == (False, True)
    # A scrape may repeat what one told some seconds ago.
    wait_for(lambda: scrape(service).value("telemetry_erasures_failed") == 1, 30, "the metric")
    with transaction.atomic():
        storage.discard([(dead.day, dead.pk)])
    due_now(request)
    deletions.ask(project_id(project), pseudonym(project, user), "test", timedelta())

    def completed() -> bool:
        request.refresh_from_db()
        return request.state == "completed"

    wait_for(completed, 30, "the failed request to be run again")
    assert (request.error, request.attempts) == ("", 2)
    assert request.receipt["erased"] == {"ingest_event": 1}
    actions = AuditEntry.objects.filter(object=str(request.pk)).order_by("number")
    assert [entry.action for entry in actions] == [
        "deletion.asked", "deletion.started", "deletion.failed", "deletion.asked_again",
        "deletion.started", "deletion.completed",
    ]  # fmt: skip


def test_what_the_verification_finds_fails_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = somebody()
    forgotten = tuple(
        replace(store, erase=None) if store.model == "ingest.MetricPoint" else store
        for store in STORES
    )
    whom = person(project, user)
    with storing():
        store_all(plant(project, [a_point(whom.subject)]))
        request = request_of(project, user)
        monkeypatch.setattr(erasure, "STORES", forgotten)
        assert run(request).state == "failed"
        assert "1 in ingest_metricpoint" in request.error
        assert run(request).attempts == 1, "not before its hour is over"
        monkeypatch.undo()
        due_now(request)
        assert run(request).state == "completed"


def test_opting_in_while_it_runs_waits_for_its_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = somebody()
    whom = person(project, user)

    def opting_in(person: erasing.Person, note: erasing.Note) -> Iterator[None]:
        restrictions.consent(person.project_id, person.subject, {"business": True})
        yield

    last = replace(STORES[0], erase=opting_in, count=None)
    with storing():
        request = request_of(project, user)
        monkeypatch.setattr(erasure, "STORES", (*STORES, last))
        assert run(request).state == "failed"
        monkeypatch.undo()
        due_now(request)
        assert run(request).state == "completed"
        held = restrictions.of(whom.project_id, whom.subject)
        assert held.suppressed


# --- after a restore ---


def test_who_is_erased_is_erased_again_after_a_restore(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, going, stays = somebody(), somebody(), somebody()
    ask(service, "delete", project.secret_key, {"user_id": going, "grace_days": 5})
    erased(service, project, gone)
    lines = lines_of(service, project)
    assert len(lines) == 2
    assert not any(user in line for user in (gone, going) for line in lines)
    # What a restored backup is like: nobody has asked yet, and everything is there.
    PersonRestriction.objects.filter(project_id=project_id(project)).delete()
    DeletionRequest.objects.filter(project_id=project_id(project)).delete()
    sent = batch(*(event(user_id=user) for user in (gone, going, stays)))
    assert settled(service, project, accepted(send(service, project, sent)))["stored"] == 3
    text = "\n".join(["# 2026-11-21T15:00:00Z", *lines, f"2147483647 {'0' * 32}"])
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    told = io.StringIO()
    call_command("tombstones", "replay", stderr=told)
    assert "2 persons are going to be erased again" in told.getvalue()
    assert "1 are of projects that this database doesn't have" in told.getvalue()
    assert tombstone(project, gone).suppressed
    assert tombstone(project, going).suppressed
    requests = DeletionRequest.objects.filter(project_id=project_id(project)).order_by("due_at")
    assert requests[0].due_at <= timezone.now() < requests[1].due_at
    wait_for(lambda: not events(project, gone), 30, "the worker to erase again")
    assert len(events(project, going)) == len(events(project, stays)) == 1


def lines_of(service: Service, project: Project) -> list[str]:
    """What an exported list says of a project's persons."""
    lines = service.manage("tombstones", "export").splitlines()
    return sorted(line for line in lines if line.startswith(f"{project_id(project)} "))


def test_a_list_names_who_opted_in_since_they_asked(service: Service, project: Project) -> None:
    user = somebody()
    ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": 5})
    due = DeletionRequest.objects.get(project_id=project_id(project)).due_at
    (before,) = lines_of(service, project)
    ask(service, "consent", project.secret_key, {"user_id": user, "categories": {"*": True}})
    assert not tombstone(project, user).suppressed
    named = f"{project_id(project)} {pseudonym(project, user).hex()}"
    assert lines_of(service, project) == [before] == [f"{named} {due.isoformat()}"]


def test_a_list_names_who_is_erased_and_asked_again_in_both_ways(
    service: Service, project: Project
) -> None:
    user = somebody()
    erased(service, project, user)
    ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": 5})
    erased_one, asked_again = lines_of(service, project)
    assert erased_one == f"{project_id(project)} {pseudonym(project, user).hex()}"
    assert asked_again.startswith(f"{erased_one} 20")


def replayed(monkeypatch: pytest.MonkeyPatch, *lists: str) -> str:
    """What the command says of lists one after the other."""
    told = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lists)))
    call_command("tombstones", "replay", stderr=told)
    return told.getvalue()


def test_what_was_cancelled_after_an_older_list_stays_cancelled(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, going, thought_better = somebody(), somebody(), somebody()

    def exported() -> str:
        head, *_ = service.manage("tombstones", "export").splitlines()
        return "\n".join([head, *lines_of(service, project), ""])

    erased(service, project, gone)
    token = ask(
        service, "delete", project.secret_key, {"user_id": thought_better, "grace_days": 5}
    ).json["deletion_token"]
    older = exported()
    assert about(service, "cancel", token).status == 200
    ask(service, "consent", project.secret_key, {"user_id": gone, "categories": {"*": True}})
    ask(service, "delete", project.secret_key, {"user_id": going, "grace_days": 5})
    newer = exported()
    assert [len(lines.splitlines()) for lines in (older, newer)] == [3, 2]
    PersonRestriction.objects.filter(project_id=project_id(project)).delete()
    DeletionRequest.objects.filter(project_id=project_id(project)).delete()
    for lists in ((older, newer), (newer, older)):
        assert "2 persons are going to be" in replayed(monkeypatch, *lists)
        assert tombstone(project, gone).suppressed
        assert tombstone(project, going).suppressed
        assert tombstone(project, thought_better) is None


def test_who_is_named_in_several_lists_is_asked_for_once(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = f"{project_id(project)} {'1' * 32}"
    older = f"# 2026-11-20T15:00:00Z\n{who}\n"
    newer = f"# 2026-11-21T15:00:00+01:00\n{who} 2099-01-01T00:00:00Z\n{who}\n"
    assert replayed(monkeypatch, older, newer).startswith("1 persons")
    request = DeletionRequest.objects.get(project_id=project_id(project))
    assert request.due_at <= timezone.now()
    assert request.tokens.count() == 1


@pytest.mark.usefixtures("service")
def test_a_list_without_its_first_line_is_not_replayed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match=r"Line 1 is before any list's first line.*nothing"):
        replayed(monkeypatch, f"{project_id(project)} {'1' * 32}\n")
    assert not DeletionRequest.objects.filter(project_id=project_id(project)).exists()


@pytest.mark.parametrize(
    "line", ["x", "1", "1 ab", f"1 {'0' * 32} 2026-01-01T00:00:00", f"x {'0' * 32}",
             f"1 {'z' * 32}", f"1 {'0' * 32} soon", "# soon", "# 2026-01-01T00:00:00",
             f"1 {'0' * 32} 2026-01-01T00:00:00Z 1"]
)  # fmt: skip
@pytest.mark.usefixtures("service")
def test_list_with_a_broken_line_is_not_replayed_at_all(
    project: Project, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    good = f"# 2026-11-21T15:00:00Z\n{project_id(project)} {'1' * 32}"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{good}\n{line}\n"))
    with pytest.raises(CommandError, match="Line 3 is no tombstone"):
        call_command("tombstones", "replay")
    assert not DeletionRequest.objects.filter(project_id=project_id(project)).exists()
