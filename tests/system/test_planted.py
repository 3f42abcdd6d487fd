"""Planted secrets, in every dialect and place, are in no table, Redis value, log line or answer."""

import json
import random
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.harness import Answer, Project, Service, wait_for
from tests.system import dumps

STORING_SECONDS = 30


def card() -> str:
    """A number that Visa might have given out."""
    digits = [4, *(random.randrange(10) for _ in range(14))]
    doubled = [digit * 2 if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    total = sum(number // 10 + number % 10 for number in doubled)
    return "".join(map(str, digits)) + str(-total % 10)


def secrets() -> dict[str, str]:
    """What mustn't be found again, unlike anything else in the database."""
    mark = uuid4().hex
    octets = [random.randrange(1, 255) for _ in range(3)]
    return {
        "e-mail": f"alice.{mark[:10]}@example.com",
        "IPv4": f"45.{octets[0]}.{octets[1]}.{octets[2]}",
        "IPv6": f"2a02:8109:{mark[:4]}:{mark[4:8]}::{mark[8:12]}",
        "card": card(),
        "JWT": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{mark}.{mark[::-1]}",
        "API key": f"sk_live_{mark}",
        "home": f"/home/alice{mark[:8]}/",
        "phone": f"+49 151 {random.randrange(10**6, 10**7)}",
        "URL": f"https://bob:{mark}@db.example.org/",
        "user": f"planted-user-{mark[:12]}",
        "session": f"planted-session-{mark[12:24]}",
    }


def escaped(text: str) -> str:
    """As JSON may write it: every character as an escape."""
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


def event(planted: dict[str, str], now: str) -> dict[str, Any]:
    texts = list(planted.values())
    return {
        "event": f"seen {planted['e-mail']}",
        "timestamp": now,
        "user_id": planted["user"],
        "session_id": planted["session"],
        "level": planted["e-mail"],
        "message": " and ".join(texts),
        "card": int(planted["card"]),
        "password": f"pass {planted['API key']}",
        "target_user_id": planted["user"],
        planted["e-mail"]: 1,
        "deep": [{"list": [{planted["IPv4"]: texts}]}],
        "address": f"/search?q={quote(planted['e-mail'], safe='')}&from={quote(planted['user'])}",
        "inner": json.dumps({"json": texts}),
        "escaped": "ESCAPED",
    }


def bodies(planted: dict[str, str]) -> list[tuple[str, str]]:
    """Path and body, one at least of each dialect, good ones and bad ones."""
    now = datetime.now(UTC).isoformat()
    whole = event(planted, now)
    native = {"client_version": planted["e-mail"], "events": [whole, {**whole, "timestamp": "no"}]}
    browser = {
        "level": "error",
        "scope": planted["e-mail"],
        "sessionId": planted["session"],
        "message": whole["message"],
        "timestamp": now,
        "requestId": planted["card"],
        "context": {**whole, "userId": planted["user"]},
    }
    metric = {
        "name": f"of {planted['e-mail']}",
        "type": "gauge",
        "value": 1,
        "user_id": planted["user"],
        "tags": {planted["e-mail"]: 1, "path": planted["home"], "who": planted["user"]},
    }
    snapshot = {"node_id": planted["e-mail"], "timestamp": now, planted["e-mail"]: 1.5}
    sent = [
        ("/v1/events", native),
        ("/v1/submit", {"events": [{**whole, "n": 1}]}),
        ("/api/client-telemetry", {"events": [browser, {**browser, "level": planted["e-mail"]}]}),
        ("/v1/metrics", {"metrics": [metric, {**metric, "type": planted["e-mail"]}]}),
        ("/api/telemetry/snapshot", snapshot),
    ]
    texts = [(path, json.dumps(body)) for path, body in sent]
    texts = [(path, text.replace("ESCAPED", escaped(planted["e-mail"]))) for path, text in texts]
    return texts + [(path, text[:-40]) for path, text in texts]


@pytest.fixture(scope="module")
def planted() -> dict[str, str]:
    return secrets()


@pytest.fixture(scope="module")
def answers(service: Service, planted: dict[str, str]) -> list[Answer]:
    """What the service said to all of it, once everything that was accepted is stored."""
    project = service.create_project(f"planted {uuid4().hex}")
    found = [_send(service, project, path, body, planted) for path, body in bodies(planted)]
    found += _odd_requests(service, project, planted)
    wait_for(lambda: _waiting(service) == 0, STORING_SECONDS, "everything to be stored")
    return found


def _send(
    service: Service, project: Project, path: str, body: str, planted: dict[str, str]
) -> Answer:
    headers = {
        "X-API-Key": project.ingest_key,
        "Content-Type": "application/json",
        "User-Agent": planted["e-mail"],
        "X-User-ID": planted["user"],
        "X-Client-Version": planted["e-mail"],
        "X-Request-ID": planted["card"],
        "Referer": planted["URL"],
        "X-Forwarded-For": planted["IPv4"],
    }
    return service.request("POST", path, body.encode(), headers)


def _odd_requests(service: Service, project: Project, planted: dict[str, str]) -> list[Answer]:
    where = quote(planted["e-mail"])
    key = {"X-API-Key": project.secret_key}
    return [
        service.request("GET", f"/nothing/{where}"),
        service.request("GET", f"/v1/batches/{where}"),
        service.request("GET", f"/v1/query/accounting?from={where}", headers=key),
        service.request("POST", "/v1/events", b"[]", {"X-API-Key": planted["API key"]}),
        service.request("POST", f"/v1/events?key={planted['API key']}", b"[]"),
        service.request("POST", f"/v1/events?key={project.ingest_key}&who={where}", b"[]"),
        service.request("POST", "/v1/events", b"[]", {"Authorization": f"Bearer {planted['JWT']}"}),
    ]


def _waiting(service: Service) -> int:
    with service.database() as connection:
        row = connection.execute("SELECT count(*) FROM ingest_batch WHERE state = 'received'")
        return int(row.fetchone()[0])


def found(text: str, planted: dict[str, str]) -> list[str]:
    """Which of the planted are in there, as they are or with their slashes escaped."""
    return [kind for kind, secret in planted.items() if secret in text.replace("\\/", "/")]


def test_it_was_taken_and_refused_as_it_should(answers: list[Answer]) -> None:
    statuses = [answer.status for answer in answers]
    assert statuses[:5] == [200, 200, 204, 200, 200]
    assert statuses[5:10] == [400] * 5
    assert statuses[10:] == [404, 404, 400, 401, 401, 415, 401]


def test_no_answer_holds_any(answers: list[Answer], planted: dict[str, str]) -> None:
    for answer in answers:
        assert not found(answer.text + str(answer.headers), planted), answer


@pytest.mark.usefixtures("answers")
def test_no_table_holds_any(service: Service, planted: dict[str, str]) -> None:
    assert not found(dumps.of_postgres(service), planted)


@pytest.mark.usefixtures("answers")
def test_redis_holds_none(service: Service, planted: dict[str, str]) -> None:
    assert not found(dumps.of_redis(service), planted)


@pytest.mark.usefixtures("answers")
def test_no_log_line_holds_any(service: Service, planted: dict[str, str]) -> None:
    assert "POST /v1/events" in service.output
    assert not found(service.output, planted)
