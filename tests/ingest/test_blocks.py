"""Blocks: who is kept out, for how long, at which door, and that nobody else is."""

import itertools
import json
import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.test import RequestFactory
from django.utils import timezone

from ingest import blocks as blocks_module
from ingest import tasks
from ingest.addresses import whole_address
from ingest.counters import counters
from ingest.memory import Blocks
from ingest.models import ApiKey, Block, RateLimitViolation
from ingest.models import Project as Row
from ingest.ratelimits import Caller, hashed_caller, key_of
from ingest.validators import validate_network
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.sending import batch, moment
from tests.ingest.traces import ledger, project_id

HOUR = timedelta(hours=1)
Make = Callable[..., Block]

_networks = itertools.count(1)


@pytest.fixture
def block(service: Service) -> Iterator[Make]:
    """Makes blocks that are gone when the test is."""
    made = []

    def make(network: str = "", key: ApiKey | None = None, lasts: timedelta = HOUR) -> Block:
        until = timezone.now() + lasts
        made.append(Block.objects.create(network=network, api_key=key, until=until, reason="test"))
        return made[-1]

    yield make
    for one in made:
        one.delete()
    counters.announce_change()


def ingest_key(project: Project) -> ApiKey:
    return ApiKey.objects.get(project__slug=project.project, scope="ingest")


def new_network() -> str:
    """The first three bytes of a network that no other test comes from (RFC 2544's own)."""
    return f"198.19.{next(_networks)}"


def ask(service: Service, project: Project, door: str, address: str = "192.0.2.1") -> Answer:
    """Knock at one of the doors, as a good client of the project's."""
    line = {"level": "info", "scope": "ui", "sessionId": "s", "message": "m", "timestamp": moment()}
    bodies: dict[str, Any] = {
        "/v1/events": batch(),
        "/v1/submit": batch(),
        "/v1/metrics": [{"name": "m", "type": "gauge", "value": 1}],
        "/api/client-telemetry": [line],
        "/api/telemetry/snapshot": {"node_id": "n", "timestamp": moment(), "cpu_usage": 1.5},
    }
    key = project.ingest_key if door != "/v1/query/accounting" else project.secret_key
    headers = {"X-API-Key": key, "X-Forwarded-For": address, "Content-Type": "application/json"}
    if door in bodies:
        return service.request("POST", door, json.dumps(bodies[door]).encode(), headers)
    return service.request("GET", door, headers=headers)


SENDING = ["/v1/events", "/v1/submit", "/v1/metrics", "/api/client-telemetry",
           "/api/telemetry/snapshot"]  # fmt: skip
ASKING = ["/v1/query/accounting", "/v1/batches/0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"]


def hear(service: Service) -> None:
    """Have the process ask the counters, which tell it of a change.

    Asking for a batch counts nothing: where nothing else is asked a block is seen there in 5 s.
    """
    assert service.request("POST", "/v1/events", b"").status == 401


def assert_blocked(answer: Answer, lasts: timedelta = HOUR) -> None:
    assert answer.status == 429, answer
    assert (answer.json["code"], answer.json["policy"]) == ("rate_limited", "block")
    assert answer.json["error"] == "Too many requests"
    left = int(answer.headers["retry-after"])
    assert lasts.total_seconds() - 60 < left <= lasts.total_seconds() + 1


# --- at which door ---


@pytest.mark.parametrize("door", SENDING + ASKING)
def test_network_is_kept_out_of_every_door(
    service: Service, project: Project, block: Make, door: str
) -> None:
    network = new_network()
    block(f"{network}.0/24")
    hear(service)
    assert_blocked(ask(service, project, door, f"{network}.7"))
    assert ledger(project) == []
    assert ask(service, project, door).status in {200, 204, 404}


@pytest.mark.parametrize("door", SENDING)
def test_key_is_kept_out_of_every_door_it_opens(
    service: Service, project: Project, block: Make, door: str
) -> None:
    block(key=ingest_key(project))
    answer = ask(service, project, door)
    assert_blocked(answer)
    assert ledger(project) == []
    row = Row.objects.get(slug=project.project)
    other = Project(project.project, ApiKey.objects.issue(row, "ingest")[1], "", "")
    assert ask(service, other, door).status in {200, 204}


def test_secret_key_is_kept_from_asking(service: Service, project: Project, block: Make) -> None:
    block(key=ApiKey.objects.get(project__slug=project.project, scope="secret"))
    assert_blocked(ask(service, project, "/v1/query/accounting"))


def test_network_is_kept_out_before_its_key_is_looked_at(service: Service, block: Make) -> None:
    network = new_network()
    nobody = Project("", "ingest_000000000000_wrong", "", "")
    assert ask(service, nobody, "/v1/events", f"{network}.9").status == 401
    block(f"{network}.0/24")
    assert_blocked(ask(service, nobody, "/v1/events", f"{network}.9"))


def test_what_tells_how_the_service_is_stays_open(service: Service, block: Make) -> None:
    network = new_network()
    block(f"{network}.0/24")
    for path in ("/v1/ping", "/v1/info", "/readyz", "/admin/login/"):
        answer = service.request("GET", path, headers={"X-Forwarded-For": f"{network}.1"})
        assert answer.status == 200, path


def test_body_of_who_is_blocked_is_not_read(
    service: Service, project: Project, block: Make
) -> None:
    """A body that would be refused as too large is not even looked at."""
    block(key=ingest_key(project))
    headers = {"X-API-Key": project.ingest_key, "Content-Type": "application/json"}
    answer = service.request("POST", "/v1/events", b" " * 1_100_000, headers)
    assert_blocked(answer)


# --- which addresses ---

INSIDE = {
    "198.19.200.0/24": (["198.19.200.0", "198.19.200.255"], ["198.19.199.255", "198.19.201.0"]),
    "198.19.202.7/32": (["198.19.202.7", "::ffff:198.19.202.7"], ["198.19.202.6", "198.19.202.8"]),
    "198.19.204.0/22": (["198.19.204.1", "198.19.207.255"], ["198.19.208.0"]),
    "2001:db8:aa::/48": (["2001:db8:aa::1", "2001:db8:aa:ffff::1"], ["2001:db8:ab::1"]),
    "2001:db8:bb::1/128": (["2001:db8:bb::1", "2001:DB8:BB:0::1"], ["2001:db8:bb::2"]),
    "2001:db8:cc:1::/64": (["2001:db8:cc:1:a:b:c:d"], ["2001:db8:cc:2::1"]),
}


@pytest.mark.parametrize("network", INSIDE)
def test_network_is_its_addresses_and_no_other(
    service: Service, project: Project, block: Make, network: str
) -> None:
    block(network)
    inside, outside = INSIDE[network]
    for address in inside:
        assert ask(service, project, "/v1/events", address).status == 429, address
    for address in [*outside, "garbage"]:
        assert ask(service, project, "/v1/events", address).status == 200, address


def test_ipv4_and_ipv6_of_equal_bits_are_told_apart() -> None:
    kept = Blocks([Block(network="32.1.13.184/32", until=timezone.now() + HOUR)])
    v4, v6 = (whole_address(RequestFactory().get("/", REMOTE_ADDR=text))
              for text in ("32.1.13.184", "2001:db8::"))  # fmt: skip
    assert v4 is not None
    assert v6 is not None
    assert kept.of_address(v4) > 0
    assert kept.of_address(v6) == 0


@pytest.mark.parametrize(
    "network",
    ["", "203.0.113.7/24", "0.0.0.0/0", "10.0.0.0/7", "2000::/15", "::ffff:203.0.113.0/120",
     "203.0.113.0/33", "everybody", "203.0.113.0/24 ", "fe80::%eth0/64"],
)  # fmt: skip
def test_network_that_is_none_or_too_wide_is_refused(network: str) -> None:
    with pytest.raises(ValidationError):
        validate_network(network)


@pytest.mark.parametrize("network", ["10.0.0.0/8", "203.0.113.7/32", "2000::/16", "2001:db8::1"])
def test_network_from_narrow_to_wide_is_taken(network: str) -> None:
    validate_network(network)


def test_block_is_of_a_key_or_of_a_network(service: Service, project: Project) -> None:
    key = ingest_key(project)
    for wrong in ({"network": "", "api_key": None}, {"network": "10.0.0.0/8", "api_key": key}):
        with pytest.raises(IntegrityError):
            Block.objects.create(until=timezone.now(), reason="x", **wrong)


# --- how long ---


def test_block_ends_by_itself_when_it_said_so(
    service: Service, project: Project, block: Make
) -> None:
    network, lasts = new_network(), timedelta(seconds=2)
    made = block(f"{network}.0/24", lasts=lasts)
    answer = ask(service, project, "/v1/events", f"{network}.1")
    assert answer.status == 429
    assert answer.headers["retry-after"] in {"1", "2"}
    ends = wait_for(
        lambda: (
            (opened := ask(service, project, "/v1/events", f"{network}.1")).status == 200
            and parsedate_to_datetime(opened.headers["date"])
        ),
        10,
        "the block to end",
    )
    # The answer's time has whole seconds.
    assert ends >= made.until.astimezone(UTC) - timedelta(seconds=1)


def test_longest_of_several_blocks_counts(service: Service, project: Project, block: Make) -> None:
    network = new_network()
    for lasts in (HOUR, 5 * HOUR, 2 * HOUR):
        block(f"{network}.0/24", lasts=lasts)
    block(key=ingest_key(project), lasts=3 * HOUR)
    assert_blocked(ask(service, project, "/v1/events", f"{network}.1"), 5 * HOUR)
    assert_blocked(ask(service, project, "/v1/events"), 3 * HOUR)


def test_block_and_its_end_are_seen_by_the_next_request(
    service: Service, project: Project, block: Make
) -> None:
    """The process has just looked, and would believe what it knows for five seconds."""
    network = new_network()
    for _ in range(3):
        assert ask(service, project, "/v1/events", f"{network}.1").status == 200
        made = block(f"{network}.0/24")
        assert ask(service, project, "/v1/events", f"{network}.1").status == 429
        made.lift()
        assert ask(service, project, "/v1/events", f"{network}.1").status == 200


def test_ended_blocks_are_forgotten_a_month_later(service: Service, block: Make) -> None:
    old, young = (block("10.0.0.0/8", lasts=-days * timedelta(days=1)) for days in (31, 29))
    tasks.flush_violations()
    left = Block.objects.filter(pk__in=[old.pk, young.pk])
    assert [one.pk for one in left] == [young.pk]


# --- who hears of it ---


def violations(**of: Any) -> list[RateLimitViolation]:
    tasks.flush_violations()
    return list(RateLimitViolation.objects.filter(rule="block", **of))


def test_refusals_are_violations_of_the_rule_block(
    service: Service, project: Project, block: Make
) -> None:
    network = new_network()
    block(f"{network}.0/24")
    hear(service)
    for _ in range(3):
        ask(service, project, "/v1/events", f"{network}.1")
    found = violations(network=f"{network}.0/24")
    assert sum(row.count for row in found) == 3
    assert {row.project_id for row in found} == {None}  # nobody was asked for a key


def test_violation_of_a_blocked_key_is_its_projects(
    service: Service, project: Project, block: Make
) -> None:
    key = ingest_key(project)
    block(key=key)
    for _ in range(2):
        ask(service, project, "/v1/events", "203.0.113.5")
    found = violations(project=project_id(project))
    assert sum(row.count for row in found) == 2
    hashed = hashed_caller("block", project_id(project), key_of(key.pk))
    assert {(row.key, row.network) for row in found} == {(hashed, "203.0.113.0/24")}


def test_answer_names_no_address_and_no_network(
    service: Service, project: Project, block: Make
) -> None:
    network = new_network()
    block(f"{network}.0/24")
    assert network not in ask(service, project, "/v1/events", f"{network}.1").text
    assert not [line for line in service.lines if network in line]


# --- what it costs ---


def test_with_no_blocks_it_costs_next_to_nothing(service: Service) -> None:
    assert not Block.objects.active().exists()
    caller = Caller(RequestFactory().get("/", REMOTE_ADDR="192.0.2.1"), key_id=1)
    blocks_module.check(caller)
    seconds = min(timeit.repeat(lambda: blocks_module.check(caller), repeat=5, number=1000)) / 1000
    assert seconds < 20e-6  # measured: below 1 µs; far more would be a look at the database


def test_thousands_of_blocks_cost_a_lookup_a_size_of_network() -> None:
    until = timezone.now() + HOUR
    kept = Blocks(
        Block(network=f"10.{n // 250}.{n % 250}.0/24", until=until) for n in range(10_000)
    )
    address = whole_address(RequestFactory().get("/", REMOTE_ADDR="10.39.249.1"))
    assert address is not None
    assert kept.of_address(address) == until.timestamp()
    seconds = min(timeit.repeat(lambda: kept.of_address(address), repeat=5, number=100)) / 100
    assert seconds < 100e-6
