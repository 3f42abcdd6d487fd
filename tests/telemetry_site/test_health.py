"""Is the process up, and does each thing it leans on work?"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client

from privacy.models import DeletionRequest
from telemetry_site import checks
from tests.harness import Project, Service, data_folder, wait_for

NAMES = [
    "disk", "broker", "database", "partitions", "backlog", "storing", "worker", "beat",
    "erasures", "rollups", "forwarding", "replica",
]  # fmt: skip
RUNBOOK = Path(__file__).parents[2] / "docs/operations.md"
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
    assert list(body["checks"]) == NAMES == list(checks.CHECKS)
    for name, found in body["checks"].items():
        assert found["detail"]
        assert found.get("action") == (None if found["ok"] else checks.CHECKS[name].action)


def test_the_runbook_has_an_entry_for_every_check() -> None:
    _, _, runbook = RUNBOOK.read_text().partition("## When something is wrong")
    for name in checks.CHECKS:
        assert f"`{name}` is not ok" in runbook, name


@pytest.fixture(scope="module")
def own() -> Iterator[Service]:
    """A service to do harm to."""
    service = Service(data_folder())
    yield service.start()
    service.remove()


@pytest.fixture
def worked(service: Service, project: Project) -> None:
    """There was something for the worker to do; else it is first seen at beat's first sweep."""
    headers = {"X-API-Key": project.ingest_key, "Content-Type": "application/json"}
    event = {"event": "e", "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "user_id": "u"}
    assert service.request("POST", "/v1/events", json.dumps(event).encode(), headers).status == 200


@pytest.mark.usefixtures("worked")
def test_all_is_well_soon_after_the_start(service: Service) -> None:
    # Other tests let erasures fail, and are through with them.
    DeletionRequest.objects.failed().delete()
    DeletionRequest.objects.overdue().delete()

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
        return not found["ok"] and bool(found["detail"] == f"not seen since {LONG_AGO}")

    wait_for(noticed, SEEN_SECONDS, f"{check} to be found missing")


def _ask_while(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> Any:
    def look() -> checks.Finding:
        raise error

    monkeypatch.setitem(checks.CHECKS, name, checks.Check(look, "Mend it."))
    return Client().get("/readyz")


@pytest.mark.parametrize("name", ["backlog", "beat"])
def test_what_accepting_does_without_leaves_it_ready(
    monkeypatch: pytest.MonkeyPatch, service: Service, name: str
) -> None:
    answer = _ask_while(monkeypatch, name, OperationalError("password of x"))
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert answer.json()["checks"][name]["ok"] is False
    assert answer.json()["checks"][name]["action"] == "Mend it."
    assert "password" not in answer.content.decode()


def test_a_database_that_does_not_answer_makes_it_not_ready_in_time(own: Service) -> None:
    """Frozen, it answers neither yes nor no."""
    servers = own.processes("postgres")
    for process in servers:
        process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = own.request("GET", "/readyz")
        assert time.monotonic() - started < 2 * checks.PATIENCE_SECONDS
    finally:
        for process in reversed(servers):
            process.send_signal(signal.SIGCONT)
    assert answer.status == 503
    assert "retry-after" in answer.headers
    found = answer.json["checks"]
    # As long as a kept connection is waited for; a new one gives up by itself, at about that time.
    assert found["database"]["detail"] in (
        "no answer within 3 s",
        "does not answer (OperationalError)",
    )
    assert found["broker"]["ok"]
    wait_for(lambda: own.request("GET", "/readyz").status == 200, SEEN_SECONDS, "its return")


def test_a_disk_without_room_makes_it_not_ready(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr("django.conf.settings.MIN_FREE_DISK_BYTES", 2**60)
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["disk"]["ok"] is False


def test_a_disk_that_is_nearly_full_is_told_before_it_is(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    monkeypatch.setattr("django.conf.settings.DISK_ALARM_BYTES", 2**60)
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"]["disk"]["ok"] is False


def test_a_day_that_is_missing_is_named(own: Service) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    name = f"ingest_event_{tomorrow:%Y%m%d}"
    with own.database() as connection:
        connection.execute(f"ALTER TABLE ingest_event DETACH PARTITION partitions.{name}".encode())
    found = own.request("GET", "/readyz").json["checks"]["partitions"]
    assert found["detail"] == f"missing: {name}"
    assert found["ok"] is False
    own.manage("shell", "-v0", "-c", "from ingest import partitions; partitions.maintain()")
    assert own.request("GET", "/readyz").json["checks"]["partitions"]["ok"]


def test_storing_goes_on_where_the_batch_before_the_oldest_was_stored_just_now(
    service: Service, project: Project
) -> None:
    insert = """
        INSERT INTO ingest_batch (id, day, project_id, batch_id, format, state, received_at,
            stored_at, received, duplicate, rejected, wire_bytes, body_bytes, request_id, error)
        SELECT nextval('ingest_batch_id_seq'), current_date - 1, id, gen_random_uuid(), 'events',
            state, now() - interval '1 hour', stored_at, 1, 0, 0, 1, 1, '', ''
        FROM ingest_project, (VALUES ('stored', now()), ('received', NULL)) AS b (state, stored_at)
        WHERE slug = %s
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(insert, [project.project])
        backlog, storing = (checks.CHECKS[name].look() for name in ("backlog", "storing"))
        transaction.set_rollback(True)
    assert not backlog.ok
    assert storing == checks.Finding(True, "the last batch was stored 0 s ago")


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
    insert = """
        INSERT INTO ingest_batch (id, day, project_id, batch_id, format, state, received_at,
            received, duplicate, rejected, wire_bytes, body_bytes, request_id, error)
        SELECT nextval('ingest_batch_id_seq'), current_date - 1, id, gen_random_uuid(), 'events',
            'received', now() - interval '1 hour', 1, 0, 0, 1, 1, '', ''
        FROM ingest_project WHERE slug = %s
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(insert, [project.project])
        backlog, storing = (checks.CHECKS[name].look() for name in ("backlog", "storing"))
        transaction.set_rollback(True)
    assert backlog == checks.Finding(False, "the oldest batch waits 3600 s")
    # Nothing before it was ever stored.
    assert storing == checks.Finding(False, "the last batch was stored 3600 s ago")
