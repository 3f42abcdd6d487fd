"""Where batches go, and for how long a collector that fails is left alone."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from ingest.forwarding import destinations
from ingest.forwarding.answers import Answer, Outcome, unanswered
from ingest.forwarding.destinations import Queue, url_of
from ingest.forwarding.sealing import Unreadable, seal, unseal
from ingest.models import Destination
from ingest.models import Project as Row
from tests.harness import Project, Service
from tests.ingest.outbox import SOMEWHERE, forwarding_to, own_destination, queue_of
from tests.ingest.traces import project_id
from tests.ingest.waiting import plant, record, store_all, storing

TAKEN = Answer(Outcome.DELIVERED, 200, "", None)
REFUSED = Answer(Outcome.REFUSED, 401, "who are you?", None)
AWAY = unanswered("nobody is there")
HEADERS = {"Authorization": "Bearer very-secret"}


@pytest.fixture
def destination(service: Service, project: Project) -> Iterator[Destination]:
    """The project's own, for which something waits, and that was sent to before."""
    with storing():
        found = own_destination(project)
        store_all(plant(project, [record()]))
        assert destinations.reserve(queue_of(found))
        yield found


def fresh(destination: Destination) -> Queue:
    destination.refresh_from_db()
    return queue_of(destination)


def seconds_left(destination: Destination) -> float:
    destination.refresh_from_db()
    assert destination.retry_at is not None
    return (destination.retry_at - timezone.now()).total_seconds()


# --- where to ---


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/logs"),
        ("http://c:4318/", "http://c:4318/v1/logs"),
        ("https://c/otlp", "https://c/otlp/v1/logs"),
        ("https://c/v1/logs", "https://c/v1/logs"),
        ("https://c/otlp/v1/logs/", "https://c/otlp/v1/logs"),
        ("https://c/v1/metrics", "https://c/v1/logs"),
    ],
)
def test_endpoint_is_a_base_or_the_full_url_of_a_signal(endpoint: str, url: str) -> None:
    assert url_of(endpoint, "logs") == url
    assert url_of(endpoint, "metrics") == url.replace("logs", "metrics")


@pytest.mark.usefixtures("destination")
def test_projects_go_to_their_own_or_the_instances_or_nowhere(
    project: Project, destination: Destination
) -> None:
    own = project_id(project)
    other = Row.objects.create_with_keys("Another of this test")[0].pk
    assert destinations.of({own, other}) == {own: destination.pk}
    instances = Destination.objects.get(project=None)
    with forwarding_to(SOMEWHERE):
        assert destinations.of({own, other}) == {own: destination.pk, other: instances.pk}
        Row.objects.filter(pk=own).update(otlp_endpoint="")
        assert destinations.of({own}) == {own: instances.pk}
    assert destinations.of({own}) == {}


def test_own_target_has_the_projects_url_and_headers_and_is_not_trusted(
    project: Project, destination: Destination
) -> None:
    Row.objects.filter(slug=project.project).update(
        otlp_headers=seal(HEADERS), otlp_encoding="json"
    )
    with override_settings(OTEL_COLLECTOR_HEADERS={"x-instance": "1"}):
        queue = queue_of(destination)
        target = queue.target()
    assert (target.url, target.headers) == (f"{SOMEWHERE}/v1/logs", HEADERS)
    assert (target.is_trusted, queue.encoding) == (False, "json")


@pytest.mark.usefixtures("destination")
def test_instances_target_is_what_the_settings_say(project: Project) -> None:
    Row.objects.filter(slug=project.project).update(otlp_endpoint="")
    with (
        forwarding_to(SOMEWHERE),
        override_settings(OTEL_COLLECTOR_HEADERS={"x": "1"}, OTEL_COLLECTOR_ENCODING="json"),
    ):
        store_all(plant(project, [record()]))
        queue = queue_of(Destination.objects.get(project=None))
        target = queue.target()
    assert (target.url, target.headers) == (f"{SOMEWHERE}/v1/logs", {"x": "1"})
    assert (target.is_trusted, queue.encoding) == (True, "json")


def test_what_waits_for_a_collector_that_was_taken_away_is_not_sent(
    project: Project, destination: Destination
) -> None:
    assert queue_of(destination).may_be_sent
    Row.objects.filter(slug=project.project).update(otlp_endpoint="")
    assert not queue_of(destination).may_be_sent


# --- headers ---


def test_headers_are_kept_so_that_a_dump_of_the_database_tells_none() -> None:
    sealed = seal(HEADERS)
    assert "secret" not in sealed
    assert unseal(sealed) == HEADERS
    assert (seal({}), unseal("")) == ("", {})


def test_headers_that_another_pepper_sealed_cannot_be_read() -> None:
    sealed = seal(HEADERS)
    with override_settings(PEPPER=b"another" * 8), pytest.raises(Unreadable):
        unseal(sealed)


# --- back-off ---


def test_failing_destination_is_left_alone_for_longer_and_longer(destination: Destination) -> None:
    for number, (least, most) in enumerate([(2.5, 5), (3.75, 7.5), (5.6, 11.25)], start=1):
        destinations.failed(fresh(destination), AWAY)
        assert least - 1 < seconds_left(destination) <= most
        assert not fresh(destination).may_be_sent
        assert destination.failures == number
    assert (destination.last_status, destination.last_error) == (None, "nobody is there")
    assert destination.failing_since is not None


def test_what_the_collector_asks_for_is_obeyed(destination: Destination) -> None:
    destinations.failed(fresh(destination), Answer(Outcome.RETRY, 503, "later", 1800))
    assert 1790 < seconds_left(destination) <= 1800


def test_one_that_has_failed_for_long_is_asked_seldom(destination: Destination) -> None:
    destination.failing_since = timezone.now() - timedelta(hours=1)
    destination.save()
    destinations.failed(fresh(destination), AWAY)
    assert 140 < seconds_left(destination) <= 300


def test_one_request_probes_once_the_pause_is_over(destination: Destination) -> None:
    assert destinations.reserve(fresh(destination)), "one that doesn't fail"
    assert destinations.reserve(fresh(destination)), "by as many as like"
    destinations.failed(fresh(destination), AWAY)
    Destination.objects.update(retry_at=timezone.now() - timedelta(minutes=1))
    queue = fresh(destination)
    assert queue.may_be_sent
    assert destinations.reserve(queue)
    assert not destinations.reserve(queue)


@pytest.mark.parametrize("answer", [TAKEN, REFUSED], ids=lambda answer: answer.outcome.value)
def test_any_answer_ends_the_back_off(destination: Destination, answer: Answer) -> None:
    destinations.failed(fresh(destination), AWAY)
    destinations.answered(fresh(destination), answer)
    destination.refresh_from_db()
    assert (destination.failures, destination.failing_since) == (0, None)
    assert (destination.retry_at, destination.last_status) == (None, answer.status)
    assert (destination.last_success_at is not None) == (answer is TAKEN)
    assert destination.last_error == (answer.words or AWAY.words)


def test_another_endpoint_is_asked_at_once(project: Project, destination: Destination) -> None:
    destinations.failed(fresh(destination), Answer(Outcome.RETRY, 429, "", 3600))
    assert not fresh(destination).may_be_sent
    Row.objects.filter(slug=project.project).update(otlp_endpoint="https://another.example.com")
    queue = fresh(destination)
    assert queue.may_be_sent
    assert destinations.reserve(queue)
    destination.refresh_from_db()
    assert (destination.endpoint, destination.failures) == ("https://another.example.com", 0)


# --- how much at once ---


def test_requests_are_halved_and_grow_again(destination: Destination) -> None:
    for items, expected in ((1_500, 750), (700, 350), (2, 1), (1, 1)):
        destinations.refused_so_many(fresh(destination), items)
        assert fresh(destination).request_items == expected
    for expected in (101, 201, 301):
        destinations.answered(fresh(destination), TAKEN)
        assert fresh(destination).request_items == expected
    destinations.answered(fresh(destination), REFUSED)
    assert fresh(destination).request_items == 301
