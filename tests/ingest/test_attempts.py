"""Deaths at work: written down before it, blamed on the batches it was about, and on no others."""

import threading
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, OperationalError, connection, connections, transaction

from ingest import storage
from ingest.attempts import Attempts
from ingest.models import Attempt, Batch
from ingest.nudges import STORE
from ingest.payloads import unpack
from telemetry_site.celery import broker_connection
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, accounting, batch, send, settled
from tests.ingest.waiting import note_of_a_death, plant, positions, record, reread, storing

SETTLING_SECONDS = 30.0
# Ids that no batch has: the running worker has nothing to do with them.
_unused = count(-1_000, -1)


@pytest.fixture
def _storing(service: Service) -> Iterator[None]:
    with storing():
        yield


@pytest.fixture
def attempts(service: Service) -> Iterator[Attempts]:
    """Those of a worker in this process."""
    notes = Attempts()
    notes.open()
    assert notes._connection is not None
    notes._connection.ensure_connection()
    yield notes
    notes._connection.close()


def unused_id() -> int:
    return next(_unused)


def notes_of(batch_id: int) -> int:
    """Notes about a batch, as everybody sees them: on a connection of its own."""
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM ingest_attempt WHERE %s = ANY(batches)", [batch_id]
            )
            (found,) = cursor.fetchone()
            return int(found)
    finally:
        other.close()


def plant_beside_a_death(project: Project, deaths: int = 0) -> Batch:
    """A waiting batch at which a worker has died, the note there before the batch can be seen."""
    with transaction.atomic():
        waiting = plant(project, [record(0), record(1)], attempts=deaths)
        note_of_a_death(waiting)
    return waiting


def settle_by_the_worker(waiting: Batch) -> None:
    with broker_connection() as broker:
        STORE.publish(broker)

    def look() -> bool:
        reread(waiting)
        return waiting.state != "received"

    wait_for(look, SETTLING_SECONDS, "the batch to be settled by the service's worker")


# --- a note ---


def test_note_is_seen_by_everybody_while_the_work_lasts(attempts: Attempts) -> None:
    work = unused_id()
    with transaction.atomic():
        with attempts.noted([work]):
            assert notes_of(work) == 1
        assert notes_of(work) == 1, "until the work is committed"
    assert notes_of(work) == 0


def test_note_of_work_the_database_failed_is_taken_back_before_its_locks_are_released(
    attempts: Attempts,
) -> None:
    work = unused_id()
    with transaction.atomic():
        with pytest.raises(OperationalError), attempts.noted([work]):
            raise OperationalError
        assert notes_of(work) == 0


def test_note_of_work_that_fails_in_a_way_nobody_foresaw_stays(attempts: Attempts) -> None:
    work = unused_id()
    with pytest.raises(ZeroDivisionError), transaction.atomic(), attempts.noted([work]):
        raise ZeroDivisionError
    left = Attempts.left_by_the_dead([work])
    assert list(left) == [work]
    Attempts.settle(left)
    assert notes_of(work) == 0


@pytest.mark.parametrize("reason", [SystemExit, KeyboardInterrupt, SoftTimeLimitExceeded])
def test_worker_that_is_asked_to_stop_was_no_death(
    attempts: Attempts, reason: type[BaseException]
) -> None:
    work = unused_id()
    with pytest.raises(reason), transaction.atomic(), attempts.noted([work]):
        raise reason
    assert notes_of(work) == 0


def test_note_that_could_not_be_taken_back_is_owed(attempts: Attempts) -> None:
    """The database goes away under the work: both connections are lost."""
    work = unused_id()
    with pytest.raises(DatabaseError, match="terminat"), transaction.atomic():
        lose_both_connections(attempts, work)
    connection.close()
    assert notes_of(work) == 1
    attempts.open()
    assert notes_of(work) == 0


def test_lost_connection_is_replaced_before_the_next_run(attempts: Attempts) -> None:
    terminate(attempts._connection)
    work = unused_id()
    with pytest.raises(DatabaseError), transaction.atomic(), attempts.noted([work]):
        pass
    attempts.open()
    with transaction.atomic(), attempts.noted([work]):
        assert notes_of(work) == 1
    assert notes_of(work) == 0


def test_commit_that_fails_was_no_death(attempts: Attempts) -> None:
    """The database restarts in the midst of a commit: no batch is to blame for that."""
    work = unused_id()
    with pytest.raises(DatabaseError), transaction.atomic():
        lose_the_connection_after_work(attempts, work)
    connection.close()
    attempts.open()
    assert notes_of(work) == 0


def lose_both_connections(attempts: Attempts, work: int) -> None:
    with attempts.noted([work]):
        terminate(attempts._connection)
        terminate(connection)
        connection.cursor().execute("SELECT 1")


def lose_the_connection_after_work(attempts: Attempts, work: int) -> None:
    with attempts.noted([work]):
        pass
    terminate(connection)


def terminate(wrapper: object) -> None:
    """End a connection from the server's side."""
    assert hasattr(wrapper, "connection")
    pid = wrapper.connection.info.backend_pid
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert cursor.fetchone() == (True,)
    finally:
        other.close()


# --- what is left by the dead ---


def test_notes_left_are_found_by_the_batches_they_are_about(attempts: Attempts) -> None:
    first, second, third, other = (unused_id() for _ in range(4))
    with transaction.atomic():
        both = Attempt.objects.create(batches=[first, second]).pk
        one = Attempt.objects.create(batches=[third, unused_id()]).pk
        found = Attempts.left_by_the_dead([first, second, third, other])
        assert found == {first: both, second: both, third: one}
        assert Attempts.left_by_the_dead([other]) == {}
        Attempts.settle(found)
        assert Attempts.left_by_the_dead([first, second, third]) == {}
        assert not Attempt.objects.filter(pk__in=[both, one]).exists()


def test_living_worker_is_not_taken_for_a_dead_one(service: Service, project: Project) -> None:
    """Whoever is at work holds its batches' rows: another can't lock them, and sees no note."""
    began, go_on = threading.Event(), threading.Event()

    def work() -> None:
        notes = Attempts()
        notes.open()
        try:
            with transaction.atomic():
                mine = plant(project, [record(0)], state="dead")
                with notes.noted([mine.pk]):
                    claimed.append(mine)
                    began.set()
                    assert go_on.wait(10)
        finally:
            assert notes._connection is not None
            notes._connection.close()
            connections.close_all()

    claimed: list[Batch] = []
    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert began.wait(10)
        good = accepted(send(service, project, batch()))
        assert settled(service, project, good)["state"] == "stored"
        assert notes_of(claimed[0].pk) == 1
    finally:
        go_on.set()
        worker.join()
    assert notes_of(claimed[0].pk) == 0


# --- who is blamed ---


@pytest.mark.usefixtures("_storing")
def test_batches_of_a_dead_workers_group_become_suspects_and_others_do_not(
    project: Project,
) -> None:
    suspects = [plant(project, [record(0)]) for _ in range(3)]
    fresh = plant(project, [record(0)])
    note = note_of_a_death(*suspects)
    storage.store_group()
    reread(*suspects, fresh)
    assert [found.attempts for found in (*suspects, fresh)] == [1, 1, 1, 0]
    assert not any(positions(found) for found in suspects), "not at once in one group again"
    assert not Attempt.objects.filter(pk=note).exists(), "counted once"
    storage.store_group()
    reread(*suspects, fresh)
    assert [found.state for found in suspects] == ["received"] * 3
    assert fresh.state == "stored"


@pytest.mark.usefixtures("_storing")
def test_suspects_run_alone_the_least_suspect_first(project: Project) -> None:
    twice, once, also_once = (plant(project, [record(0)], attempts=deaths) for deaths in (2, 1, 1))
    order = []
    while storage.store_suspect():
        before = {found.pk for found in (twice, once, also_once) if found.state == "stored"}
        reread(twice, once, also_once)
        order += [
            [
                found
                for found in (twice, once, also_once)
                if found.state == "stored" and found.pk not in before
            ]
        ]
    assert order == [[once], [also_once], [twice]]


@pytest.mark.usefixtures("_storing")
def test_batch_at_which_three_workers_died_is_dead_with_all_it_holds(project: Project) -> None:
    deadly = plant(project, [record(0), record(1)], received=5, rejected=3)
    note_of_a_death(deadly)
    storage.store_group()
    for deaths in (1, 2):
        reread(deadly)
        assert (deadly.state, deadly.attempts) == ("received", deaths)
        note_of_a_death(deadly)
        assert storage.store_suspect()
    reread(deadly)
    assert (deadly.state, deadly.attempts, deadly.dead) == ("dead", 3, 2)
    assert deadly.error == "workers died while storing it"
    assert (deadly.stored, deadly.rejected, deadly.waiting) == (0, 3, 0)
    assert len(unpack(bytes(deadly.payload or b""))) == 2
    assert not storage.store_suspect()


@pytest.mark.usefixtures("_storing")
def test_replayed_batch_begins_without_blame(project: Project) -> None:
    deadly = plant(project, [record(0)], state="dead", attempts=3, dead=1)
    storage.replay([(deadly.day, deadly.pk)])
    storage.store_group()
    reread(deadly)
    assert (deadly.state, deadly.attempts, deadly.stored, deadly.dead) == ("stored", 0, 1, 0)


# --- by the worker of the service ---


def test_worker_stores_a_batch_at_which_another_died(service: Service, project: Project) -> None:
    waiting = plant_beside_a_death(project)
    settle_by_the_worker(waiting)
    assert (waiting.state, waiting.attempts, positions(waiting)) == ("stored", 1, [0, 1])
    assert notes_of(waiting.pk) == 0


def test_worker_gives_a_batch_up_after_its_third_death(service: Service, project: Project) -> None:
    deadly = plant_beside_a_death(project, deaths=2)
    settle_by_the_worker(deadly)
    assert (deadly.state, deadly.attempts, deadly.dead) == ("dead", 3, 2)
    assert positions(deadly) == []
    assert accounting(service, project)["dead"] == 2


def test_suspects_do_not_keep_others_waiting(service: Service, project: Project) -> None:
    suspects = [plant_beside_a_death(project) for _ in range(5)]
    good = accepted(send(service, project, batch()))
    assert settled(service, project, good)["state"] == "stored"
    for suspect in suspects:
        settle_by_the_worker(suspect)
        assert (suspect.state, suspect.attempts) == ("stored", 1)


def test_note_about_a_batch_that_is_settled_harms_nobody(
    service: Service, project: Project
) -> None:
    """The worker died after its commit's words were lost: nothing waits that could be blamed."""
    good = accepted(send(service, project, batch()))
    settled(service, project, good)
    row = Batch.objects.get(batch_id=good)
    note = note_of_a_death(row)
    settled(service, project, accepted(send(service, project, batch())))
    reread(row)
    assert (row.state, row.attempts) == ("stored", 0)
    Attempt.objects.filter(pk=note).delete()


def test_work_that_runs_out_of_time_blames_nobody(service: Service, project: Project) -> None:
    """An error that isn't the data's: a table that somebody holds on to."""
    with storing():
        waiting = plant(project, [record(0)])
        with pytest.raises((DatabaseError, psycopg.Error), match="lock timeout"):
            store_while_the_table_is_held(service)
        assert notes_of(waiting.pk) == 0


def store_while_the_table_is_held(service: Service) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '100ms'")
    with service.database() as other, other.transaction():
        other.execute("LOCK TABLE ingest_event IN ACCESS EXCLUSIVE MODE")
        with transaction.atomic():
            storage.store_group()
