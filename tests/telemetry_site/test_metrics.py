"""`/metrics` of the real service: it tells what happens in any of its processes, and of nobody."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from ingest import partitions
from ingest.models import ApiKey, Batch, Block, Delivery
from ingest.models import Project as Row
from ingest.records import StoredRecord
from privacy.models import DeletionRequest
from telemetry_site import checks
from telemetry_site.celery import QUEUES, app
from telemetry_site.models import Pause
from telemetry_site.monitoring.table import METRICS
from telemetry_site.queues import tell_of_pauses
from tests.harness import Project, Service, wait_for
from tests.ingest.otlp import JSON, log, logs, metrics, written
from tests.ingest.outbox import NOWHERE, backing_off, deliver, own_destination
from tests.ingest.sending import accepted, batch, event, moment, send, settled
from tests.ingest.waiting import plant, record, storing
from tests.telemetry_site.scraping import Reading, ask, read, scrape

SEEN_SECONDS = 30.0
OLDEST_DELIVERY = "telemetry_deliveries_oldest_seconds"


class Change:
    """What was counted since this was made."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # Batches of earlier tests may still be on their way.
        wait_for(self._nothing_waits, SEEN_SECONDS, "earlier batches to be stored")
        self._before = scrape(service)

    def _nothing_waits(self) -> bool:
        with self._service.database() as database:
            query = "SELECT NOT EXISTS (SELECT FROM ingest_batch WHERE state = 'received')"
            return bool(database.execute(query).fetchone() == (True,))

    def of(self, sample: str, **labels: str) -> float:
        now = scrape(self._service)
        return now.value(sample, **labels) - self._before.value(sample, **labels)

    def becomes(self, expected: float, sample: str, **labels: str) -> None:
        """Wait until it does: another process counts once it has committed."""
        wait_for(
            lambda: self.of(sample, **labels) == expected,
            SEEN_SECONDS,
            f"{sample} {labels} to grow by {expected:g}; it grew by {self.of(sample, **labels):g}",
        )


@pytest.fixture
def change(service: Service) -> Change:
    return Change(service)


# --- batches and events ---

SNAPSHOT = {"node_id": "n", "cpu_percent": 1.5}
PAGE = {"level": "info", "scope": "checkout", "sessionId": "s", "message": "Opened"}
GAUGE = Metric(name="m", gauge={"data_points": [{"as_int": 1}]})
# Format -> path, route, what is sent with its time, and how many events it is.
FORMATS: dict[str, tuple[str, str, Callable[[], Any], int]] = {
    "events": ("/v1/events", "events", lambda: batch(event(), event(), event()), 3),
    "submit": ("/v1/submit", "submit", lambda: {"events": [event(user_id=None)] * 2}, 2),
    "client_telemetry": (
        "/api/client-telemetry", "client-telemetry",
        lambda: {"events": [PAGE | {"timestamp": moment()}]}, 1,
    ),
    "metrics": (
        "/v1/metrics", "metrics",
        lambda: {"node_id": "n", "metrics": [{"name": "a", "type": "gauge", "value": 4}] * 2}, 2,
    ),
    "snapshot": (
        "/api/telemetry/snapshot", "snapshot", lambda: SNAPSHOT | {"timestamp": moment()}, 1,
    ),
    "otlp_metrics": (
        "/otlp/v1/metrics", "otlp-metrics",
        lambda: json.loads(written(metrics(GAUGE), JSON)), 1,
    ),
    "otlp_logs": ("/otlp/v1/logs", "otlp-logs", lambda: json.loads(written(logs(log()), JSON)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_batch_is_counted_where_it_is_accepted_and_where_it_is_stored(
    service: Service, project: Project, change: Change, name: str
) -> None:
    path, route, make, number = FORMATS[name]
    answer = send(service, project, make(), {"X-User-ID": "somebody"}, path)
    assert answer.status in {200, 204}, answer
    status = str(answer.status)
    assert change.of("telemetry_requests_total", route=route, status=status) == 1
    assert change.of("telemetry_batch_events_count", format=name) == 1
    assert change.of("telemetry_batch_events_sum", format=name) == number
    assert change.of("telemetry_accept_seconds_count", format=name) == 1
    assert 0 < change.of("telemetry_accept_seconds_sum", format=name) < SEEN_SECONDS
    # That is the worker's.
    change.becomes(number, "telemetry_events_total", format=name, outcome="stored")
    change.becomes(1, "telemetry_accepted_to_stored_seconds_count", format=name)
    took = change.of("telemetry_accepted_to_stored_seconds_sum", format=name)
    assert 0 < took < SEEN_SECONDS
    for outcome in ("duplicate", "rejected", "dead"):
        assert change.of("telemetry_events_total", format=name, outcome=outcome) == 0


def test_a_batch_sent_again_is_a_duplicate(
    service: Service, project: Project, change: Change
) -> None:
    content = batch(event(), event())
    for _ in range(3):
        batch_id = accepted(send(service, project, content))
    settled(service, project, batch_id)
    change.becomes(2, "telemetry_events_total", outcome="stored")
    assert change.of("telemetry_events_total", outcome="duplicate") == 4
    assert change.of("telemetry_batch_events_count") == 3


def test_refused_events_are_rejected_beside_good_ones_and_alone(
    service: Service, project: Project, change: Change
) -> None:
    bad = event(timestamp=None)
    accepted(send(service, project, batch(event(), bad)))
    assert send(service, project, batch(bad, bad)).status == 400
    assert change.of("telemetry_events_total", format="events", outcome="rejected") == 3
    assert change.of("telemetry_batch_events_count") == 1
    assert change.of("telemetry_requests_total", route="events", status="400") == 1


def test_a_body_that_cannot_be_read_is_a_request_and_no_batch(
    service: Service, project: Project, change: Change
) -> None:
    assert send(service, project, b"{").status == 400
    assert change.of("telemetry_requests_total", route="events", status="400") == 1
    assert change.of("telemetry_batch_events_count") == 0
    assert change.of("telemetry_events_total") == 0


def test_what_is_over_a_limit_is_counted_by_the_rule(
    service: Service, project: Project, change: Change
) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"events.user": "1/h"})
    answers = [send(service, project, batch(), {"X-User-ID": "u"}).status for _ in range(3)]
    assert answers == [200, 429, 429]
    assert change.of("telemetry_rate_limited_total", rule="events.user") == 2
    assert change.of("telemetry_rate_limited_total") == 2
    assert change.of("telemetry_requests_total", route="events", status="429") == 2


def test_who_is_blocked_is_counted_as_such(
    service: Service, project: Project, change: Change
) -> None:
    key = ApiKey.objects.get(project__slug=project.project, scope="ingest")
    until = timezone.now() + timedelta(hours=1)
    Block.objects.create(api_key=key, until=until, reason="test")
    assert send(service, project, batch()).status == 429
    assert change.of("telemetry_rate_limited_total", rule="block") == 1
    Block.objects.get(api_key=key).lift()


def test_events_that_cannot_be_stored_are_dead(
    service: Service, project: Project, change: Change
) -> None:
    unreadable = plant(project, b"no payload", received=3)
    change.becomes(3, "telemetry_events_total", format="events", outcome="dead")
    unreadable.refresh_from_db()
    assert unreadable.state == "dead"
    assert change.of("telemetry_events_total", outcome="stored") == 0
    wait_for(lambda: scrape(service).value("telemetry_dead_batches"), SEEN_SECONDS, "a dead batch")


def test_of_a_batch_that_is_dead_in_part_the_rest_is_stored(
    service: Service, project: Project, change: Change
) -> None:
    records: list[StoredRecord] = [record(0), record(1, properties=b'{"a": "\\u0000"}'), record(2)]
    plant(project, records)
    change.becomes(1, "telemetry_events_total", outcome="dead")
    change.becomes(2, "telemetry_events_total", outcome="stored")


def test_a_replayed_batch_counts_what_is_stored_now_and_no_time(
    service: Service, project: Project, change: Change
) -> None:
    """It had three events, of which one was dead and can be stored now."""
    plant(project, [record(2)], received=3, stored=2, error="22P05 it was")
    change.becomes(1, "telemetry_events_total", outcome="stored")
    assert change.of("telemetry_accepted_to_stored_seconds_count") == 0


# --- routes ---


def test_a_path_of_no_route_is_counted_and_not_told(service: Service, change: Change) -> None:
    secret = uuid4().hex
    for path in (f"/{secret}", f"/v1/batches/{secret}-{secret}", f"/v1/events/{secret}?k={secret}"):
        assert service.request("GET", path).status == 404
    assert change.of("telemetry_requests_total", route="unrouted", status="404") == 3
    assert secret not in scrape(service).text


def test_a_route_with_an_id_in_it_is_one(
    service: Service, project: Project, change: Change
) -> None:
    ids = [str(uuid4()) for _ in range(3)]
    for batch_id in ids:
        send_key = {"X-API-Key": project.ingest_key}
        assert service.request("GET", f"/v1/batches/{batch_id}", headers=send_key).status == 404
    assert change.of("telemetry_requests_total", route="batch", status="404") == 3
    assert not any(batch_id in scrape(service).text for batch_id in ids)


def test_a_wrong_host_is_counted_too(service: Service, change: Change) -> None:
    assert service.request("GET", "/v1/ping", headers={"Host": "elsewhere"}).status == 400
    assert change.of("telemetry_requests_total", route="unrouted", status="400") == 1


# --- tasks ---

TASK = "ingest.tasks.expire_claims"


@pytest.fixture
def held(service: Service) -> Iterator[None]:
    """What the task needs is somebody else's: it waits."""
    with service.database() as database, database.transaction():
        database.execute("LOCK TABLE ingest_attempt")
        yield


def _waits_for_what_is_held(service: Service) -> bool:
    query = "SELECT FROM pg_locks WHERE relation = 'ingest_attempt'::regclass AND NOT granted"
    with service.database() as database:
        return database.execute(query).rowcount > 0


def test_a_task_that_succeeds_is_counted_with_its_time(change: Change) -> None:
    app.send_task(TASK, queue="default")
    change.becomes(1, "telemetry_tasks_total", task=TASK, outcome="succeeded")
    assert change.of("telemetry_task_seconds_count", task=TASK) == 1
    assert 0 < change.of("telemetry_task_seconds_sum", task=TASK) < SEEN_SECONDS


@pytest.mark.usefixtures("held")
def test_a_task_that_fails_is_counted_with_its_time(change: Change) -> None:
    app.send_task(TASK, queue="default", soft_time_limit=1)
    change.becomes(1, "telemetry_tasks_total", task=TASK, outcome="failed")
    assert change.of("telemetry_task_seconds_sum", task=TASK) >= 1
    assert change.of("telemetry_tasks_total", task=TASK) == 1


@pytest.mark.usefixtures("held")
def test_a_task_over_its_time_limit_is_killed_and_counted_once(
    service: Service, change: Change
) -> None:
    app.send_task(TASK, queue="default", soft_time_limit=5, time_limit=6)
    wait_for(lambda: _waits_for_what_is_held(service), SEEN_SECONDS, "the task to wait")
    _, process = service.processes("default")
    process.suspend()  # that it doesn't hear of the softer limit
    change.becomes(1, "telemetry_tasks_total", task=TASK, outcome="killed")
    # The next one comes after it, and after all that was told of it.
    app.send_task("ingest.tasks.flush_violations", queue="default")
    wait_for(
        lambda: change.of("telemetry_tasks_total", task="ingest.tasks.flush_violations"),
        SEEN_SECONDS,
        "the next task",
    )
    assert change.of("telemetry_tasks_total", task=TASK) == 1


def test_a_task_that_comes_too_late_is_counted_as_expired(change: Change) -> None:
    app.send_task(TASK, queue="default", expires=timezone.now() - timedelta(minutes=1))
    change.becomes(1, "telemetry_tasks_total", task=TASK, outcome="expired")
    assert change.of("telemetry_task_seconds_count", task=TASK) == 0


def test_a_revoked_task_is_counted_as_such(change: Change) -> None:
    task_id = str(uuid4())
    app.control.broadcast("revoke", {"task_id": task_id}, reply=True, limit=2)
    app.send_task(TASK, queue="default", task_id=task_id)
    change.becomes(1, "telemetry_tasks_total", task=TASK, outcome="revoked")
    assert change.of("telemetry_tasks_total", task=TASK, outcome="succeeded") == 0


# --- what is asked ---


def test_the_checks_are_those_of_readyz_and_become_ok(service: Service, project: Project) -> None:
    # Other tests let erasures fail and deliveries wait, and are through with them.
    Delivery.objects.filter(state="waiting").delete()
    DeletionRequest.objects.failed().delete()
    DeletionRequest.objects.overdue().delete()
    accepted(send(service, project, batch()))
    found = wait_for(
        lambda: (reading := scrape(service)) and all(reading.checks.values()) and reading.checks,
        SEEN_SECONDS,
        "every check to be ok",
    )
    assert found.keys() == checks.CHECKS.keys()


def test_the_backlog_and_its_age_are_told(project: Project) -> None:
    """Of batches that no worker sees, for they are in a transaction of this test's own."""
    from telemetry_site.monitoring import figures

    # What arrived first is the oldest, whatever it says of itself.
    wait_for(lambda: not Batch.objects.filter(state="received").exists(), 30, "an empty ledger")
    with storing():
        plant(project, [record()], received_at=timezone.now() - timedelta(hours=1))
        plant(project, [record()])
        plant(project, [record()], state="dead")
        told = {name: value for name, _, value in figures._ledger()}
    assert told["telemetry_waiting_batches"] >= 2
    assert told["telemetry_waiting_oldest_seconds"] >= 3600
    assert told["telemetry_dead_batches"] >= 1


def test_the_outbox_and_its_lag_are_told(project: Project) -> None:
    from telemetry_site.monitoring import figures

    with storing():
        before = {name: value for name, _, value in figures._outbox()}
        destination = backing_off(project)
        deliver(destination, "waiting", waiting_since=timezone.now() - timedelta(hours=2))
        for state in ("waiting", "dead", "expired", "delivered"):
            deliver(destination, state)
        told = {name: value - before[name] for name, _, value in figures._outbox()}
        oldest = {name: value for name, _, value in figures._outbox()}[OLDEST_DELIVERY]
    assert oldest >= 7200
    del told[OLDEST_DELIVERY]
    assert told == {
        "telemetry_deliveries_waiting": 2,
        "telemetry_deliveries_undelivered": 2,
        "telemetry_destinations_failing": 1,
    }


def test_what_waits_for_a_collector_nobody_can_reach_is_counted_as_retried(
    service: Service, project: Project, change: Change
) -> None:
    """By the worker, of whom the instance has none."""
    destination = own_destination(project, NOWHERE)
    settled(service, project, accepted(send(service, project, batch())))
    change.becomes(1, "telemetry_deliveries_total", signal="logs", outcome="retried")
    assert change.of("telemetry_deliveries_total") == 1
    assert change.of("telemetry_forward_seconds_count", signal="logs", outcome="retry") == 1
    assert change.of("telemetry_forwarded_items_total") == 0
    destination.delete()
    Delivery.objects.filter(destination_id=destination.pk).delete()


def test_nothing_is_counted_without_a_bound(
    monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    from ingest import backlog
    from telemetry_site.monitoring import figures

    monkeypatch.setattr(backlog, "MOST_COUNTED", 2)
    with storing():
        for state in ("received", "dead"):
            for _ in range(4):
                plant(project, [record()], state=state)
        told = {name: value for name, _, value in figures._ledger()}
    assert told["telemetry_waiting_batches"] == told["telemetry_dead_batches"] == 3


def test_queues_and_their_workers_are_told(service: Service) -> None:
    found = wait_for(
        lambda: (
            (reading := scrape(service)).value("telemetry_queue_workers") == len(QUEUES) and reading
        ),
        SEEN_SECONDS,
        "a worker of each queue",
    )
    for queue in QUEUES:
        assert found.value("telemetry_queue_workers", queue=queue) == 1
        assert found.value("telemetry_queue_paused", queue=queue) == 0


@pytest.mark.usefixtures("held")
def test_a_task_that_runs_and_those_behind_it_are_told(service: Service) -> None:
    for _ in range(3):
        app.send_task(TASK, queue="default")

    def told() -> bool:
        reading = scrape(service)
        waiting = reading.value("telemetry_queue_waiting_tasks", queue="default")
        oldest = reading.value("telemetry_queue_oldest_seconds", queue="default")
        running = reading.value("telemetry_queue_running_tasks", queue="default")
        return running >= 1 and waiting >= 1 and 0 < oldest < SEEN_SECONDS

    wait_for(told, SEEN_SECONDS, "one to run and one to wait")


def test_a_paused_queue_is_told(service: Service) -> None:
    Pause.objects.create(queue="default", reason="a test", by="somebody")
    try:
        wait_for(
            lambda: scrape(service).value("telemetry_queue_paused", queue="default") == 1,
            SEEN_SECONDS,
            "the pause",
        )
        assert scrape(service).value("telemetry_queue_paused", queue="ingest") == 0
    finally:
        Pause.objects.all().delete()
        tell_of_pauses()


def test_partitions_are_told_by_table(service: Service) -> None:
    reading = scrape(service)
    tables = [table.table for table in partitions.TABLES]
    for table in tables:
        assert reading.value("telemetry_partitions", table=table) >= 9
        assert reading.value("telemetry_partition_days_ahead", table=table) == 8
    assert len(reading.metrics["telemetry_partitions"].samples) == len(tables)


def test_a_missing_day_ends_those_ahead(service: Service) -> None:
    from django.db import transaction

    from telemetry_site.monitoring import figures

    day = f"{timezone.now() + timedelta(days=2):%Y%m%d}"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE ingest_batch DETACH PARTITION partitions.ingest_batch_{day}")
        told = {(name, labels): value for name, labels, value in figures._partitions()}
        transaction.set_rollback(True)
    assert told["telemetry_partition_days_ahead", ("ingest_batch",)] == 2
    assert told["telemetry_partition_days_ahead", ("ingest_event",)] == 8


def test_the_disk_is_told(service: Service) -> None:
    reading = scrape(service)
    free, size = (reading.value(f"telemetry_disk_{what}_bytes") for what in ("free", "size"))
    assert 0 < free < size


# --- the whole ---


@pytest.fixture
def whole(service: Service, project: Project) -> Reading:
    """A reading after something of everything has happened."""
    Row.objects.filter(slug=project.project).update(rate_limits={"events.user": "1/h"})
    batch_id = accepted(send(service, project, batch(), {"X-User-ID": "whole-user"}))
    assert send(service, project, batch(), {"X-User-ID": "whole-user"}).status == 429
    settled(service, project, batch_id)
    return wait_for(
        lambda: (reading := scrape(service)).metrics.keys() == METRICS.keys() and reading,
        SEEN_SECONDS,
        "every metric of the table, and none beside them, to be told",
    )


def test_every_metric_is_told_as_the_table_says(whole: Reading) -> None:
    for name, metric in METRICS.items():
        told = whole.metrics[name]
        assert (told.type, told.documentation) == (metric.type, metric.help)
        for sample in told.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels), sample


def test_no_label_says_who(whole: Reading, project: Project) -> None:
    for secret in (project.project, project.ingest_key, project.ingest_key[7:19], "whole-user"):
        assert secret not in whole.text


def test_two_readings_in_a_row_have_the_same_figures_and_fresh_counts(service: Service) -> None:
    first, second = scrape(service), scrape(service)
    counted = {"route": "scrape", "status": "200"}
    name = "telemetry_requests_total"
    assert second.value(name, **counted) - first.value(name, **counted) == 1


# --- who may read it ---


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Host", "Via"],
)
def test_without_a_token_a_proxy_gets_nothing(service: Service, header: str) -> None:
    answer = ask(service, {header: "127.0.0.1"})
    assert (answer.status, answer.json["code"]) == (403, "token_needed")
    assert "TELEMETRY_METRICS_TOKEN" in answer.json["details"]
    assert "telemetry_requests_total" not in answer.text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.9.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("192.0.2.1", 403),
        ("::ffff:192.0.2.1", 403),
        ("2001:db8::1", 403),
        ("10.0.0.1", 403),
        ("", 403),
        ("unix:", 403),
    ],
)
def test_without_a_token_this_machine_alone_may_read_it(
    service: Service, address: str, status: int
) -> None:
    from django.test import Client

    answer = Client().get("/metrics", REMOTE_ADDR=address)
    assert answer.status_code == status
    if status == 200:
        assert "telemetry_check_ok" in read(answer.content.decode()).metrics


def test_without_a_token_the_host_must_be_allowed(service: Service) -> None:
    """Or a page of a stranger's could read it from the machine's own browser."""
    assert ask(service, {"Host": "rebound.example"}).status == 400


def test_it_is_prometheus_own_format(service: Service) -> None:
    answer = ask(service)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
