"""The outbox: what is stored has its delivery, which one worker claims at a time."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from ingest import storage
from ingest.forwarding import connections, deliveries, destinations, forwarder
from ingest.forwarding.answers import Answer, Outcome, unanswered
from ingest.forwarding.deliveries import MOST_BYTES, Claim, claim
from ingest.forwarding.reading import read
from ingest.models import Batch, Delivery, Destination
from ingest.models import Project as ProjectRow
from ingest.payloads import pack
from ingest.records import microseconds
from telemetry_site.models import Pause
from tests.collector.answers import accept, once, stay_silent
from tests.collector.server import Collector
from tests.harness import Project, Service
from tests.ingest.outbox import (
    SOMEWHERE,
    deliveries_of,
    forwarding_to,
    own_destination,
    write_for,
)
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.ingest.waiting import occurred, plant, record, store_all, storing

TAKEN = Answer(Outcome.DELIVERED, 200, "", None)
REFUSED = Answer(Outcome.REFUSED, 401, "who are you?", None)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def _storing(service: Service) -> Iterator[None]:
    with storing():
        yield


@pytest.fixture
def destination(project: Project, _storing: None) -> Destination:
    """The project's own: what waits for it is this test's alone."""
    return own_destination(project)


def stored(project: Project, *events: int) -> Batch:
    """A batch of so many events, each a minute before the next, that is stored."""
    records = [record(number, occurred=occurred(MINUTE * number)) for number in range(*events)]
    planted = plant(project, records)
    store_all(planted)
    return planted


def claimed(destination: Destination, most_items: int = 2_000) -> Claim:
    found = claim(destination.pk, "logs", most_items)
    assert found is not None
    return found


def change(**columns: object) -> None:
    """Of all deliveries, in this test's transaction."""
    Delivery.objects.update(**columns)


def positions(found: Claim) -> list[int]:
    """When what a claim is of occurred, by the planted names' last digits."""
    return sorted(int(row.name) for rows in read(found, "logs").values() for row in rows)


# --- written as it is stored ---


@pytest.mark.usefixtures("_storing")
def test_nothing_is_written_where_nothing_is_forwarded(project: Project) -> None:
    stored(project, 3)
    assert deliveries_of(project) == []


def test_delivery_names_its_batch_and_the_moments_of_its_events(
    project: Project, destination: Destination
) -> None:
    moment = occurred(MINUTE)
    planted = plant(
        project,
        [record(0, occurred=moment), record(1, occurred=moment), record(2, occurred=moment - 1)],
    )
    store_all(planted)
    (found,) = deliveries_of(project)
    assert (found.destination_id, found.ledger_day, found.ledger_id, found.batch_id) == (
        destination.pk, planted.day, planted.pk, planted.batch_id,
    )  # fmt: skip
    assert (found.signal, found.state, found.items) == ("logs", "waiting", 3)
    assert (found.places, found.attempts, found.leased_until) == (None, 0, None)
    assert [microseconds(one) for one in found.moments or []] == [moment - 1, moment]
    assert found.received_at == planted.received_at


def test_batches_that_are_stored_together_have_a_delivery_each(
    project: Project, destination: Destination
) -> None:
    first = [record(n, occurred=occurred(MINUTE * n)) for n in range(3)]
    second = [record(n, occurred=occurred(MINUTE * (n + 10))) for n in range(2)]
    planted = [plant(project, content) for content in (first, second)]
    store_all(*planted)
    assert {
        found.batch_id: [microseconds(moment) for moment in found.moments or []]
        for found in deliveries_of(project)
    } == {
        one.batch_id: sorted(record.occurred for record in content)
        for one, content in zip(planted, (first, second), strict=True)
    }


def test_batch_that_is_stored_in_parts_has_a_delivery_of_each_part(
    project: Project, destination: Destination
) -> None:
    """Its events are of one moment: which are meant is told by their places."""
    moment = occurred(MINUTE)
    poisoned = plant(
        project,
        [record(n, b"{}" if n != 2 else b"nope", occurred=moment, name=str(n)) for n in range(4)],
    )
    store_all(poisoned)
    part = claimed(destination)
    assert positions(part) == [0, 1, 3]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ingest_batch SET payload = %s WHERE id = %s",
            [pack([record(2, occurred=moment, name="2")]), poisoned.pk],
        )
    assert storage.replay([(poisoned.day, poisoned.pk)]) == 1
    store_all(poisoned)
    rest = claimed(destination)
    assert (positions(part), positions(rest)) == ([0, 1, 3], [2])
    assert [found.items for found in deliveries_of(project)] == [3, 1]


def test_project_whose_own_is_not_there_yet_has_none(
    project: Project, destination: Destination
) -> None:
    """Not the instance's: what is its own goes nowhere else."""
    destination.delete()
    with forwarding_to(SOMEWHERE):
        stored(project, 1)
    assert deliveries_of(project) == []


@pytest.mark.usefixtures("_storing")
def test_project_without_its_own_has_the_instances_destination(project: Project) -> None:
    with forwarding_to(SOMEWHERE):
        stored(project, 1)
    (found,) = deliveries_of(project)
    assert found.destination.project is None


def test_project_with_its_own_has_that_alone(project: Project, destination: Destination) -> None:
    with forwarding_to(SOMEWHERE):
        stored(project, 1)
    (found,) = deliveries_of(project)
    assert found.destination == destination


# --- claimed by one ---


def test_claim_takes_the_oldest_and_as_much_as_a_request_may_hold(
    project: Project, destination: Destination
) -> None:
    for _ in range(3):
        stored(project, 4)
    ids = [found.pk for found in deliveries_of(project)]
    first = claimed(destination, most_items=9)
    assert (first.ids, first.items, first.is_full) == (ids[:2], 8, True)
    second = claimed(destination, most_items=9)
    assert (second.ids, second.items, second.is_full) == (ids[2:], 4, False)
    assert claim(destination.pk, "logs", 9) is None


def test_claim_takes_one_however_large(project: Project, destination: Destination) -> None:
    for _ in range(2):
        stored(project, 4)
    assert len(claimed(destination, most_items=1)) == 1
    change(leased_until=None, body_bytes=MOST_BYTES + 1)
    assert len(claimed(destination)) == 1


def test_claim_is_of_one_destination_and_signal(project: Project, destination: Destination) -> None:
    stored(project, 1)
    assert claim(destination.pk, "metrics", 100) is None
    assert claim(destination.pk + 1_000_000, "logs", 100) is None
    claimed(destination)


def test_lease_that_ends_lets_somebody_else_claim(
    project: Project, destination: Destination
) -> None:
    stored(project, 1)
    # As if it had been claimed a while ago: here it is one moment for the database.
    first = claimed(destination)
    first = replace(first, leased_until=timezone.now() - MINUTE)
    change(leased_until=first.leased_until)
    second = claimed(destination)
    assert second.ids == first.ids
    deliveries.dead(first, REFUSED)
    deliveries.release(first, REFUSED)
    (found,) = deliveries_of(project)
    assert (found.state, found.leased_until) == ("waiting", second.leased_until), "it's another's"
    deliveries.delivered(first, TAKEN)
    deliveries.dead(second, REFUSED)
    (found,) = deliveries_of(project)
    assert (found.state, found.attempts) == ("delivered", 2), "what the collector has it has"


def test_what_is_released_can_be_claimed_again(project: Project, destination: Destination) -> None:
    stored(project, 1)
    deliveries.release(claimed(destination), unanswered("nobody is there"))
    (found,) = deliveries_of(project)
    assert (found.state, found.status, found.error) == ("waiting", None, "nobody is there")
    claimed(destination)


def test_delivered_is_settled_and_forgets_its_moments(
    project: Project, destination: Destination
) -> None:
    stored(project, 1)
    deliveries.delivered(claimed(destination), TAKEN)
    (found,) = deliveries_of(project)
    assert (found.state, found.status, found.moments) == ("delivered", 200, None)
    assert found.settled_at is not None
    assert claim(destination.pk, "logs", 100) is None


# --- given up, and replayed ---


def test_what_waits_for_too_long_expires(project: Project, destination: Destination) -> None:
    old, new = stored(project, 1), stored(project, 1)
    Delivery.objects.filter(batch_id=old.batch_id).update(
        waiting_since=timezone.now() - timedelta(hours=24, minutes=1)
    )
    deliveries.expire(destination.pk, "logs")
    states = {found.batch_id: found.state for found in deliveries_of(project)}
    assert states == {old.batch_id: "expired", new.batch_id: "waiting"}


@pytest.mark.parametrize("state", ["dead", "expired"])
def test_what_was_given_up_can_be_replayed(
    project: Project, destination: Destination, state: str
) -> None:
    stored(project, 1)
    (found,) = deliveries_of(project)
    change(state=state, attempts=7, waiting_since=found.waiting_since - timedelta(days=3))
    assert deliveries.replay([(found.day, found.pk)]) == 1
    (again,) = deliveries_of(project)
    assert (again.state, again.attempts) == ("waiting", 0)
    deliveries.expire(destination.pk, "logs")
    (again,) = deliveries_of(project)
    assert again.state == "waiting", "its time began anew"
    assert deliveries.replay([(found.day, found.pk)]) == 0, "it waits already"


def test_replay_goes_where_the_project_forwards_to_now(
    project: Project, destination: Destination
) -> None:
    stored(project, 1)
    change(state="dead")
    (found,) = deliveries_of(project)
    row = destination.project
    assert row is not None
    row.otlp_endpoint = ""
    row.save()
    assert deliveries.replay([(found.day, found.pk)]) == 0, "nowhere"
    with forwarding_to(SOMEWHERE):
        assert deliveries.replay([(found.day, found.pk)]) == 1
    (again,) = deliveries_of(project)
    assert again.destination.project is None


# --- two at once ---


def test_two_workers_at_once_send_everything_once(service: Service, project: Project) -> None:
    names = [[f"event_{number}_{n}" for n in range(3)] for number in range(12)]
    batches = [
        accepted(send(service, project, batch(*(event(name) for name in three)))) for three in names
    ]
    for batch_id in batches:
        settled(service, project, batch_id)
    both = threading.Event()
    with Collector() as collector, forwarding_to(collector.url):
        with transaction.atomic():
            write_for(project, batches)
        # Where nothing was sent to yet the first request may be of everything.
        instances = Destination.objects.filter(project=None)
        instances.update(endpoint=collector.url, request_items=6, failures=0, retry_at=None)
        collector.then(once(both, accept), once(both, accept))
        workers = [threading.Thread(target=_forward) for _ in range(2)]
        for requests, worker in enumerate(workers, start=1):
            worker.start()
            collector.wait_for(requests)
        both.set()
        for worker in workers:
            worker.join()
        assert {found.state for found in deliveries_of(project)} == {"delivered"}
        assert {found.attempts for found in deliveries_of(project)} == {1}
        got = Counter(record.event_name for record in collector.records)
    assert got == Counter(name for three in names for name in three)


def test_destination_that_hangs_holds_up_nobody_else(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else no project's own may be here.
    monkeypatch.setattr(connections, "is_public", lambda _: True)
    other = Project(*_names_and_keys())
    hung, first, second = (_stored(service, one) for one in (project, other, other))
    with _forward_paused(), Collector() as hangs, Collector() as takes, forwarding_to(takes.url):
        hangs.answer = stay_silent
        own_destination(project, hangs.url)
        Destination.objects.filter(project=None).update(failures=0, retry_at=None)
        write_for(project, [hung])
        write_for(other, [first])
        worker = threading.Thread(target=_forward)
        worker.start()
        hangs.wait_for(1)
        takes.wait_for(1)
        write_for(other, [second])
        takes.wait_for(2)
        assert hangs.open_connections == 1, "it hangs still"
        hangs.disconnect()
        worker.join()
        assert [found.state for found in deliveries_of(other)] == ["delivered"] * 2
        Delivery.objects.filter(batch_id=hung).delete()


def test_an_answer_that_cannot_be_written_down_is_nobody_elses_trouble(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "is_public", lambda _: True)
    write_down = destinations.answered

    def overflow(queue: destinations.Queue, answer: Answer) -> None:
        if queue.is_own:
            raise psycopg.errors.NumericValueOutOfRange
        write_down(queue, answer)

    monkeypatch.setattr(destinations, "answered", overflow)
    other = Project(*_names_and_keys())
    odd, good = (_stored(service, one) for one in (project, other))
    with _forward_paused(), Collector() as talks, Collector() as takes, forwarding_to(takes.url):
        own_destination(project, talks.url)
        Destination.objects.filter(project=None).update(failures=0, retry_at=None)
        write_for(project, [odd])
        write_for(other, [good])
        _forward()
    (dead,), (delivered,) = deliveries_of(project), deliveries_of(other)
    assert (dead.state, delivered.state) == ("dead", "delivered")
    assert "NumericValueOutOfRange" in dead.error


def _stored(service: Service, project: Project) -> UUID:
    batch_id = accepted(send(service, project, batch()))
    settled(service, project, batch_id)
    return batch_id


def _names_and_keys() -> tuple[str, str, str, str]:
    row, keys = ProjectRow.objects.create_with_keys(f"test {uuid4().hex}")
    return row.slug, keys["ingest"], keys["secret"], row.signing_secret


@contextmanager
def _forward_paused() -> Iterator[None]:
    """The service's own worker sends nothing meanwhile."""
    pause = Pause.objects.create(queue="forward", by="a test", reason="a test")
    try:
        yield
    finally:
        pause.delete()


def _forward() -> None:
    try:
        forwarder.forward(20, lambda: False)
    finally:
        connection.close()
