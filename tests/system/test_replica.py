"""A replica is read from when it is as new as what is asked, and never when it isn't."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.external import PASSWORD, PostgresOfOnesOwn, RedisOfOnesOwn, ReplicaOfOnesOwn
from tests.harness import Project, Service, data_folder, wait_for

# A replica that is left alone is looked at again sooner; what it has read is told 10 s later.
TURN_SECONDS = 40
READ = """
    SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::int8 FROM pg_stat_user_tables
    WHERE relname ^@ %s
"""


@dataclass
class Followed:
    """A service on a database that a replica follows."""

    service: Service
    replica: ReplicaOfOnesOwn
    project: Project

    def on_replica(self, statement: str, *parameters: Any) -> Any:
        """The first value that the replica has to tell."""
        with self.replica.superuser() as connection:
            row = connection.execute(statement, parameters).fetchone()
            assert row is not None
            return row[0]

    def reads(self, table: str) -> int:
        """How often the replica has read tables whose names begin so."""
        return int(self.on_replica(READ, table))

    def send(self, user: str = "ada") -> None:
        """Send an event."""
        event = {"event": uuid4().hex, "timestamp": datetime.now(UTC).isoformat()}
        answer = self.post("/v1/events", self.project.ingest_key, [event], {"X-User-ID": user})
        assert answer.status == 200, answer.text

    def received(self) -> int:
        """How many events have been sent, as the service answers."""
        headers = {"X-API-Key": self.project.secret_key}
        answer = self.service.request("GET", "/v1/query/accounting", headers=headers)
        assert answer.status == 200, answer.text
        return sum(of["received"] for of in answer.json["formats"])

    def exported(self, user: str) -> int:
        """How many events are in a person's export."""
        answer = self.post("/v1/telemetry/export", self.project.secret_key, {"user_id": user})
        assert answer.status == 200, answer.text
        return len(answer.json["events"])

    def post(self, path: str, key: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        sent = {"X-API-Key": key, "Content-Type": "application/json", **(headers or {})}
        return self.service.request("POST", path, json.dumps(body).encode(), sent)


@pytest.fixture(scope="module")
def followed() -> Iterator[Followed]:
    folders = [data_folder() for _ in range(3)]
    postgres, broker = PostgresOfOnesOwn(folders[0]), RedisOfOnesOwn(folders[1])
    replica = postgres.replica(folders[2])
    service = Service(
        DATABASE_URL=postgres.url("telemetry_app"),
        DATABASE_OWNER_URL=postgres.url("telemetry_owner"),
        DATABASE_REPLICA_URL=replica.url("telemetry_app"),
        REDIS_URL=broker.url,
        SECRET_KEY=PASSWORD * 4,
        TELEMETRY_PEPPER=PASSWORD * 4,
    )
    try:
        service.start()
        yield Followed(service, replica, service.create_project("followed"))
    finally:
        service.remove()
        broker.kill()
        replica.stop()
        postgres.stop()
        for folder in folders:
            shutil.rmtree(folder)


def test_questions_and_exports_are_read_from_the_replica(followed: Followed) -> None:
    questions, exports = followed.reads("ingest_batch"), followed.reads("ingest_event_")
    followed.send("ada")
    before = followed.received()

    def is_read() -> bool:
        return followed.received() == before and followed.reads("ingest_batch") > questions

    wait_for(is_read, TURN_SECONDS, "the replica to be asked")

    def is_exported() -> bool:
        return followed.exported("ada") == 1 and followed.reads("ingest_event_") > exports

    wait_for(is_exported, TURN_SECONDS, "an export to be read from the replica")


def test_no_answer_is_older_than_its_question(followed: Followed) -> None:
    before = followed.received()
    for sent in range(1, 11):
        followed.send("ben")
        assert followed.received() == before + sent
    assert followed.exported("ben") == 10


def test_a_replica_that_lags_is_not_read_from(followed: Followed) -> None:
    before = followed.received()
    with followed.replica.superuser() as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        try:
            followed.send("cleo")
            assert followed.received() == before + 1
            assert followed.exported("cleo") == 1
            assert followed.on_replica("SELECT sum(received) FROM ingest_batch") == before
        finally:
            connection.execute("SELECT pg_wal_replay_resume()")
    assert "it lags behind" in followed.service.output


def test_a_server_that_follows_no_longer_is_not_read_from(followed: Followed) -> None:
    """The last test: there is no way back."""
    before = followed.received()
    with followed.replica.superuser() as connection:
        connection.execute("SELECT pg_promote()")
    for sent in range(1, 6):
        followed.send("dora")
        assert followed.received() == before + sent
    told = "it does not follow the database"
    wait_for(lambda: followed.received() and told in followed.service.output, TURN_SECONDS, told)
    followed.replica.stop()
    told = "it does not answer"
    wait_for(lambda: followed.received() and told in followed.service.output, TURN_SECONDS, told)
    assert followed.exported("dora") == 5
