"""Days of the tables that grow: there before they are needed, gone when their time is over."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connections
from django.utils import timezone

from ingest import intake, partitions
from ingest.authentication import check_key
from ingest.formats.events import decode
from ingest.models import Batch, LedgerSum
from ingest.records import Envelope
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import batch, event, send, settled
from tests.ingest.traces import project_id
from tests.ingest.waiting import (
    occurred,
    partition_exists,
    plant,
    positions,
    record,
    reread,
    store_all,
    storing,
)

DAY = timedelta(days=1)


def today() -> date:
    return timezone.now().date()


def made(table: partitions.Partitioned, ago: int) -> date:
    """A day so long ago, made now."""
    day = today() - ago * DAY
    partitions.ensure(table, day)
    assert partition_exists(table.table, day)
    return day


def at(day: date, hour: int = 12) -> datetime:
    return datetime(day.year, day.month, day.day, hour, 30, tzinfo=UTC)


@contextmanager
def idle_worker(service: Service) -> Iterator[None]:
    """The storing worker, held still while it has nothing in hand."""
    wait_for(lambda: not Batch.objects.filter(state="received").exists(), 30, "nothing to wait")
    processes: list[psutil.Process] = service.processes("ingest")
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


# --- made ---


@pytest.mark.parametrize("table", partitions.TABLES, ids=lambda table: table.table)
def test_days_are_there_ahead_and_behind(service: Service, table: partitions.Partitioned) -> None:
    behind = min(table.behind, table.keep)
    assert behind >= 1
    for offset in range(-behind, 8):
        assert partition_exists(table.table, today() + offset * DAY), offset


def test_events_have_every_day_that_intake_takes(service: Service) -> None:
    assert min(partitions.EVENTS.behind, partitions.EVENTS.keep) >= 32


def test_making_days_again_changes_nothing(service: Service) -> None:
    partitions.maintain()
    partitions.ensure(partitions.EVENTS, today())


def test_made_day_is_a_partition_like_any_other(service: Service) -> None:
    day = made(partitions.EVENTS, 60)
    with service.database() as connection:
        (bound,) = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = %s",
            [f"ingest_event_{day:%Y%m%d}"],
        ).fetchone() or ("",)
        assert bound.count(f"{day:%Y-%m-%d} 00:00:00+00") == 1
        indexes, checks = connection.execute(
            """
            SELECT count(*) FILTER (WHERE kind = 'i'), count(*) FILTER (WHERE kind = 'c') FROM (
                SELECT 'i' AS kind FROM pg_indexes WHERE tablename = %s
                UNION ALL SELECT 'c' FROM pg_constraint
                WHERE conrelid = ('partitions.' || %s)::regclass AND contype = 'c'
            ) AS found
            """,
            [f"ingest_event_{day:%Y%m%d}"] * 2,
        ).fetchone() or (0, 0)
    assert (indexes, checks) == (3, 0)


def test_day_is_made_once_by_many_at_once(service: Service) -> None:
    day, errors = today() - 61 * DAY, []
    barrier = threading.Barrier(4)

    def make() -> None:
        barrier.wait()
        try:
            partitions.ensure(partitions.EVENTS, day)
        except psycopg.Error as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert partition_exists("ingest_event", day)


def test_storage_makes_a_day_that_is_missing(service: Service, project: Project) -> None:
    day = today() - 70 * DAY
    assert not partition_exists("ingest_event", day)
    with storing():
        late = plant(project, [record(0, occurred=occurred(70 * DAY)), record(1)])
        store_all(late)
        assert late.state == "stored"
        assert positions(late) == [0, 1]
    assert partition_exists("ingest_event", day)


def test_intake_makes_a_day_that_is_missing(service: Service, project: Project) -> None:
    """As on the day on which no maintenance has run for a week."""
    arrival = _arrival(project, at(today() + 40 * DAY))
    day = arrival.received_at.date()
    assert not partition_exists("ingest_batch", day)
    body = json.dumps([event(timestamp=arrival.received_at.isoformat()), 7]).encode()
    receipt = intake.accept(decode(body, Envelope()), arrival)
    assert (receipt.accepted, len(receipt.rejections)) == (1, 1)
    assert partition_exists("ingest_batch", day)
    assert partition_exists("ingest_rejectedevent", day)
    report = settled(service, project, receipt.batch_id)
    assert (report["stored"], report["rejected"]) == (1, 1)


def test_refusal_makes_a_day_that_is_missing(service: Service, project: Project) -> None:
    arrival = _arrival(project, at(today() + 41 * DAY))
    intake.refuse(arrival, "malformed_json", [])
    (row,) = Batch.objects.filter(day=arrival.received_at.date())
    assert (row.state, row.error) == ("rejected", "malformed_json")


def _arrival(project: Project, received_at: datetime) -> intake.Arrival:
    grant = check_key(project.ingest_key)
    assert grant is not None
    return intake.Arrival(grant, "events", "test", received_at)


def test_reader_of_the_table_stops_neither_a_new_day_nor_whoever_writes_meanwhile(
    service: Service, project: Project
) -> None:
    """`CREATE … PARTITION OF` would wait for the reader, and everybody for it."""
    day = today() - 62 * DAY
    with service.database() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM ingest_event")
        reader.execute("SELECT count(*) FROM ingest_batch")
        partitions.ensure(partitions.EVENTS, day)
        partitions.ensure(partitions.LEDGER, today() + 60 * DAY)
        answer = send(service, project, batch(event()))
        assert settled(service, project, answer.json["batch_id"])["state"] == "stored"
    assert partition_exists("ingest_event", day)


# --- dropped ---


@pytest.mark.parametrize("table", partitions.TABLES, ids=lambda table: table.table)
def test_day_past_its_time_is_dropped_and_the_last_one_kept(
    service: Service, table: partitions.Partitioned
) -> None:
    gone, long_gone = made(table, table.keep + 1), made(table, table.keep + 200)
    kept = made(table, table.keep)
    partitions.maintain()
    assert not partition_exists(table.table, gone)
    assert not partition_exists(table.table, long_gone)
    assert partition_exists(table.table, kept)


def test_dropped_days_of_the_ledger_leave_their_sums(service: Service, project: Project) -> None:
    day = made(partitions.LEDGER, 45)
    for hour in (9, 9, 14):
        plant(
            project,
            b"",
            state="dead",
            received_at=at(day, hour),
            received=10,
            stored=3,
            duplicate=1,
            rejected=2,
            suppressed=1,
            dead=3,
        )
    for _ in range(2):
        partitions.maintain()
    assert not partition_exists("ingest_batch", day)
    sums = LedgerSum.objects.filter(project_id=project_id(project)).order_by("hour")
    assert [(found.hour.hour, found.batches, found.received) for found in sums] == [
        (9, 2, 20),
        (14, 1, 10),
    ]
    first = sums[0]
    assert first.hour == datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    assert (first.stored, first.duplicate, first.rejected, first.suppressed, first.dead) == (
        6,
        2,
        4,
        2,
        6,
    )


def test_day_that_came_back_is_added_to_its_sums(service: Service, project: Project) -> None:
    """A batch accepted by a machine whose clock was wrong: its day is long dropped."""
    try:
        for _ in range(2):
            day = made(partitions.LEDGER, 48)
            plant(project, b"", state="stored", received_at=at(day), received=4, stored=4)
            partitions.maintain()
            assert not partition_exists("ingest_batch", day)
    finally:
        # Left behind, it would keep every maintenance after this one from its work.
        Batch.objects.filter(project_id=project_id(project), day=today() - 48 * DAY).delete()
        with service.database() as connection:
            connection.execute(f"DROP TABLE IF EXISTS partitions.ingest_batch_{day:%Y%m%d}")
    (kept,) = LedgerSum.objects.filter(project_id=project_id(project))
    assert (kept.batches, kept.received, kept.stored) == (2, 8, 8)


def test_day_with_a_waiting_batch_is_never_dropped(service: Service, project: Project) -> None:
    day = made(partitions.LEDGER, 46)
    with idle_worker(service):
        waiting = plant(project, [record(0)], received_at=at(day))
        partitions.maintain()
        assert partition_exists("ingest_batch", day)
        reread(waiting)
        assert waiting.state == "received"
    send(service, project, batch())  # nudges the worker
    wait_for(lambda: reread(waiting) or waiting.state == "stored", 30, "it to be stored")
    partitions.maintain()
    assert not partition_exists("ingest_batch", day)
    (kept,) = LedgerSum.objects.filter(project_id=project_id(project))
    assert (kept.hour.date(), kept.received, kept.stored) == (day, 1, 1)


def test_interrupted_detach_is_finished(service: Service) -> None:
    """A maintainer that was killed between the two halves of a concurrent detach."""
    day = made(partitions.EVENTS, 120)
    with service.database() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM ingest_event")
        _interrupt_detach(service, day)
    assert _pending(service) == [f"ingest_event_{day:%Y%m%d}"]
    partitions.maintain()
    assert not partition_exists("ingest_event", day)


def test_detached_day_that_was_not_dropped_is_dropped(service: Service, project: Project) -> None:
    """A maintainer that was killed between detaching and dropping: the sums aren't lost."""
    day = made(partitions.LEDGER, 47)
    plant(project, b"", state="stored", received_at=at(day), received=4, stored=4)
    with service.database() as connection:
        connection.execute(
            "ALTER TABLE ingest_batch"
            f" DETACH PARTITION partitions.ingest_batch_{day:%Y%m%d} CONCURRENTLY"
        )
    partitions.maintain()
    assert not partition_exists("ingest_batch", day)
    (kept,) = LedgerSum.objects.filter(project_id=project_id(project))
    assert kept.stored == 4


def test_reader_delays_a_drop_and_does_not_break_it(service: Service, project: Project) -> None:
    """An export that reads for seconds; accepting and storing go on meanwhile."""
    expired = [made(partitions.EVENTS, 121), made(partitions.EVENTS, 122)]
    done = threading.Event()
    failures: list[BaseException] = []

    def maintain() -> None:
        try:
            partitions.maintain()
        except psycopg.Error as error:
            failures.append(error)
        finally:
            connections.close_all()
            done.set()

    thread = threading.Thread(target=maintain)
    with service.database() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM ingest_event")
        thread.start()
        wait_for(lambda: _pending(service), 10, "the drop to wait for the reader")
        answer = send(service, project, batch(event()))
        settled(service, project, answer.json["batch_id"])
        done.wait(2.5)  # longer than one wait for a lock lasts
    thread.join()
    assert failures == []
    assert not any(partition_exists("ingest_event", day) for day in expired)


def _interrupt_detach(service: Service, day: date) -> None:
    with service.database() as other:
        other.execute("SET statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            other.execute(
                "ALTER TABLE ingest_event"
                f" DETACH PARTITION partitions.ingest_event_{day:%Y%m%d} CONCURRENTLY"
            )


def _pending(service: Service) -> list[Any]:
    with service.database() as connection:
        return [
            name
            for (name,) in connection.execute(
                "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
                " WHERE inhdetachpending"
            ).fetchall()
        ]
