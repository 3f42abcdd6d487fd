"""Somebody is erased; then every dump there is is searched for them: nothing but the tombstone.

Their identifiers and values come in by every dialect, and are in every store when it begins:
stored, waiting, dead, in an export, in the counters of limits, among consent and requests.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.harness import Project, Service, wait_for
from tests.system import dumps

SETTLING_SECONDS = 90
TIMES = (timedelta(), timedelta(days=30), timedelta(days=-400))


@dataclass(frozen=True)
class Planted:
    """One person: what they are called, and what nobody else has written."""

    project: Project
    user: str
    session: str
    value: str

    @property
    def traces(self) -> list[str]:
        return [self.user, self.session, self.value]


def somebody(project: Project) -> Planted:
    mark = re.sub("[0-9]", "q", uuid4().hex)
    return Planted(project, f"person{mark[:12]}", f"visit{mark[12:24]}", f"wrote{mark[:20]}")


def post(service: Service, project: Project, path: str, content: Any, key: str = "") -> Any:
    answer = service.request(
        "POST",
        path,
        json.dumps(content).encode(),
        {"X-API-Key": key or project.ingest_key, "Content-Type": "application/json"},
    )
    assert answer.status in (200, 202, 204), answer
    return answer.json if answer.text else None


def send(service: Service, who: Planted, *others: Planted) -> None:
    """Something of the person by every dialect, with others' in the same batches."""
    for path in ("/v1/events", "/v1/submit"):
        events = [_event(one, ago) for one in (who, *others) for ago in TIMES]
        post(service, who.project, path, {"events": events})
    browser = [
        {
            "level": "error", "scope": one.value, "message": one.value, "sessionId": one.session,
            "timestamp": datetime.now(UTC).isoformat(),
            "context": {"userId": one.user, "note": one.value},
        }
        for one in (who, *others)
    ]  # fmt: skip
    # And one before anybody had logged in.
    nameless = {**browser[0], "context": {"note": who.value}}
    post(service, who.project, "/api/client-telemetry", {"events": [*browser, nameless]})
    points = [
        {"name": one.value, "type": "gauge", "value": 1, "user_id": one.user,
         "tags": {"note": one.value}}
        for one in (who, *others)
    ]  # fmt: skip
    post(service, who.project, "/v1/metrics", {"metrics": points})


def _event(who: Planted, ago: timedelta) -> dict[str, Any]:
    return {
        "event": who.value,
        "timestamp": (datetime.now(UTC) - ago).isoformat(),
        "user_id": who.user,
        "session_id": who.session,
        "message": f"{who.value} of {who.user}",
        "note": who.value,
        "nonce": str(uuid4()),
    }


@pytest.fixture(scope="module")
def erased(service: Service) -> Iterator[tuple[Planted, Planted, dict[str, Any], str]]:
    """Who was erased, who was not, the receipt, and the pseudonym."""
    project = service.create_project(f"erased {uuid4().hex}")
    with service.superuser() as connection:
        connection.execute(
            "UPDATE ingest_project SET users_optional = true WHERE slug = %s", [project.project]
        )
        gone, other = somebody(project), somebody(project)
        send(service, gone, other)
        wait_for(lambda: not _waiting(service), SETTLING_SECONDS, "everything to be stored")
        connection.execute(
            "INSERT INTO telemetry_site_pause (queue, since, by, reason)"
            " VALUES ('ingest', now(), 'test', 'a test')"
        )
        try:
            wait_for(lambda: not _storing(service), SETTLING_SECONDS, "storing to pause")
            send(service, gone, other)
            connection.execute(
                "UPDATE ingest_batch SET state = 'dead', dead = received - rejected"
                " WHERE state = 'received' AND id % 2 = 0"
            )
            send(service, gone, other)
            subject = _subject(service, gone)
            _export(service, gone)
            there = set(_found(service, gone, subject))
            assert there >= {"payloads", "exports", "public.privacy_exportrequest"}, there
            receipt = _erase(service, gone)
            yield gone, other, receipt, subject
        finally:
            connection.execute("DELETE FROM telemetry_site_pause WHERE queue = 'ingest'")


def _waiting(service: Service) -> int:
    with service.database() as connection:
        row = connection.execute("SELECT count(*) FROM ingest_batch WHERE state = 'received'")
        return int(row.fetchone()[0])


def _storing(service: Service) -> bool:
    """Whether a batch that waits is being stored; notes of attempts may be left by others."""
    query = """
        SELECT FROM ingest_attempt JOIN ingest_batch ON ingest_batch.id = ANY(batches)
        WHERE state = 'received' LIMIT 1
    """
    with service.database() as connection:
        return bool(connection.execute(query).rowcount)


def _subject(service: Service, who: Planted) -> str:
    """What stands for the person in the database."""
    query = "SELECT encode(subject, 'hex') FROM ingest_event WHERE name = %s"
    with service.database() as connection:
        row = connection.execute(query, [who.value]).fetchone()
        return str(row[0])


def _export(service: Service, who: Planted) -> None:
    """A file with all of it, that waits to be fetched."""
    body = json.dumps({"user_id": who.user}).encode()
    headers = {"X-API-Key": who.project.secret_key, "Content-Type": "application/json",
               "Prefer": "respond-async"}  # fmt: skip
    answer = service.request("POST", "/v1/telemetry/export", body, headers)
    assert answer.status == 202, answer
    query = "SELECT FROM privacy_exportrequest WHERE id = %s AND state = 'done'"
    with service.database() as connection:
        wait_for(
            lambda: connection.execute(query, [answer.json["export_id"]]).rowcount,
            SETTLING_SECONDS,
            "the export",
        )


def _erase(service: Service, who: Planted) -> dict[str, Any]:
    key = who.project.secret_key
    consent = {"user_id": who.user, "categories": {"business": False}}
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    body = json.dumps(consent).encode()
    assert service.request("PUT", "/v1/telemetry/consent", body, headers).status == 200
    asked = post(
        service, who.project, "/v1/telemetry/delete", {"user_id": who.user, "grace_days": 0}, key
    )
    token = {"deletion_token": asked["deletion_token"]}

    def receipt() -> Any:
        told = post(service, who.project, "/v1/telemetry/delete/status", token)
        assert told["status"] != "failed", told
        return told["receipt"]

    found: dict[str, Any] = wait_for(receipt, SETTLING_SECONDS, "the receipt")
    # The schedule's next run counts anew what the person was counted in.
    service.manage("rollup", "--project", who.project.project)
    return found


def _found(service: Service, who: Planted, subject: str) -> list[str]:
    """Where the person is found; the tombstone by its table."""
    found = [
        line.split("VALUES")[0].removeprefix("INSERT INTO ").strip()
        for line in dumps.of_postgres(service).splitlines()
        if any(trace in line for trace in (*who.traces, subject))
    ]
    exported = dumps.of_exports(service)
    if any(trace.encode() in exported for trace in (*who.traces, subject)):
        found.append("exports")
    payloads = dumps.of_payloads(service)
    if bytes.fromhex(subject) in payloads or any(t.encode() in payloads for t in who.traces):
        found.append("payloads")
    redis = dumps.of_redis(service)
    if any(trace in redis for trace in (*who.traces, subject, repr(bytes.fromhex(subject))[2:-1])):
        found.append("redis")
    if any(trace in service.output for trace in (*who.traces, subject)):
        found.append("the log")
    return found


def test_nothing_is_left_but_the_tombstone(
    service: Service, erased: tuple[Planted, Planted, dict[str, Any], str]
) -> None:
    gone, _, _, subject = erased
    assert _found(service, gone, subject) == ["public.privacy_personrestriction"]


def test_receipt_says_what_was_erased_and_what_is_not_reached(
    erased: tuple[Planted, Planted, dict[str, Any], str],
) -> None:
    _, _, receipt, _ = erased
    # Natively and by /v1/submit three times each, of the browser one with and one without a name.
    assert receipt["erased"]["ingest_event"] == 8
    assert receipt["erased"]["ingest_metricpoint"] == 1
    assert receipt["erased"]["ingest_batch"] == 18
    assert receipt["erased"]["privacy_consentchange"] == 1
    assert receipt["erased"]["privacy_exportrequest"] == 1
    assert receipt["verified"]["found"] == 0
    assert any("Backups" in sentence for sentence in receipt["not_reached"])


def test_the_other_person_is_all_there(
    service: Service, erased: tuple[Planted, Planted, dict[str, Any], str]
) -> None:
    _, other, _, _ = erased
    lines = [line for line in dumps.of_postgres(service).splitlines() if other.value in line]
    assert len([line for line in lines if "partitions.ingest_event" in line]) == 7
    assert len([line for line in lines if "partitions.ingest_metricpoint" in line]) == 1
    assert dumps.of_payloads(service).count(other.session.encode()) == 0, "sessions are hashed"
    assert dumps.of_payloads(service).count(other.value.encode()) > 20
