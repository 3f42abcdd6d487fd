"""Storing what waits: all of it, once; what can't be stored is found, kept and named."""

import contextlib
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ingest import storage
from ingest.models import Attempt, Event
from ingest.payloads import unpack
from telemetry_site.errors import DATABASE_ERRORS
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, accounting, batch, event, send, settled
from tests.ingest.traces import project_id
from tests.ingest.waiting import (
    note_of_a_death,
    occurred,
    plant,
    positions,
    record,
    reread,
    store_all,
    storing,
)

POISON = {
    "no JSON": (b'{"a": nope}', "22P02"),
    "NUL in JSON": (b'{"a": "\\u0000"}', "22P05"),
    "nothing": (b"", "22P02"),
    "a huge number": (b'{"a": 1e999999}', "22003"),
    "no UTF-8": (b'{"a": "\xff"}', "22021"),
}


@pytest.fixture
def _storing(service: Service) -> Iterator[None]:
    with storing():
        yield


# --- the worker of the service ---


def test_accepted_batches_are_stored_by_the_worker(service: Service, project: Project) -> None:
    batches = [accepted(send(service, project, batch(event(), event()))) for _ in range(30)]
    for batch_id in batches:
        assert settled(service, project, batch_id)["state"] == "stored"
    assert Event.objects.filter(project_id=project_id(project)).count() == 60
    counts = accounting(service, project)
    assert (counts["received"], counts["stored"], counts["waiting"]) == (60, 60, 0)


def test_worker_buries_what_is_poisoned_and_stores_the_rest(
    service: Service, project: Project
) -> None:
    planted = plant(project, [record(0), record(1, b'{"a": nope}'), record(2)])
    good = accepted(send(service, project, batch()))
    assert settled(service, project, good)["state"] == "stored"
    wait_for(lambda: reread(planted) or planted.state == "dead", 30, "the poison to be found")
    assert positions(planted) == [0, 2]
    counts = accounting(service, project)
    assert (counts["received"], counts["stored"], counts["dead"]) == (4, 3, 1)


# --- poison ---


@pytest.mark.usefixtures("_storing")
@pytest.mark.parametrize(("properties", "sqlstate"), POISON.values(), ids=POISON)
def test_poisoned_event_is_dead_and_all_others_are_stored(
    project: Project, properties: bytes, sqlstate: str
) -> None:
    before, after = plant(project, [record(0)]), plant(project, [record(0), record(1)])
    poisoned = plant(
        project, [record(number, properties if number == 5 else b"{}") for number in range(9)]
    )
    store_all(before, poisoned, after)
    assert [found.state for found in (before, poisoned, after)] == ["stored", "dead", "stored"]
    assert positions(poisoned) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert (poisoned.stored, poisoned.dead, poisoned.waiting) == (8, 1, 0)
    assert poisoned.error.startswith(sqlstate)
    kept = unpack(bytes(poisoned.payload or b""))
    assert [(found.position, found.properties) for found in kept] == [(5, properties)]


@pytest.mark.usefixtures("_storing")
def test_every_poisoned_event_is_found(project: Project) -> None:
    bad = {0, 3, 4, 17, 31}
    poisoned = plant(
        project, [record(number, b"" if number in bad else b"{}") for number in range(32)]
    )
    wholly = plant(project, [record(number, b"") for number in range(3)])
    store_all(poisoned, wholly)
    assert set(positions(poisoned)) == set(range(32)) - bad
    assert (poisoned.dead, poisoned.stored) == (5, 27)
    assert (wholly.state, wholly.dead, wholly.stored) == ("dead", 3, 0)


@pytest.mark.usefixtures("_storing")
def test_reason_of_a_death_shows_nothing_of_the_data(project: Project) -> None:
    secret = f"secret-{uuid4().hex}"
    poisoned = plant(project, [record(0, b'{"%s": %s}' % ((secret.encode(),) * 2))])
    store_all(poisoned)
    assert poisoned.state == "dead"
    assert secret not in poisoned.error


@pytest.mark.usefixtures("_storing")
def test_event_that_is_stored_already_is_dead_and_stored_once(project: Project) -> None:
    """Should a batch ever be stored twice, the key of its events stops it."""
    twin = record(0)
    first = plant(project, [twin])
    store_all(first)
    second = plant(project, [twin, record(1)], batch_id=first.batch_id)
    store_all(second)
    assert (second.state, second.stored, second.dead) == ("dead", 1, 1)
    assert second.error.startswith("23505")
    assert positions(first) == [0, 1]


@pytest.mark.usefixtures("_storing")
@pytest.mark.parametrize("payload", [b"", b"not a payload", b"\x28\xb5\x2f\xfd" + b"\xff" * 20])
def test_payload_that_cannot_be_read_is_dead_and_kept(project: Project, payload: bytes) -> None:
    good = plant(project, [record(0)])
    unreadable = plant(project, payload)
    store_all(good, unreadable)
    assert (good.state, unreadable.state, unreadable.dead) == ("stored", "dead", 1)
    assert bytes(unreadable.payload or b"") == payload
    assert "can't be read" in unreadable.error


@pytest.mark.usefixtures("_storing")
def test_waiting_batch_without_a_payload_is_dead_and_stops_nobody(project: Project) -> None:
    good = plant(project, [record(0)])
    empty = plant(project, b"", payload=None)
    store_all(good, empty)
    assert (good.state, empty.state, empty.dead) == ("stored", "dead", 1)


@pytest.mark.usefixtures("_storing")
@pytest.mark.parametrize(
    "odd",
    [{"occurred": -(2**62)}, {"name": "\0"}, {"category": "a\0b"}],
    ids=str,
)
def test_record_that_fits_no_column_is_dead_and_stops_nobody(
    project: Project, odd: dict[str, Any]
) -> None:
    good = plant(project, [record(0)])
    strange = plant(project, [record(**odd), record(1)])
    store_all(good, strange)
    assert (good.state, strange.state, strange.dead) == ("stored", "dead", 1)
    assert positions(strange) == [1]


@pytest.mark.usefixtures("_storing")
def test_counts_of_rejected_events_stay_beside_the_stored(project: Project) -> None:
    mixed = plant(project, [record(0), record(3, b"")], received=5, rejected=3)
    store_all(mixed)
    assert (mixed.received, mixed.stored, mixed.rejected, mixed.dead) == (5, 1, 3, 1)
    assert mixed.waiting == 0


# --- batches at which a worker died ---


@pytest.mark.usefixtures("_storing")
def test_batches_at_which_a_worker_died_are_suspects(project: Project) -> None:
    suspects = [plant(project, [record(0)]) for _ in range(3)]
    fresh = plant(project, [record(0)])
    note = note_of_a_death(*suspects)
    storage.store_group()
    reread(*suspects, fresh)
    assert [found.attempts for found in (*suspects, fresh)] == [1, 1, 1, 0]
    assert {found.state for found in suspects} == {"received"}, "blamed, and not tried again yet"
    assert not Attempt.objects.filter(pk=note).exists(), "counted once"
    storage.store_group()
    reread(*suspects, fresh)
    assert [found.attempts for found in (*suspects, fresh)] == [1, 1, 1, 0]
    assert fresh.state == "stored"


@pytest.mark.usefixtures("_storing")
def test_suspects_never_share_a_transaction_with_others(project: Project) -> None:
    suspect = plant(project, [record(0)], attempts=1)
    fresh = [plant(project, [record(0)]) for _ in range(3)]
    while storage.store_group() is not storage.Progress.DONE:
        pass
    reread(*fresh, suspect)
    assert [found.state for found in fresh] == ["stored"] * 3
    assert suspect.state == "received"
    assert storage.store_suspect()
    reread(suspect)
    assert suspect.state == "stored"


@pytest.mark.usefixtures("_storing")
def test_suspects_are_stored_one_at_a_time_the_least_suspect_first(project: Project) -> None:
    suspects = [plant(project, [record(0)], attempts=deaths) for deaths in (2, 1, 1)]
    order: list[int] = []
    for _ in range(3):
        before = [found.pk for found in suspects if found.state == "received"]
        assert storage.store_suspect()
        reread(*suspects)
        waiting = {found.pk for found in suspects if found.state == "received"}
        (stored,) = set(before) - waiting
        order.append(stored)
    assert order == [suspects[1].pk, suspects[2].pk, suspects[0].pk]
    assert not storage.store_suspect()


@pytest.mark.usefixtures("_storing")
def test_batch_at_which_three_workers_died_is_dead(project: Project) -> None:
    deadly, good = plant(project, [record(0), record(1)]), plant(project, [record(0)])
    for deaths in (1, 2):
        note_of_a_death(deadly)
        (storage.store_group if deaths == 1 else storage.store_suspect)()
        reread(deadly)
        assert (deadly.state, deadly.attempts) == ("received", deaths)
    note_of_a_death(deadly)
    storage.store_suspect()
    store_all(good)
    reread(deadly)
    assert (deadly.state, deadly.attempts, deadly.dead) == ("dead", 3, 2)
    assert deadly.error == "workers died while storing it"
    assert len(unpack(bytes(deadly.payload or b""))) == 2
    assert (good.state, good.attempts) == ("stored", 0)


@pytest.mark.usefixtures("_storing")
def test_batch_at_which_storing_fails_keeps_nobody_waiting(project: Project) -> None:
    """Whatever the defect: here a moment that Python's calendar doesn't have."""
    good = [plant(project, [record(0)]) for _ in range(2)]
    deadly = plant(project, [record(0, occurred=2**62)])
    for _ in range(8):
        for store in (storage.store_group, storage.store_suspect):
            with contextlib.suppress(ValueError):
                store()
    reread(*good, deadly)
    assert [found.state for found in (*good, deadly)] == ["stored", "stored", "dead"]
    Attempt.objects.filter(batches__contains=[deadly.pk]).delete()


@pytest.mark.usefixtures("_storing")
def test_work_that_succeeds_leaves_no_note(project: Project) -> None:
    good = plant(project, [record(0)])
    store_all(good)
    assert not Attempt.objects.filter(batches__contains=[good.pk]).exists()


def test_work_that_raises_leaves_no_note_and_blames_nobody(
    service: Service, project: Project
) -> None:
    """An error that isn't the data's: here a statement that runs out of time."""
    with storing(), service.database() as other, other.transaction():
        other.execute("LOCK TABLE ingest_event IN ACCESS EXCLUSIVE MODE")
        waiting = plant(project, [record(0)])
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 200")
        with pytest.raises(DATABASE_ERRORS, match="timeout"):
            storage.store_group()
    assert not Attempt.objects.filter(batches__contains=[waiting.pk]).exists()


# --- groups ---


@pytest.mark.usefixtures("_storing")
def test_group_is_bounded_in_bytes(project: Project) -> None:
    large = [plant(project, [record(0)], body_bytes=5 * 1024**2) for _ in range(3)]
    assert storage.store_group() is storage.Progress.MORE
    reread(*large)
    assert [found.state for found in large] == ["stored", "received", "received"]


@pytest.mark.usefixtures("_storing")
def test_group_is_bounded_in_batches(project: Project) -> None:
    many = [plant(project, [record(0)]) for _ in range(55)]
    assert storage.store_group() is storage.Progress.MORE
    reread(*many)
    assert [found.state for found in many] == ["stored"] * 50 + ["received"] * 5
    assert storage.store_group() is storage.Progress.SOME


@pytest.mark.usefixtures("_storing")
def test_batch_larger_than_a_group_is_stored_all_the_same(project: Project) -> None:
    huge = plant(project, [record(0)], body_bytes=100 * 1024**2)
    store_all(huge)
    assert huge.state == "stored"


# --- the dead, once more ---


@pytest.mark.usefixtures("_storing")
def test_replayed_batch_is_stored_once_its_cause_is_gone(project: Project) -> None:
    good = record(1, b'{"a": 1}')
    dead = plant(
        project,
        [good],
        state="dead",
        received=2,
        stored=1,
        dead=1,
        attempts=3,
        error="22P02: it was something else",
    )
    assert storage.replay([(dead.day, dead.pk)]) == 1
    reread(dead)
    assert (dead.state, dead.attempts, dead.dead, dead.waiting) == ("received", 0, 0, 1)
    store_all(dead)
    assert (dead.state, dead.stored, dead.dead, dead.error) == ("stored", 2, 0, "")
    assert dead.payload is None
    assert positions(dead) == [1]


@pytest.mark.usefixtures("_storing")
def test_replayed_batch_that_is_still_poisoned_is_dead_again(project: Project) -> None:
    dead = plant(project, [record(0), record(1, b"")])
    store_all(dead)
    for _ in range(2):
        assert storage.replay([(dead.day, dead.pk)]) == 1
        store_all(dead)
        assert (dead.state, dead.stored, dead.dead, dead.waiting) == ("dead", 1, 1, 0)
    assert positions(dead) == [0]


@pytest.mark.usefixtures("_storing")
def test_only_the_dead_are_replayed(project: Project) -> None:
    stored, refused = plant(project, [record(0)]), plant(project, b"", state="rejected")
    store_all(stored)
    assert storage.replay([(found.day, found.pk) for found in (stored, refused)]) == 0
    reread(stored, refused)
    assert (stored.state, refused.state) == ("stored", "rejected")


@pytest.mark.usefixtures("_storing")
def test_replay_past_the_retention_ends_as_dead_and_says_so(project: Project) -> None:
    old = plant(
        project,
        [record(0, occurred=occurred(timedelta(days=92))), record(1)],
        state="dead",
        dead=2,
    )
    storage.replay([(old.day, old.pk)])
    store_all(old)
    assert (old.state, old.stored, old.dead) == ("dead", 1, 1)
    assert old.error == "too_old: past its table's retention"
    assert positions(old) == [1]


def test_dead_batches_are_listed_and_replayed_by_command(
    service: Service, project: Project
) -> None:
    dead = plant(project, [record(0, b"")])
    send(service, project, batch())
    wait_for(lambda: reread(dead) or dead.state == "dead", 30, "the poison to be found")
    (line,) = [line for line in _dead("list").splitlines() if str(dead.pk) in line.split()]
    assert "22P02" in line
    assert project.project[:19] in line
    assert "1 batches wait" in _dead("replay", str(dead.pk))
    send(service, project, batch())  # nudges the worker, as anything that comes in does
    wait_for(lambda: reread(dead) or dead.state == "dead", 30, "it to be found again")
    for words in (["replay"], ["replay", "--all", str(dead.pk)]):
        with pytest.raises(CommandError, match="or --all"):
            _dead(*words)


def _dead(*words: str) -> str:
    printed = io.StringIO()
    call_command("dead", *words, stdout=printed)
    return printed.getvalue()
