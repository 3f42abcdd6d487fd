"""Blocks in the admin: proposed, confirmed, refused, made, seen and lifted."""

import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest.counters import counters
from ingest.models import ApiKey, Block, RateLimitViolation
from tests.harness import Project, Service
from tests.ingest.sending import batch, send
from tests.ingest.traces import project_id
from tests.people import ROLES, logged_in

PAGE = "/admin/ingest/block/"
_networks = itertools.count(1)


@pytest.fixture(autouse=True)
def _unblocked(service: Service) -> Iterator[None]:
    """Nobody is blocked afterwards."""
    yield
    Block.objects.all().delete()
    counters.announce_change()


@pytest.fixture
def network() -> str:
    """A network that no other test comes from."""
    return f"198.18.{next(_networks)}.0/24"


def ask(client: Client, **fields: Any) -> Any:
    """The form, sent once: it answers with a question, or with what is wrong."""
    return client.post(f"{PAGE}add/", {"lasts": 60, "reason": "flood", **fields})


def block(client: Client, **fields: Any) -> str:
    """The form, sent and confirmed."""
    answer = client.post(
        f"{PAGE}add/", {"lasts": 60, "reason": "flood", "confirmed": "yes", **fields}, follow=True
    )
    assert answer.status_code == 200
    return str(answer.text)


def key_of(project: Project) -> ApiKey:
    return ApiKey.objects.get(project__slug=project.project, scope="ingest")


def post(service: Service, project: Project, address: str = "192.0.2.1") -> Any:
    return send(service, project, batch(), {"X-Forwarded-For": address})


# --- making ---


def test_network_is_blocked_once_confirmed(
    service: Service, project: Project, network: str
) -> None:
    client, inside = logged_in("operator"), network.replace("0/24", "9")
    assert "256 addresses" in ask(client, network=network).text
    assert not Block.objects.filter(network=network).exists()
    assert post(service, project, inside).status == 200
    assert f"{network} is blocked until" in block(client, network=network)
    answer = post(service, project, inside)
    assert answer.status == 429
    assert answer.json["policy"] == "block"
    assert "operator of this service has blocked" in answer.text
    assert 3500 < int(answer.headers["retry-after"]) <= 3601


def test_key_is_blocked_and_the_others_of_its_project_are_not(
    service: Service, project: Project
) -> None:
    key = key_of(project)
    asked = ask(logged_in("operator"), api_key=key.pk).text
    assert "every copy of the program" in asked
    block(logged_in("operator"), api_key=key.pk)
    assert post(service, project).status == 429
    _, text = ApiKey.objects.issue(key.project, "ingest")
    assert post(service, Project(project.project, text, "", "")).status == 200


def test_who_clicks_twice_has_one_block(service: Service, network: str) -> None:
    client = logged_in("operator")
    for lasts in (60, 15):
        block(client, network=network, lasts=lasts)
    (made,) = Block.objects.filter(network=network)
    assert made.until - timezone.now() < timedelta(minutes=15)


def test_address_is_a_network_of_one(service: Service, network: str) -> None:
    address = network.replace("0/24", "7")
    told = block(logged_in("operator"), network=address)
    # Its own page says whom; the record what is around it.
    assert f"A /32 of {network} is blocked" in told
    assert Block.objects.filter(network=f"{address}/32").count() == 1
    assert not LogEntry.objects.filter(change_message__contains=address).exists()


def test_bits_of_the_host_are_left_out(service: Service, network: str) -> None:
    block(logged_in("operator"), network=network.replace("0/24", "77/24"))
    assert Block.objects.filter(network=network).count() == 1


REFUSED = {
    "everybody": ({"network": "0.0.0.0/0"}, "too wide"),
    "everybody of IPv6": ({"network": "::/0"}, "too wide"),
    "a word": ({"network": "everybody"}, "a network, such as"),
    "nobody": ({}, "one of the two"),
    "no time": ({"network": "10.0.0.0/8", "lasts": ""}, "required"),
    "another time": ({"network": "10.0.0.0/8", "lasts": 9_999_999}, "valid choice"),
    "no reason": ({"network": "10.0.0.0/8", "reason": ""}, "required"),
    "a long reason": ({"network": "10.0.0.0/8", "reason": "x" * 201}, "at most 200"),
    "an unknown key": ({"api_key": "999999"}, "valid choice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused_and_says_why(service: Service, name: str) -> None:
    fields, why = REFUSED[name]
    before = Block.objects.count()
    for confirmed in ({}, {"confirmed": "yes"}):
        answer = ask(logged_in("operator"), **fields, **confirmed)
        assert why in answer.text
        assert 'class="wrong"' in answer.text
    assert Block.objects.count() == before


def test_key_and_network_at_once_are_refused(
    service: Service, project: Project, network: str
) -> None:
    page = ask(logged_in("operator"), api_key=key_of(project).pk, network=network).text
    assert "one of the two" in page


def test_own_address_is_refused_with_a_reason(service: Service, network: str) -> None:
    own = network.replace("0/24", "200")
    fields = {"network": network, "lasts": 60, "reason": "x", "confirmed": "yes"}
    page = logged_in("operator").post(f"{PAGE}add/", fields, REMOTE_ADDR=own)
    assert "Your own address is in it" in page.text
    assert not Block.objects.filter(network=network).exists()


def test_reason_is_scrubbed(service: Service, network: str) -> None:
    block(logged_in("operator"), network=network, reason="mail ada@example.com about it")
    assert "ada@" not in Block.objects.get(network=network).reason


def test_confirmation_names_the_projects_that_were_refused_from_there(
    service: Service, project: Project, network: str
) -> None:
    RateLimitViolation.objects.create(
        minute=timezone.now(), project_id=project_id(project), rule="events.ip", key="k",
        network=network, count=1,
    )  # fmt: skip
    wide = network.rsplit(".", 2)[0] + ".0.0/16"
    for asked in (network, network.replace("0/24", "128/25"), wide):
        assert project.project in ask(logged_in("operator"), network=asked).text
    assert project.project not in ask(logged_in("operator"), network="192.0.2.0/24").text


# --- seeing and lifting ---


def test_block_is_lifted_and_stays_in_sight(
    service: Service, project: Project, network: str
) -> None:
    client = logged_in("operator")
    block(client, network=network)
    made = Block.objects.get(network=network)
    told = client.post(f"{PAGE}lift/", {"block": made.pk}, follow=True).text
    assert f"{network} is not blocked any more." in told
    assert "Ended in the last 30 days" in told
    assert post(service, project, network.replace("0/24", "9")).status == 200
    again = client.post(f"{PAGE}lift/", {"block": made.pk}, follow=True).text
    assert "has ended already" in again


@pytest.mark.parametrize("number", ["", "x", "0", "9" * 30, "-1", "²"])
def test_lifting_what_is_not_there_says_so(service: Service, number: str) -> None:
    told = logged_in("operator").post(f"{PAGE}lift/", {"block": number}, follow=True)
    assert "has ended already" in told.text


def test_list_says_who_why_by_whom_and_until_when(service: Service, project: Project) -> None:
    key = key_of(project)
    block(logged_in("operator"), api_key=key.pk, reason="bad release")
    page = logged_in("viewer").get(PAGE).text
    made = Block.objects.select_related("made_by").get(api_key=key)
    for shown in (str(key), project.project, "bad release", str(made.made_by),
                  f"until {made.until:%Y-%m-%d %H:%M} UTC"):  # fmt: skip
        assert shown in page


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_blocks_and_lifts(
    service: Service, project: Project, network: str, role: str
) -> None:
    may = role in {"operator", "admin"}
    made = Block.objects.create(network=network, until=timezone.now() + timedelta(hours=1))
    client = logged_in(role)
    page = client.get(PAGE).text
    assert ("Block a key or a network" in page) == may
    assert (">Lift</button>" in page) == may
    assert client.get(f"{PAGE}add/").status_code == (200 if may else 403)
    assert ask(client, network="10.0.0.0/8").status_code == (200 if may else 403)
    lifted = client.post(f"{PAGE}lift/", {"block": made.pk})
    assert lifted.status_code == (302 if may else 403)
    assert client.get(f"{PAGE}lift/").status_code == 405


def test_changing_needs_a_token(service: Service, network: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = logged_in("operator").cookies
    assert ask(client, network=network, confirmed="yes").status_code == 403
    assert not Block.objects.filter(network=network).exists()


def test_queries_do_not_grow_with_the_blocks(service: Service, project: Project) -> None:
    client = logged_in("operator")
    until = timezone.now() + timedelta(hours=1)
    Block.objects.create(api_key=key_of(project), until=until, reason="test")
    with CaptureQueriesContext(connection) as few:
        assert client.get(PAGE).status_code == 200
    for _ in range(10):
        Block.objects.create(api_key=key_of(project), until=until, reason="test")
    with CaptureQueriesContext(connection) as many:
        assert client.get(PAGE).status_code == 200
    assert len(many) == len(few)


def test_blocked_request_asks_the_database_for_nothing_it_knows(
    service: Service, project: Project, network: str
) -> None:
    """It is refused before anything is read or written, however often."""
    block(logged_in("operator"), network=network)
    address = network.replace("0/24", "1")
    assert post(service, project, address).status == 429
    with service.database() as database:
        before = _statements(database)
        for _ in range(50):
            assert post(service, project, address).status == 429
        assert _statements(database) - before < 50


def _statements(database: Any) -> int:
    row = database.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database"
        " WHERE datname = current_database()"
    ).fetchone()
    return int(row[0])


def test_addresses_stand_in_no_url(service: Service, network: str) -> None:
    client = logged_in("operator")
    block(client, network=network)
    page = client.get(PAGE).text
    assert not re.search(rf'(href|action)="[^"]*{re.escape(network[:-4])}', page)
