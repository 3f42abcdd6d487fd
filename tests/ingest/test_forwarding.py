"""What is stored reaches the collector: all of it, once, whatever the collector does meanwhile.

A service of its own, since its collector is the instance's.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.collector.answers import Answer, Exchange, accept, accept_partly, refuse, stay_silent
from tests.collector.server import Collector
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.privacy.asking import ask
from tests.telemetry_site.scraping import scrape

FORWARDING_SECONDS = 30.0
TIMEOUT_MS = 3000


@pytest.fixture(scope="module")
def peer() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def service(peer: Collector) -> Iterator[Service]:
    running = Service(
        OTEL_COLLECTOR_ENDPOINT=peer.url,
        OTEL_COLLECTOR_HEADERS="authorization=Basic%20abc",
        OTEL_COLLECTOR_TIMEOUT_MS=str(TIMEOUT_MS),
        TELEMETRY_TRUSTED_PROXIES="1",
    )
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture(scope="module")
def project(service: Service) -> Project:
    return service.create_project("forwarded")


@pytest.fixture
def collector(service: Service, peer: Collector) -> Iterator[Collector]:
    """The peer, that has got nothing yet and takes all; afterwards nothing waits."""
    peer.received.clear()
    yield peer
    peer.answer = accept
    resume(service)
    sql(service, "UPDATE ingest_destination SET retry_at = NULL, request_items = 2000")
    wait_for(lambda: not states(service)["waiting"], FORWARDING_SECONDS, "nothing to wait")


def sql(service: Service, statement: str, *values: Any) -> list[Any]:
    with service.database() as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def states(service: Service) -> Counter[str]:
    """How many deliveries there are in each state."""
    return Counter(dict(sql(service, "SELECT state, count(*) FROM ingest_delivery GROUP BY 1")))


def destination(service: Service) -> dict[str, Any]:
    """The row of the instance's."""
    ((row,),) = sql(
        service, "SELECT to_jsonb(d) FROM ingest_destination d WHERE project_id IS NULL"
    )
    return dict(row)


def deliveries(service: Service, batch_id: Any) -> list[dict[str, Any]]:
    """Those of a batch."""
    rows = sql(
        service,
        "SELECT to_jsonb(d) FROM ingest_delivery d WHERE batch_id = %s ORDER BY id",
        batch_id,
    )
    return [row for (row,) in rows]


def pause(service: Service) -> None:
    sql(service, "INSERT INTO telemetry_site_pause VALUES ('forward', now(), 'a test', 'a test')")


def resume(service: Service) -> None:
    sql(service, "DELETE FROM telemetry_site_pause WHERE queue = 'forward'")


def stored(service: Service, project: Project, *names: str, **fields: Any) -> Any:
    """The id of a batch of events of these names, once they are stored."""
    batch_id = accepted(send(service, project, batch(*(event(name, **fields) for name in names))))
    assert settled(service, project, batch_id)["state"] == "stored"
    return batch_id


def try_again(service: Service, project: Project) -> str:
    """Let the instance's collector be asked now; the name of an event that nudges the worker."""
    sql(service, "UPDATE ingest_destination SET retry_at = now()")
    (name,) = unique()
    stored(service, project, name)
    return name


def wait_until(service: Service, batch_id: Any, state: str) -> dict[str, Any]:
    """A batch's only delivery, once it is in this state."""

    def look() -> dict[str, Any] | None:
        found = deliveries(service, batch_id)
        return found[0] if [one["state"] for one in found] == [state] else None

    found: dict[str, Any] = wait_for(look, FORWARDING_SECONDS, f"the delivery to be {state}")
    return found


def names(collector: Collector) -> Counter[str]:
    """What the collector has got, by name."""
    return Counter(record.event_name for record in collector.records)


def unique(number: int = 1) -> list[str]:
    return [f"event_{uuid4().hex}" for _ in range(number)]


# --- all of it, once ---


def test_stored_events_are_delivered_once_each(
    service: Service, project: Project, collector: Collector
) -> None:
    sent = [unique(5) for _ in range(20)]
    batches = [stored(service, project, *five) for five in sent]
    for batch_id in batches:
        found = wait_until(service, batch_id, "delivered")
        assert (found["signal"], found["items"], found["attempts"]) == ("logs", 5, 1)
        assert (found["status"], found["error"], found["moments"]) == (200, "", None)
    assert names(collector) == Counter(name for five in sent for name in five)


def test_request_is_what_the_settings_say(
    service: Service, project: Project, collector: Collector
) -> None:
    wait_until(service, stored(service, project, *unique()), "delivered")
    (received,) = collector.received
    assert received.path == "/v1/logs"
    assert received.headers["authorization"] == "Basic abc"
    assert received.headers["content-encoding"] == "gzip"
    (resource,) = received.request.resource_logs
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == (
        project.project
    )


def test_measurements_are_delivered_beside(
    service: Service, project: Project, collector: Collector
) -> None:
    (name,) = unique()
    points = [{"name": name, "type": "gauge", "value": value} for value in (1.5, 2.5)]
    answer = send(service, project, {"metrics": points}, path="/v1/metrics")
    found = wait_until(service, accepted(answer), "delivered")
    assert (found["signal"], found["items"]) == ("metrics", 2)
    (metric,) = [metric for metric in collector.metrics if metric.name == name]
    assert [point.as_double for point in metric.gauge.data_points] == [1.5, 2.5]


def test_small_batches_share_a_request(
    service: Service, project: Project, collector: Collector
) -> None:
    pause(service)
    sent = [unique(2) for _ in range(20)]
    for two in sent:
        stored(service, project, *two)
    assert not collector.received, "while the queue is paused"
    resume(service)
    wait_for(lambda: not states(service)["waiting"], FORWARDING_SECONDS, "all to be delivered")
    assert names(collector) == Counter(name for two in sent for name in two)
    assert len(collector.received) == 1


# --- a collector that is away, busy or strange ---


def test_all_is_delivered_once_the_collector_is_back(
    service: Service, project: Project, collector: Collector
) -> None:
    collector.stop()
    try:
        sent = unique(3)
        batches = [stored(service, project, name) for name in sent]
        failing = wait_for(
            lambda: (row := destination(service))["failures"] and row,
            FORWARDING_SECONDS,
            "the back-off",
        )
        assert failing["last_status"] is None
        assert failing["last_error"]
    finally:
        collector.start()
    for batch_id in batches:
        assert wait_until(service, batch_id, "delivered")["attempts"] >= 2
    assert names(collector) == Counter(sent)
    assert (destination(service)["failures"], destination(service)["retry_at"]) == (0, None)


def test_collector_that_asks_to_be_left_alone_is(
    service: Service, project: Project, collector: Collector
) -> None:
    collector.then(refuse(429, "later", {"Retry-After": "600"}))
    batch_id = stored(service, project, *unique())
    collector.wait_for(1)
    wait_for(lambda: destination(service)["failures"], FORWARDING_SECONDS, "the back-off")
    ((seconds,),) = sql(
        service,
        "SELECT extract(epoch FROM retry_at - now())::int FROM ingest_destination"
        " WHERE project_id IS NULL",
    )
    assert 590 <= seconds <= 600
    stored(service, project, *unique())
    (waiting,) = deliveries(service, batch_id)
    assert (waiting["status"], waiting["error"]) == (429, "later")
    assert len(collector.received) == 1
    try_again(service, project)
    wait_until(service, batch_id, "delivered")


def test_silent_collector_is_waited_for_as_long_as_the_setting_says(
    service: Service, project: Project, collector: Collector
) -> None:
    collector.then(stay_silent)
    batch_id = stored(service, project, *unique())
    wait_for(lambda: destination(service)["failures"], FORWARDING_SECONDS, "the timeout")
    (waiting,) = deliveries(service, batch_id)
    assert (waiting["state"], waiting["status"], waiting["leased_until"]) == ("waiting", None, None)
    try_again(service, project)
    assert wait_until(service, batch_id, "delivered")["attempts"] == 2


def test_partial_success_is_written_down(
    service: Service, project: Project, collector: Collector
) -> None:
    collector.then(accept_partly(1, "one was too old"))
    found = wait_until(service, stored(service, project, *unique(3)), "delivered")
    assert (found["rejected"], found["error"]) == (1, "one was too old")
    assert destination(service)["last_error"] == "one was too old"


def test_no_more_are_rejected_than_were_sent(
    service: Service, project: Project, collector: Collector
) -> None:
    """A number that no column holds would end the loop, for all destinations, again and again."""
    collector.then(accept_partly(2**62, "all the world's"))
    found = wait_until(service, stored(service, project, *unique(3)), "delivered")
    assert (found["rejected"], found["attempts"]) == (3, 1)


def refuse_those_with(poison: str, status: int) -> Answer:
    """Refuses a request in which an event has this name."""

    def answer(exchange: Exchange) -> None:
        bad = any(record.event_name == poison for record in exchange.received.records)
        (refuse(status, "no such thing") if bad else accept)(exchange)

    return answer


@pytest.mark.parametrize("status", [400, 413])
def test_one_bad_batch_among_good_ones_is_dead_alone(
    service: Service, project: Project, collector: Collector, status: int
) -> None:
    (poison,) = unique()
    collector.answer = refuse_those_with(poison, status)
    pause(service)
    good = unique(9)
    batches = [stored(service, project, name) for name in good[:4]]
    bad = stored(service, project, poison)
    batches += [stored(service, project, name) for name in good[4:]]
    resume(service)
    found = wait_until(service, bad, "dead")
    assert (found["status"], found["error"]) == (status, "no such thing")
    for batch_id in batches:
        wait_until(service, batch_id, "delivered")
    assert names(collector) == Counter(good)


def test_what_is_refused_is_dead_at_once_and_can_be_replayed(
    service: Service, project: Project, collector: Collector
) -> None:
    collector.then(refuse(401, "who are you?"))
    (name,) = unique()
    batch_id = stored(service, project, name)
    dead = wait_until(service, batch_id, "dead")
    assert (dead["status"], dead["error"], dead["attempts"]) == (401, "who are you?", 1)
    assert dead["moments"]
    service.manage(
        "shell",
        "-c",
        "from datetime import date; from ingest.forwarding import deliveries;"
        f"assert deliveries.replay([(date.fromisoformat('{dead['day']}'), {dead['id']})]) == 1",
    )
    another = try_again(service, project)
    wait_until(service, batch_id, "delivered")
    wait_for(lambda: not states(service)["waiting"], FORWARDING_SECONDS, "all to be delivered")
    assert names(collector) == Counter([name, another])


def test_worker_that_is_killed_while_it_sends_leaves_a_lease_that_ends(
    service: Service, project: Project, collector: Collector
) -> None:
    parent, child = service.processes("forward")
    collector.then(stay_silent)
    (name,) = unique()
    batch_id = stored(service, project, name)
    collector.wait_for(1)
    child.send_signal(signal.SIGKILL)
    (leased,) = deliveries(service, batch_id)
    assert leased["leased_until"] is not None
    sql(service, "UPDATE ingest_delivery SET leased_until = now() WHERE batch_id = %s", batch_id)
    assert wait_until(service, batch_id, "delivered")["attempts"] == 2
    assert names(collector) == Counter([name])
    assert parent.is_running()


# --- whose it is ---


def test_nothing_of_a_person_is_sent_who_asked_for_erasure(
    service: Service, project: Project, collector: Collector
) -> None:
    pause(service)
    theirs, later, others = unique(3)
    at_once, in_a_month = f"user-{uuid4().hex}", f"user-{uuid4().hex}"
    first = stored(service, project, theirs, user_id=at_once)
    second = batch(event(later, user_id=in_a_month), event(others))
    assert settled(service, project, accepted(send(service, project, second)))["stored"] == 2
    for user, days in ((at_once, 0), (in_a_month, 29)):
        asked = ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": days})
        assert asked.status == 200, asked
    resume(service)
    for batch_id in (first, second["batch_id"]):
        wait_until(service, batch_id, "delivered")
    assert names(collector) == Counter([others])


def test_project_with_a_collector_of_its_own_sends_nothing_to_the_instances(
    service: Service, collector: Collector
) -> None:
    """Its own may not be on this machine, whatever name leads here."""
    project = service.create_project("on its own")
    service.manage(
        "shell",
        "-c",
        "from ingest.models import Project;"
        f"project = Project.objects.get(slug='{project.project}');"
        f"project.otlp_endpoint = '{collector.url}'; project.save()",
    )
    batch_id = stored(service, project, *unique())

    def look() -> dict[str, Any] | None:
        (found,) = deliveries(service, batch_id)
        return found if found["attempts"] and found["leased_until"] is None else None

    waiting = wait_for(look, FORWARDING_SECONDS, "the attempt")
    assert (waiting["state"], waiting["status"]) == ("waiting", None)
    assert "public" in waiting["error"]
    assert not collector.received
    assert json.loads(json.dumps(destination(service)))["failures"] == 0
    sql(service, "DELETE FROM ingest_delivery WHERE batch_id = %s", batch_id)


# --- what is counted ---


def test_what_becomes_of_deliveries_is_counted(
    service: Service, project: Project, collector: Collector
) -> None:
    before = scrape(service)
    collector.then(accept_partly(1, "one was too old"), refuse(401, "who are you?"))
    for state in ("delivered", "dead", "delivered"):
        wait_until(service, stored(service, project, *unique(3)), state)

    def grown(sample: str, **labels: str) -> float:
        return scrape(service).value(sample, **labels) - before.value(sample, **labels)

    name = "telemetry_deliveries_total"
    wait_for(lambda: grown(name, outcome="delivered") == 2, FORWARDING_SECONDS, "the counts")
    assert (grown(name, outcome="dead"), grown(name, signal="metrics")) == (1, 0)
    items = "telemetry_forwarded_items_total"
    assert (grown(items, outcome="taken"), grown(items, outcome="rejected")) == (5, 1)
    assert grown("telemetry_forward_seconds_count", outcome="delivered") == 2
    assert grown("telemetry_forward_seconds_count", outcome="refused") == 1
