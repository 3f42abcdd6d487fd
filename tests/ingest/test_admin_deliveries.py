"""The page of the deliveries: found in bounded looks, told of in full, replayed."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest import resolutions, selections
from ingest.forwarding.selections import DeliverySelection
from ingest.models import Delivery, Destination, Resolution
from privacy.models import AuditEntry
from tests.harness import Project, Service, wait_for
from tests.ingest.outbox import backing_off, deliver
from tests.ingest.sending import accepted, batch, send, settled
from tests.ingest.traces import ledger, project_id
from tests.ingest.waiting import plant, record
from tests.people import ROLES, logged_in, person

DELIVERIES = "/admin/ingest/delivery/"
REPLAYING_SECONDS = 30


@pytest.fixture
def destination(service: Service, project: Project) -> Iterator[Destination]:
    yield backing_off(project)
    Delivery.objects.filter(project_id=project_id(project)).delete()


def listed(query: str = "", role: str = "viewer") -> str:
    answer = logged_in(role).get(f"{DELIVERIES}?{query}")
    assert answer.status_code == 200, answer
    return answer.text


def shows(page: str, row: Delivery) -> bool:
    return f"{DELIVERIES}{row.key}/change/" in page


def state(row: Delivery) -> str:
    return Delivery.objects.get(day=row.day, pk=row.pk).state


def replay(client: Client, row: Delivery) -> Any:
    return client.post(f"{DELIVERIES}{row.key}/replay/", follow=True)


# --- finding ---


def test_each_filter_shows_what_it_asks_for_and_hides_the_rest(destination: Destination) -> None:
    today = timezone.now().date()
    rows = {name: deliver(destination, name) for name in Delivery.State.values}
    rows["metrics"] = deliver(destination, "delivered", signal="metrics")
    rows["old"] = deliver(destination, "dead", day=today - timedelta(days=1))
    expected = {
        "": {*rows},
        "state=waiting": {"waiting"},
        "state=delivered": {"delivered", "metrics"},
        "state=dead": {"dead", "old"},
        "state=expired": {"expired"},
        "state=undelivered": {"dead", "expired", "old"},
        "signal=metrics": {"metrics"},
        "signal=logs&state=delivered": {"delivered"},
        f"day={today - timedelta(days=1)}": {"old"},
        f"day={today}&state=dead": {"dead"},
    }
    for asked, names in expected.items():
        page = listed(f"project={destination.project_id}&{asked}")
        assert {name for name, row in rows.items() if shows(page, row)} == names, asked
    assert not shows(listed(f"project={destination.project_id + 1}"), rows["dead"])


def test_deliveries_of_a_batch_are_found_by_its_ids_and_from_its_page(
    service: Service, project: Project, destination: Destination
) -> None:
    content = batch()
    settled(service, project, accepted(send(service, project, content)))
    (stored,) = ledger(project)
    row = Delivery.objects.get(project_id=project_id(project), batch_id=content["batch_id"])
    assert row.state == "waiting"
    for term in (content["batch_id"], str(content["batch_id"]).upper(), stored.pk):
        assert shows(listed(f"q={term}"), row), term
        assert not shows(listed(f"q={term}&state=dead"), row), term
    page = logged_in("viewer").get(f"/admin/ingest/batch/{stored.key}/change/").text
    assert f'href="{DELIVERIES}?q={stored.pk}"' in page


def test_batch_id_that_is_claimed_no_more_is_found_among_the_latest(
    destination: Destination,
) -> None:
    row = deliver(destination)
    assert shows(listed(f"q={row.batch_id}"), row)
    assert "Nothing matches" in listed(f"q={uuid4()}")
    assert "Nothing matches" in listed("q=<script>")


def test_only_so_many_rows_are_looked_through_and_the_page_says_so(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [deliver(destination) for _ in range(3)]
    monkeypatch.setattr(selections, "LOOKED_THROUGH", 1)
    page = listed(f"project={destination.project_id}")
    assert [shows(page, row) for row in rows] == [False, True, True]
    assert "Looked through 100,000 deliveries" in page


@pytest.mark.parametrize(
    "query",
    ["state=gone", "signal=traces", "project=x", f"project={'9' * 5000}", "day=soon", "p=201"],
)
def test_nonsense_is_refused(service: Service, query: str) -> None:
    answer = logged_in("viewer").get(f"{DELIVERIES}?{query}")
    assert (answer.status_code, answer["Location"]) == (302, f"{DELIVERIES}?e=1")


@pytest.mark.parametrize("query", [f"project={2**40}", f"q={10**18 - 1}", f"q={'9' * 40}"])
def test_what_there_is_not_is_nothing(service: Service, query: str) -> None:
    assert "Nothing matches" in listed(query)


def test_number_of_queries_does_not_grow(destination: Destination) -> None:
    client, address = logged_in("operator"), f"{DELIVERIES}?project={destination.project_id}"
    counts = []
    for more in (1, 20):
        for _ in range(more):
            deliver(destination)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address).status_code == 200
        counts.append(len(captured))
        assert not [query for query in captured if "COUNT(" in query["sql"].upper()]
    assert counts[0] == counts[1] <= 30


def test_selection_is_the_same_after_a_round_through_an_address() -> None:
    whole = DeliverySelection("dead", 7, "logs", timezone.now().date())
    assert DeliverySelection.parse(whole.given) == whole
    assert DeliverySelection.parse({}).given == {}


# --- one delivery ---


def test_page_of_a_delivery_tells_all_that_is_known(destination: Destination) -> None:
    first, last = (timezone.now() - timedelta(hours=hours) for hours in (5, 3))
    row = deliver(
        destination, "dead", moments=[first, last], status=401, attempts=4, rejected=3,
        error="who are <you>?", items=1234,
    )  # fmt: skip
    page = logged_in("viewer").get(f"{DELIVERIES}{row.key}/change/").text
    span = f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"
    for told in (row.batch_id, "401 who are &lt;you&gt;?", "1,234", span, "the collector refused",
                 f"/admin/ingest/batch/{row.ledger_day}-{row.ledger_id}/change/"):  # fmt: skip
        assert str(told) in page, told
    assert "Replay" not in page


@pytest.mark.parametrize("name", Delivery.State.values)
def test_what_was_not_delivered_can_be_replayed_from_its_page(
    destination: Destination, name: str
) -> None:
    page = logged_in("operator").get(f"{DELIVERIES}{deliver(destination, name).key}/change/").text
    assert ("Replay" in page) == (name in {"dead", "expired"})


@pytest.mark.parametrize(
    "key", ["2026-01-01-1", "2026-13-01-1", "7", "x", f"2026-01-01-{'9' * 20}"]
)
def test_delivery_that_there_is_not_is_not_found(service: Service, key: str) -> None:
    client = logged_in("operator")
    assert client.get(f"{DELIVERIES}{key}/change/").status_code == 404
    told = client.post(f"{DELIVERIES}{key}/replay/", follow=True).text
    assert "neither dead nor expired" in told


# --- replay ---


@pytest.mark.parametrize("name", ["dead", "expired"])
def test_replayed_delivery_waits_once_more_and_a_second_click_does_nothing(
    destination: Destination, name: str
) -> None:
    row, client = deliver(destination, name, attempts=9), logged_in("operator")
    told = replay(client, row)
    assert f"1 wait to be sent once more, of delivery {row.key}." in told.text
    again = Delivery.objects.get(day=row.day, pk=row.pk)
    assert (again.state, again.attempts, again.settled_at) == ("waiting", 0, None)
    assert "neither dead nor expired" in replay(client, row).text
    assert Delivery.objects.get(day=row.day, pk=row.pk).waiting_since == again.waiting_since
    assert LogEntry.objects.filter(change_message__contains=row.key).count() == 1
    assert AuditEntry.objects.latest("number").action == "delivery.replay"


def test_delivery_of_a_project_without_a_collector_stays_and_the_page_says_why(
    destination: Destination,
) -> None:
    row = deliver(destination)
    assert destination.project is not None
    type(destination.project).objects.filter(pk=destination.project_id).update(otlp_endpoint="")
    assert "have no collector to go to" in replay(logged_in("operator"), row).text
    assert state(row) == "dead"


def test_selected_deliveries_are_replayed_and_others_not(destination: Destination) -> None:
    rows = [deliver(destination) for _ in range(3)]
    form = {"action": "replay_selected", "_selected_action": [row.pk for row in rows[:2]]}
    address = f"{DELIVERIES}?project={destination.project_id}"
    told = logged_in("operator").post(address, form, follow=True).text
    assert "2 wait to be sent once more" in told
    assert [state(row) for row in rows] == ["waiting", "waiting", "dead"]


@pytest.fixture
def _nothing_under_way(service: Service) -> None:
    wait_for(lambda: not Resolution.objects.filter(finished_at=None), 30, "nothing under way")


@pytest.mark.usefixtures("_nothing_under_way")
def test_all_that_match_are_replayed_and_others_not(destination: Destination) -> None:
    rows = [deliver(destination, name) for name in ("dead", "expired", "dead")]
    others = [deliver(destination, signal="metrics"), deliver(destination, "delivered")]
    asked = f"project={destination.project_id}&signal=logs"
    client = logged_in("operator")
    assert "Replay all that match" in client.get(f"{DELIVERIES}?{asked}").text
    form = {"action": "forward", "project": str(destination.project_id), "signal": "logs"}
    assert "Started to replay" in client.post(f"{DELIVERIES}resolve/", form, follow=True).text
    assert AuditEntry.objects.latest("number").action == "delivery.replay_all"
    latest = Resolution.objects.filter(action="forward").order_by("-pk")
    wait_for(lambda: latest[0].finished_at, REPLAYING_SECONDS, "the replay to end")
    assert (latest[0].total, latest[0].done, latest[0].error) == (3, 3, "")
    assert {state(row) for row in rows} == {"waiting"}
    assert [state(row) for row in others] == ["dead", "delivered"]
    shown = client.get(f"{DELIVERIES}progress/").text
    assert "3 of 3" in shown
    assert "hx-get" not in shown
    assert "Replay all that match" not in client.get(f"{DELIVERIES}?{asked}").text
    assert "all dead and expired deliveries" not in client.get("/admin/ingest/deadbatch/").text


@pytest.mark.usefixtures("_nothing_under_way")
def test_replay_of_all_goes_on_chunk_by_chunk(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolutions, "CHUNK", 2)
    rows = [deliver(destination) for _ in range(5)]
    selection = DeliverySelection(project=destination.project_id)
    resolutions.start("forward", selection, person("operator").pk)
    resolutions.go_on(30)
    latest = Resolution.objects.filter(action="forward").order_by("-pk")
    wait_for(lambda: latest[0].finished_at, REPLAYING_SECONDS, "whoever works on it")
    assert (latest[0].done, latest[0].percent) == (5, 100)
    assert {state(row) for row in rows} == {"waiting"}


# --- who may ---


@pytest.mark.parametrize("role", ROLES)
def test_operators_and_admins_replay_and_others_look(destination: Destination, role: str) -> None:
    row, client = deliver(destination), logged_in(role)
    may = role in {"operator", "admin"}
    asked = f"project={destination.project_id}"
    assert ("Replay all that match" in client.get(f"{DELIVERIES}?{asked}").text) == may
    form = {"action": "forward", "project": "0"}
    assert client.post(f"{DELIVERIES}resolve/", form).status_code == (302 if may else 403)
    form = {"action": "replay_selected", "_selected_action": [row.pk]}
    client.post(f"{DELIVERIES}?{asked}", form)
    assert state(row) == ("waiting" if may else "dead")
    assert replay(client, row).status_code == (200 if may else 403)


def test_nothing_is_for_those_without_a_role(destination: Destination) -> None:
    row, client = deliver(destination), logged_in()
    for below in ("", f"{row.key}/change/", "progress/"):
        assert client.get(f"{DELIVERIES}{below}").status_code == 403
    assert replay(client, row).status_code == 403


@pytest.mark.parametrize(
    ("below", "form"),
    [
        ("resolve/", {"action": "discard"}),
        ("resolve/", {"action": "replay"}),
        ("resolve/", {}),
        ("resolve/", {"action": "forward", "project": "x"}),
        ("resolve/", {"action": "forward", "day": "soon"}),
        ("resolve/", {"action": "forward", "state": "gone"}),
    ],
)
def test_nonsense_is_not_started(service: Service, below: str, form: dict[str, str]) -> None:
    assert logged_in("operator").post(f"{DELIVERIES}{below}", form).status_code == 400


@pytest.mark.parametrize("below", ["resolve/", "cancel/", "2026-01-01-1/replay/"])
def test_nothing_is_done_by_looking(service: Service, below: str) -> None:
    assert logged_in("operator").get(f"{DELIVERIES}{below}").status_code in {400, 405}


def test_what_is_decided_of_dead_batches_is_not_cancelled_here(
    service: Service, project: Project
) -> None:
    plant(project, [record()], state="dead", dead=1)
    theirs = Resolution.objects.create(
        action="replay", matching={"project": str(project_id(project))}, finished_at=timezone.now()
    )
    answer = logged_in("operator").post(f"{DELIVERIES}cancel/", {"id": str(theirs.pk)})
    assert answer.status_code == 404


def test_replay_is_refused_without_the_page_s_token(destination: Destination) -> None:
    row, strict = deliver(destination), Client(enforce_csrf_checks=True)
    strict.cookies = logged_in("operator").cookies
    assert replay(strict, row).status_code == 403
    assert state(row) == "dead"


def test_nothing_of_a_delivery_is_changed_from_its_page(destination: Destination) -> None:
    row, client = deliver(destination), logged_in("admin")
    for below in ("change/", "delete/"):
        client.post(f"{DELIVERIES}{row.key}/{below}", {"state": "delivered", "post": "yes"})
    assert state(row) == "dead"
