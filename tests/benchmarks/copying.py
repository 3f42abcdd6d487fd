"""The ceiling: nothing but decoding and `COPY`, into a table like the service's, unpartitioned."""

import gzip
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from tests.benchmarks import cpu, samples
from tests.benchmarks.stacks import Ours

TABLE = "bench_copy"
BATCHES_A_TRANSACTION = 50
_COPY = f"""
    COPY {TABLE} (project_id, occurred_at, batch_id, position, subject, session, name, category,
        level, client_version, message, properties)
    FROM STDIN (FORMAT BINARY)
"""
_TYPES = ["int4", "timestamptz", "uuid", "int2", "bytea", "bytea", *["text"] * 5, "jsonb"]


class _Event(msgspec.Struct):
    event: str
    timestamp: datetime
    user_id: str
    session_id: str
    category: str
    level: str
    properties: msgspec.Raw
    message: str | None = None


class _Batch(msgspec.Struct):
    batch_id: UUID
    client_version: str
    events: list[_Event]


_decode = msgspec.json.Decoder(_Batch).decode


class _JsonText(Dumper):
    """The wire's own text as jsonb."""

    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: msgspec.Raw) -> bytes:
        return b"\x01" + bytes(obj)


def run(ours: Ours, batches: int, events: int, seed: int) -> float:
    """Events per CPU-second of the copying process and PostgreSQL."""
    with ours.superuser() as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (LIKE ingest_event INCLUDING ALL)")
        pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_copy_all, args=(theirs, connection.info.dsn, batches, events, seed)
        )
        process.start()
        pipe.send(connection.info.password)  # the DSN doesn't tell it
        assert pipe.poll(300), "the copying process isn't ready"
        pipe.recv()
        before = cpu.usage({"postgres": ours.parents["postgres"]})
        pipe.send("go")
        assert pipe.poll(300), "the copying process doesn't end"
        used: float = pipe.recv()
        process.join(10)
        used += (cpu.usage({"postgres": ours.parents["postgres"]}) - before).total
        found = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
        assert found == (batches * events,), found
        connection.execute(f"DROP TABLE {TABLE}")
    return batches * events / used


def _copy_all(pipe: Connection, dsn: str, batches: int, events: int, seed: int) -> None:
    password = pipe.recv()
    bodies = samples.batches(batches, events, seed)
    pipe.send("ready")
    pipe.recv()
    begun = time.process_time()
    with psycopg.connect(dsn, password=password) as connection:
        for start in range(0, batches, BATCHES_A_TRANSACTION):
            _copy(connection, bodies[start : start + BATCHES_A_TRANSACTION])
            connection.commit()
    pipe.send(time.process_time() - begun)


def _copy(connection: psycopg.Connection[Any], bodies: Iterable[bytes]) -> None:
    cursor = connection.cursor()
    cursor.adapters.register_dumper(msgspec.Raw, _JsonText)
    with cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for body in bodies:
            for row in _rows(_decode(gzip.decompress(body))):
                copy.write_row(row)


def _rows(batch: _Batch) -> Iterator[tuple[Any, ...]]:
    for position, event in enumerate(batch.events):
        yield (
            1,
            event.timestamp,
            batch.batch_id,
            position,
            event.user_id.encode(),
            event.session_id.encode(),
            event.event,
            event.category,
            event.level,
            batch.client_version,
            event.message,
            event.properties,
        )
