"""Is the process up, and does each thing it leans on work?"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from telemetry_site import health
from tests.harness import Project, Service, wait_for

NAMES = ["database", "disk", "broker", "worker", "beat", "backlog"]
SEEN_SECONDS = 30
LONG_AGO = "2020-01-02T03:04:05Z"


def ready(service: Service) -> dict[str, Any]:
    answer = service.request("GET", "/readyz")
    assert answer.status == 200, answer.text
    body: dict[str, Any] = answer.json
    return body


def test_healthz_says_that_the_process_is_up(service: Service) -> None:
    answer = service.request("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_readyz_names_every_check_with_a_sentence(service: Service) -> None:
    body = ready(service)
    assert body.keys() == {"status", "checks"}
    assert list(body["checks"]) == NAMES == list(health.CHECKS)
    for found in body["checks"].values():
        assert found.keys() == {"ok", "detail"}
        assert found["detail"]


@pytest.fixture
def worked(service: Service, project: Project) -> None:
    """There was something for the worker to do; else it is first seen at beat's first sweep."""
    headers = {"X-API-Key": project.ingest_key, "Content-Type": "application/json"}
    event = {"event": "e", "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "user_id": "u"}
    assert service.request("POST", "/v1/events", json.dumps(event).encode(), headers).status == 200


@pytest.mark.usefixtures("worked")
def test_all_is_well_soon_after_the_start(service: Service) -> None:
    def well() -> bool:
        return all(found["ok"] for found in ready(service)["checks"].values())

    wait_for(well, SEEN_SECONDS, "every check to be ok")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/ping", "/v1/info"])
def test_no_key_is_asked_for_and_a_wrong_one_does_no_harm(service: Service, path: str) -> None:
    headers = {"X-API-Key": "wrong", "Authorization": "Bearer wrong"}
    assert service.request("GET", path, headers=headers).status == 200


@contextmanager
def expired(service: Service, lease: str) -> Iterator[None]:
    """Meanwhile the lease has run out, unless its living holder renews it in between."""
    find = "SELECT until FROM telemetry_site_lease WHERE name = %s"
    change = "UPDATE telemetry_site_lease SET until = %s WHERE name = %s"
    with service.database() as connection:
        row = wait_for(
            lambda: connection.execute(find, [lease]).fetchone(), SEEN_SECONDS, f"lease {lease}"
        )
        connection.execute(change, [LONG_AGO, lease])
        yield
        connection.execute(f"{change} AND until = %s", [row[0], lease, LONG_AGO])


@pytest.mark.usefixtures("worked")
@pytest.mark.parametrize(("check", "lease"), [("worker", "ingest worker"), ("beat", "beat")])
def test_what_stopped_renewing_its_lease_is_named_and_the_service_stays_ready(
    service: Service, check: str, lease: str
) -> None:
    def noticed() -> bool:
        with expired(service, lease):
            body = ready(service)
        assert body["status"] == "ready"
        found = body["checks"][check]
        return bool(found == {"ok": False, "detail": f"not seen since {LONG_AGO}"})

    wait_for(noticed, SEEN_SECONDS, f"{check} to be found missing")


def _ask_while(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> Any:
    def check() -> health.Finding:
        raise error

    monkeypatch.setitem(health.CHECKS, name, (check, health.CHECKS[name][1]))
    return Client().get("/readyz")


@pytest.mark.parametrize(("name", "status"), [("database", 503), ("backlog", 200), ("beat", 200)])
def test_only_what_accepting_needs_makes_it_not_ready(
    monkeypatch: pytest.MonkeyPatch, service: Service, name: str, status: int
) -> None:
    answer = _ask_while(monkeypatch, name, OperationalError("password of x"))
    assert answer.status_code == status
    assert answer.json()["status"] == ("ready" if status == 200 else "not ready")
    assert answer.json()["checks"][name]["ok"] is False
    assert "password" not in answer.content.decode()
    assert (status == 503) == ("Retry-After" in answer)


def test_a_disk_that_is_nearly_full_makes_it_not_ready(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr("django.conf.settings.MIN_FREE_DISK_BYTES", 2**60)
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["disk"]["ok"] is False


def test_a_broker_that_is_gone_leaves_it_ready(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr("django.conf.settings.REDIS", "unix:///nowhere/redis.sock")
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    assert "storing pauses" in answer.json()["checks"]["broker"]["detail"]


def test_a_batch_that_waits_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch, service: Service, project: Project
) -> None:
    """A batch that no worker sees, for it is in a transaction of this test's own."""
    from django.db import connection, transaction

    insert = """
        INSERT INTO ingest_batch (id, day, project_id, batch_id, format, state, received_at,
            received, duplicate, rejected, wire_bytes, body_bytes, request_id, error)
        SELECT nextval('ingest_batch_id_seq'), current_date - 1, id, gen_random_uuid(), 'events',
            'received', now() - interval '1 hour', 1, 0, 0, 1, 1, '', ''
        FROM ingest_project WHERE slug = %s
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(insert, [project.project])
        found = health.CHECKS["backlog"][0]()
        transaction.set_rollback(True)
    assert found == health.Finding(False, "the oldest batch waits 3600 s")
