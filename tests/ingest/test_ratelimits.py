"""The rate limits: who is stopped by which, what both sides are told, and what nobody waits for."""

import itertools
import logging
import re
import socket
import socketserver
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.utils import timezone
from google.rpc.code_pb2 import Code

from ingest import counters as counters_module
from ingest import ratelimits
from ingest.counters import Counter, Counters
from ingest.memory import Memory
from ingest.models import ApiKey
from ingest.models import Project as Row
from ingest.rules import RULES
from privacy import handing
from privacy.models import ExportRequest
from tests.harness import Answer, Project, Service, free_port, wait_for
from tests.ingest.sending import batch, event, moment, send
from tests.ingest.sockets import Connection
from tests.ingest.traces import ledger, project_id
from tests.privacy.asking import pseudonym, subject_token

BOUNDED_SECONDS = 0.5
AT_ONCE_SECONDS = 0.05
AUTH_QUOTA = 20

_addresses = itertools.count(1)


def limit(project: Project, **rates: str) -> None:
    """Give the project rates of its own; rules are written with an underscore here."""
    row = Row.objects.get(slug=project.project)
    row.rate_limits = {name.replace("_", "."): rate for name, rate in rates.items()}
    row.save(update_fields=["rate_limits"])


def new_address() -> str:
    """An address that no other test comes from (RFC 2544's own)."""
    number = next(_addresses)
    return f"198.18.{number // 250}.{number % 250 + 1}"


def new_project() -> Project:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    return Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)


def policies(answer: Answer) -> dict[str, dict[str, int]]:
    """What an answer says of each rule: q, w, r and t."""
    found: dict[str, dict[str, int]] = {}
    for header in ("ratelimit-policy", "ratelimit"):
        for item in filter(None, answer.headers.get(header, "").split(", ")):
            name, *parameters = item.split(";")
            assert re.fullmatch(r'"[a-z.]+"', name), item
            pairs = (parameter.split("=") for parameter in parameters)
            found.setdefault(name.strip('"'), {}).update({key: int(n) for key, n in pairs})
    return found


def assert_limited(answer: Answer, rule: str) -> None:
    """It is a 429 that says all it has to."""
    assert answer.status == 429, answer
    if rule == "otlp.key":
        assert answer.json["code"] == Code.RESOURCE_EXHAUSTED
        assert rule in answer.json["message"]
    else:
        assert (answer.json["code"], answer.json["policy"]) == ("rate_limited", rule)
        assert answer.json["error"] == "Too many requests"
        assert rule in answer.json["details"]
    assert re.fullmatch(r"[1-9][0-9]*", answer.headers["retry-after"])
    state = policies(answer)[rule]
    assert state["r"] == 0
    assert 1 <= state["t"] <= int(answer.headers["retry-after"]) <= state["w"]


# --- each rule over its edge ---


@dataclass(frozen=True)
class Asker:
    """How a client asks that one rule tells from others, by its name, address, key or node."""

    service: Service
    project: Project
    user: str = "ada"
    address: str = ""
    key: str = ""
    node: str = "node-1"

    def post(self, path: str, content: Any, **headers: str) -> Answer:
        headers |= {"X-API-Key": self.key or self.project.ingest_key}
        if self.address:
            headers["X-Forwarded-For"] = self.address
        return send(self.service, self.project, content, headers, path)

    def events_by_header(self) -> Answer:
        return self.post("/v1/events", batch(), **{"X-User-ID": self.user})

    def events_by_batch(self) -> Answer:
        return self.post("/v1/events", batch(user_id=self.user))

    def one_bare_event(self) -> Answer:
        return self.post("/v1/events", event(user_id=self.user))

    def events(self) -> Answer:
        return self.post("/v1/events", batch())

    def page(self) -> Answer:
        line = {"level": "info", "scope": "ui", "sessionId": "s", "message": "m"}
        return self.post("/api/client-telemetry", [{**line, "timestamp": moment()}])

    def snapshot(self) -> Answer:
        content = {"node_id": self.node, "timestamp": moment(), "cpu_usage": 1.5}
        return self.post("/api/telemetry/snapshot", content)

    def metrics(self) -> Answer:
        return self.post("/v1/metrics", [{"name": "m", "type": "gauge", "value": 1}])

    def otlp(self) -> Answer:
        scopes = [{"logRecords": [{"body": {"stringValue": "told"}}]}]
        return self.post("/otlp/v1/logs", {"resourceLogs": [{"scopeLogs": scopes}]})

    def submit_by_header(self) -> Answer:
        return self.post("/v1/submit", batch(), **{"X-User-ID": self.user})

    def submit_by_batch(self) -> Answer:
        return self.post("/v1/submit", batch(user_id=self.user))

    def submit_nameless(self) -> Answer:
        return self.post("/v1/submit", batch(event(user_id=None)))

    def query(self) -> Answer:
        headers = {"X-API-Key": self.key or self.project.secret_key}
        return self.service.request("GET", "/v1/query/accounting", headers=headers)

    def consent(self) -> Answer:
        headers = {"X-API-Key": self.project.secret_key, "X-User-ID": self.user}
        return self.service.request("GET", "/v1/telemetry/consent", headers=headers)

    def export_status(self) -> Answer:
        headers = {"Authorization": f"Bearer {subject_token(self.project, self.user)}"}
        path = f"/v1/telemetry/exports/{file_of(self.project, self.user).pk}"
        return self.service.request("GET", path, headers=headers)

    def download(self) -> Answer:
        export = file_of(self.project, self.user)
        path = f"/v1/telemetry/exports/{export.pk}/download?signature={handing.signature(export)}"
        headers = {"X-Forwarded-For": self.address} if self.address else {}
        return self.service.request("GET", path, headers=headers)


@cache
def file_of(project: Project, user: str) -> ExportRequest:
    """A person's export, which is done."""
    folder = settings.DATA_DIR / "exports"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{uuid4().hex}.json.gz"
    file.write_bytes(b"a file")
    return ExportRequest.objects.create(
        project_id=project_id(project), subject=pseudonym(project, user), state="done",
        expires_at=timezone.now() + timedelta(hours=1), file=file.name, bytes=file.stat().st_size,
    )  # fmt: skip


# Rule, how it is met, and by what another client differs.
CASES = [
    ("events.user", Asker.events_by_header, "user"),
    ("events.user", Asker.events_by_batch, "user"),
    ("events.user", Asker.one_bare_event, "user"),
    ("events.ip", Asker.events, "address"),
    ("events.key", Asker.events, "key"),
    ("browser.ip", Asker.page, "address"),
    ("snapshot.node", Asker.snapshot, "node"),
    ("metrics.key", Asker.metrics, "key"),
    ("otlp.key", Asker.otlp, "key"),
    ("submit.user", Asker.submit_by_header, "user"),
    ("submit.user", Asker.submit_by_batch, "user"),
    ("submit.user", Asker.submit_nameless, "address"),
    ("submit.user", Asker.submit_nameless, "key"),
    ("privacy.subject", Asker.consent, "user"),
    ("privacy.status", Asker.export_status, "user"),
    ("download.export", Asker.download, "user"),
    ("download.ip", Asker.download, "address"),
    ("query.key", Asker.query, "key"),
]
# Those that nothing is sent under.
ASKING = ("query.key", "privacy.subject", "privacy.status", "download.export", "download.ip")

each_rule = pytest.mark.parametrize(
    ("rule", "ask", "differs"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
Ask = Callable[[Asker], Answer]


def rates(rule: str, rate: str) -> dict[str, str]:
    return {rule.replace(".", "_"): rate}


def other(asker: Asker, rule: str, differs: str) -> Asker:
    """Another client of the same project, as this rule tells them apart."""
    if differs == "key":
        scope = "secret" if rule == "query.key" else "ingest"
        row = Row.objects.get(slug=asker.project.project)
        return Asker(
            asker.service, asker.project, address=asker.address,
            key=ApiKey.objects.issue(row, scope)[1],
        )  # fmt: skip
    own = {"address": asker.address, differs: new_address() if differs == "address" else "bob"}
    return Asker(asker.service, asker.project, **own)


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, *_ in CASES} | {"auth.ip", "login.ip"} == RULES.keys()


@each_rule
def test_second_client_is_unharmed_where_the_first_is_stopped(
    service: Service, project: Project, rule: str, ask: Ask, differs: str
) -> None:
    limit(project, **rates(rule, "3/d"))
    first = Asker(service, project, address=new_address())
    passed = [ask(first) for _ in range(3)]
    for answer, left in zip(passed, (2, 1, 0), strict=True):
        assert answer.status in {200, 204}, answer
        state = policies(answer)[rule]
        assert (state["q"], state["w"], state["r"]) == (3, 86_400, left)
        assert 1 <= state["t"] <= 86_400
        assert "retry-after" not in answer.headers
    for _ in range(2):
        assert_limited(ask(first), rule)
    assert ask(other(first, rule, differs)).status in {200, 204}
    elsewhere = new_project()
    limit(elsewhere, **rates(rule, "3/d"))
    assert ask(Asker(service, elsewhere, address=first.address)).status in {200, 204}
    assert_limited(ask(first), rule)


@each_rule
def test_zero_turns_a_rule_off(
    service: Service, project: Project, rule: str, ask: Ask, differs: str
) -> None:
    limit(project, **rates(rule, "1/d"))
    asker = Asker(service, project, address=new_address())
    ask(asker)
    assert_limited(ask(asker), rule)
    limit(project, **rates(rule, "0"))
    # One request may be the one that hears of it.
    ask(asker)
    for _ in range(3):
        answer = ask(asker)
        assert answer.status in {200, 204}
        assert rule not in policies(answer)


def test_headers_are_written_as_the_draft_has_them(service: Service, project: Project) -> None:
    limit(project, events_user="3/m", events_ip="0")

    def four() -> list[Answer] | None:
        asker = Asker(service, project, user=uuid4().hex)
        answers = [asker.events_by_header() for _ in range(4)]
        # In a window that ended meanwhile there is more left.
        return answers if answers[-1].status == 429 else None

    answers = wait_for(four, 5, "four requests in one window")
    for answer, left in zip(answers, (2, 1, 0, 0), strict=True):
        assert answer.headers["ratelimit-policy"] == '"events.user";q=3;w=60'
        assert re.fullmatch(rf'"events.user";r={left};t=[1-9][0-9]?', answer.headers["ratelimit"])


def test_every_rule_of_an_endpoint_is_told(service: Service, project: Project) -> None:
    limit(project, events_key="50/h", events_ip="7/h")
    found = policies(Asker(service, project).events_by_header())
    assert {rule: state["q"] for rule, state in found.items()} == {
        "events.user": 1_000_000,
        "events.ip": 7,
        "events.key": 50,
    }


def test_rule_whose_key_is_absent_is_not_applied(service: Service, project: Project) -> None:
    """The users stand on the events alone: the batch is nobody's."""
    limit(project, events_user="1/d")
    for _ in range(3):
        answer = send(service, project, batch(event(), event()))
        assert answer.status == 200
        assert "events.user" not in policies(answer)


def test_header_names_the_user_and_not_the_body(service: Service, project: Project) -> None:
    limit(project, events_user="1/d")
    answers = [
        send(service, project, batch(user_id=user), {"X-User-ID": "ada"}) for user in ("x", "y")
    ]
    assert [answer.status for answer in answers] == [200, 429]


def test_user_is_the_same_in_the_header_and_in_the_body(service: Service, project: Project) -> None:
    limit(project, events_user="2/d")
    asker = Asker(service, project)
    statuses = [
        ask().status for ask in (asker.events_by_header, asker.events_by_batch) for _ in range(2)
    ]
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize("user", ["Zoë", "\U0001f600", "a|b", "x" * 200, "-"])
def test_any_user_is_limited(service: Service, project: Project, user: str) -> None:
    limit(project, events_user="1/d")
    answers = [send(service, project, batch(user_id=user)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]


def test_customer_with_many_ipv6_addresses_is_one_client(
    service: Service, project: Project
) -> None:
    limit(project, events_ip="1/d")
    network = f"2001:db8:{next(_addresses):x}:7"
    for host, status in (("::1", 200), (":ffff::9", 429)):
        asker = Asker(service, project, address=network + host)
        assert asker.events().status == status


def test_what_a_client_writes_before_the_proxy_does_not_help_it(
    service: Service, project: Project
) -> None:
    limit(project, events_ip="1/d")
    address = new_address()
    statuses = [
        Asker(service, project, address=f"{spoofed}, {address}").events().status
        for spoofed in ("203.0.113.1", "203.0.113.2", new_address())
    ]
    assert statuses == [200, 429, 429]


# --- several windows ---


def test_all_windows_of_a_rule_are_told(service: Service, project: Project) -> None:
    limit(project, submit_user="30/m,1000/h")
    answer = Asker(service, project).submit_by_header()
    assert answer.headers["ratelimit-policy"] == (
        '"submit.user";q=30;w=60, "submit.user";q=1000;w=3600'
    )
    assert re.fullmatch(
        r'"submit.user";r=29;t=\d+, "submit.user";r=999;t=\d+', answer.headers["ratelimit"]
    )


def test_longer_window_stops_who_keeps_to_the_shorter(service: Service, project: Project) -> None:
    limit(project, submit_user="100/s,3/d")
    asker = Asker(service, project)
    answers = [asker.submit_by_batch() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) > 1


def test_retry_after_is_that_of_the_window_that_opens_last(
    service: Service, project: Project
) -> None:
    limit(project, submit_user="1/h,1/999d")
    asker = Asker(service, project)
    asker.submit_by_batch()
    answer = asker.submit_by_batch()
    times = [int(t) for t in re.findall(r"t=(\d+)", answer.headers["ratelimit"])]
    assert len(times) == 2
    assert int(answer.headers["retry-after"]) == max(times)


# --- windows open again ---


@pytest.mark.parametrize("rate", ["2/s", "2/2s", "2/3s"])
def test_window_opens_again_when_it_was_said_to(
    service: Service, project: Project, rate: str
) -> None:
    limit(project, events_user=rate)
    asker = Asker(service, project)

    def refused() -> Answer | None:
        answer = asker.events_by_header()
        return answer if answer.status == 429 else None

    answer = wait_for(refused, 5, "the window to be used up")
    assert_limited(answer, "events.user")
    wait_for(
        lambda: asker.events_by_header().status == 200,
        int(answer.headers["retry-after"]) + 0.5,
        "the window to open again",
    )


def test_waiting_as_told_is_enough(service: Service, project: Project) -> None:
    """Also for a client that asks once and then not before its time."""
    limit(project, events_user="1/2s")
    asker = Asker(service, project)
    answer = wait_for(
        lambda: found if (found := asker.events_by_header()).status == 429 else None,
        5,
        "the window to be used up",
    )
    until = time.monotonic() + int(answer.headers["retry-after"])
    wait_for(lambda: time.monotonic() >= until, 3, "the time to pass")
    assert asker.events_by_header().status == 200


# --- a project's own rates ---


def test_projects_own_rate_is_in_force_at_once(service: Service, project: Project) -> None:
    asker = Asker(service, project)
    assert asker.events_by_header().status == 200
    for rate, quota in (("1/d", 1), ("5/d", 5), ("2/d", 2)):
        limit(project, events_user=rate)
        # One request may be the one that hears of it.
        asker.events_by_header()
        assert policies(asker.events_by_header())["events.user"]["q"] == quota


def test_projects_own_rate_is_its_own(service: Service, project: Project) -> None:
    limit(project, events_user="1/d")
    asker = Asker(service, new_project())
    assert [asker.events_by_header().status for _ in range(3)] == [200] * 3


def test_instances_rate_holds_where_a_project_has_none(service: Service, project: Project) -> None:
    row = Row.objects.get(slug=project.project)
    caller = ratelimits.Caller(_request(), row.pk, user=uuid4().hex)
    with override_settings(RATE_LIMITS={**settings.RATE_LIMITS, "events.user": "2/d"}):
        for _ in range(2):
            ratelimits.Limiter(caller, ["events.user"]).check()
        with pytest.raises(ratelimits.RateLimited):
            ratelimits.Limiter(caller, ["events.user"]).check()


def test_what_was_looked_up_before_a_change_is_not_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()

    def slow(_: str) -> str:
        # While the database answers, another request hears of a change.
        heard = counters_module.counters.generation + 1
        monkeypatch.setattr(counters_module.counters, "generation", heard)
        memory.get("key", "another", str)
        return "as it was"

    assert memory.get("key", "one", slow) == "as it was"
    assert memory.get("key", "one", lambda _: "as it is") == "as it is"


def _request() -> Any:
    return Client(SERVER_NAME="localhost").get("/v1/ping").wsgi_request


# --- when it is checked, and what it leaves behind ---


def spent(asker: Asker, rule: str, ask: Ask) -> Asker:
    """The asker, who has nothing left now."""
    limit(asker.project, **rates(rule, "1/d"))
    ask(asker)
    assert_limited(ask(asker), rule)
    return asker


@pytest.mark.parametrize(
    ("rule", "ask", "path"),
    [
        ("events.user", Asker.events_by_header, "/v1/events"),
        ("events.ip", Asker.events, "/v1/events"),
        ("events.key", Asker.events, "/v1/events"),
        ("browser.ip", Asker.page, "/api/client-telemetry"),
        ("metrics.key", Asker.metrics, "/v1/metrics"),
        ("otlp.key", Asker.otlp, "/otlp/v1/logs"),
        ("submit.user", Asker.submit_by_header, "/v1/submit"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_rule_that_needs_no_body_is_checked_before_it_is_read(
    service: Service, project: Project, rule: str, ask: Ask, path: str
) -> None:
    asker = spent(Asker(service, project, address=new_address()), rule, ask)
    headers = {"X-User-ID": asker.user, "Content-Type": "application/json"}
    for body in (b"{", b"\xff", b"[]"):
        assert_limited(asker.post(path, body, **headers), rule)
    unsupported = asker.post(path, b"", **{**headers, "Content-Type": "text/xml"})
    assert_limited(unsupported, rule)
    with Connection(service) as connection:
        length = {"Content-Length": str(10**9), "X-Forwarded-For": asker.address}
        connection.write(project, headers | length, f"POST {path}")
        # Of which no byte comes.
        assert_limited(connection.answer(), rule)


@pytest.mark.parametrize(
    ("rule", "ask", "path"),
    [
        ("events.user", Asker.events_by_batch, "/v1/events"),
        ("submit.user", Asker.submit_nameless, "/v1/submit"),
        ("snapshot.node", Asker.snapshot, "/api/telemetry/snapshot"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_rule_that_needs_the_body_is_checked_once_it_is_decoded(
    service: Service, project: Project, rule: str, ask: Ask, path: str
) -> None:
    asker = spent(Asker(service, project, address=new_address()), rule, ask)
    answer = asker.post(path, b"{")
    assert (answer.status, answer.json["code"]) == (400, "malformed_json")
    assert_limited(ask(asker), rule)


@each_rule
def test_limited_request_leaves_no_row_in_the_ledger(
    service: Service, project: Project, rule: str, ask: Ask, differs: str
) -> None:
    asker = spent(Asker(service, project, address=new_address()), rule, ask)
    rows = len(ledger(project))
    assert rows == (0 if rule in ASKING else 1)
    ask(asker)
    assert len(ledger(project)) == rows


def test_refused_batch_counts_too(service: Service, project: Project) -> None:
    limit(project, events_user="3/d")
    headers = {"X-User-ID": "ada"}
    bodies = [b"{", [{"event": "nameless"}], batch(), batch()]
    answers = [send(service, project, body, headers) for body in bodies]
    assert [answer.status for answer in answers] == [400, 400, 200, 429]
    assert [policies(answer)["events.user"]["r"] for answer in answers] == [2, 1, 0, 0]


def test_batch_of_nothing_but_bad_events_counts_for_its_user(
    service: Service, project: Project
) -> None:
    limit(project, events_user="1/d")
    bad = {"user_id": "ada", "events": [{"event": "e"}]}
    assert [send(service, project, bad).status for _ in range(2)] == [400, 429]


def test_page_of_an_unlisted_origin_counts_too(service: Service, project: Project) -> None:
    limit(project, browser_ip="2/d")
    asker = Asker(service, project, address=new_address())
    headers = {"Origin": "https://elsewhere.example"}
    statuses = [asker.post("/api/client-telemetry", [], **headers).status for _ in range(3)]
    assert statuses == [403, 403, 429]


# --- failed authentications ---


def knock(service: Service, address: str, **headers: str) -> Answer:
    """Somebody without a key, unless one is given."""
    return service.request(
        "POST",
        "/v1/events",
        b"{}",
        {"X-Forwarded-For": address, "Content-Type": "application/json", **headers},
    )


def refusals(service: Service, address: str, **headers: str) -> int:
    """How often an address hears 401 before it hears 429."""
    for number in range(2 * AUTH_QUOTA):
        answer = knock(service, address, **headers)
        if answer.status == 429:
            return number
        assert answer.status == 401
    raise AssertionError("never limited")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "ingest_000000000000_x"},
        {"Authorization": "Bearer eyJ.x.y"},
        {"X-API-Key": "secret_x"},
    ],
    ids=str,
)
def test_address_that_keeps_failing_to_authenticate_is_stopped(
    service: Service, headers: dict[str, str]
) -> None:
    # Two, lest the window of one ends meanwhile.
    found = {refusals(service, new_address(), **headers) for _ in range(2)}
    assert AUTH_QUOTA in found


def test_whoever_fails_to_authenticate_too_often_is_told_so(service: Service) -> None:
    address = new_address()
    refusals(service, address)
    answer = wait_for(
        lambda: found if (found := knock(service, address)).status == 429 else None, 5, "429"
    )
    assert_limited(answer, "auth.ip")


def test_right_key_passes_from_an_address_that_is_stopped(
    service: Service, project: Project
) -> None:
    address = new_address()
    refusals(service, address)
    asker = Asker(service, project, address=address)
    assert asker.events().status == 200
    assert knock(service, new_address()).status == 401, "another address"


def test_all_failures_of_an_address_count_together(service: Service, project: Project) -> None:
    address = {"X-Forwarded-For": new_address()}
    attempts = [
        ("POST", "/v1/events", {}),
        ("POST", "/v1/metrics", {"X-API-Key": "x"}),
        ("GET", "/v1/query/accounting", {}),
        ("GET", f"/v1/batches/{uuid4()}", {"Authorization": "Bearer a.b.c"}),
        ("POST", "/v1/submit?key=x", {}),
    ]
    # Enough for two windows, should one end meanwhile.
    statuses = [
        service.request(method, path, b"" if method == "POST" else None, headers | address).status
        for _ in range(9)
        for method, path, headers in attempts
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429 or statuses.count(429)
    assert set(statuses) == {401, 429}


def test_wrong_scope_is_no_failed_authentication(service: Service, project: Project) -> None:
    headers = {"X-API-Key": project.ingest_key, "X-Forwarded-For": new_address()}
    for _ in range(AUTH_QUOTA + 2):
        assert service.request("GET", "/v1/query/accounting", headers=headers).status == 403


# --- one budget ---


def here(project: Project, user: str) -> int:
    """The status of a request to the application in this process."""
    answer = Client(SERVER_NAME="localhost").post(
        "/v1/events",
        batch(),
        content_type="application/json",
        headers={"X-API-Key": project.ingest_key, "X-User-ID": user},
    )
    return answer.status_code


def test_processes_share_one_budget(service: Service, project: Project) -> None:
    limit(project, events_user="5/d")
    asker = Asker(service, project)
    statuses = [
        status
        for _ in range(4)
        for status in (asker.events_by_header().status, here(project, asker.user))
    ]
    assert statuses == [200] * 5 + [429] * 3


@pytest.mark.parametrize("ask", [Asker.events_by_header, Asker.events_by_batch])
def test_requests_at_once_get_exactly_the_quota(
    service: Service, project: Project, ask: Ask
) -> None:
    limit(project, events_user="10/d")
    barrier = threading.Barrier(16)

    def one(_: int) -> int:
        barrier.wait(10)
        return ask(Asker(service, project)).status

    with ThreadPoolExecutor(16) as threads:
        statuses = Tally(threads.map(one, range(16)))
    assert statuses == {200: 10, 429: 6}
    assert len(ledger(project)) == 10


# --- a Redis that is away ---


class RedisProxy(socketserver.ThreadingTCPServer):
    """Stands between a client and the service's Redis, and keeps what the client says."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.said: list[bytes] = []
        self.sockets: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Passing)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        for each in self.sockets:
            each.close()
        self.server_close()


class _Passing(socketserver.BaseRequestHandler):
    server: RedisProxy

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as redis:
            redis.connect(urlsplit(settings.REDIS).path)
            self.server.sockets += [self.request, redis]
            back = threading.Thread(target=self._pass, args=(redis, self.request, []), daemon=True)
            back.start()
            self._pass(self.request, redis, self.server.said)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, kept: list[bytes]) -> None:
        try:
            while data := source.recv(65_536):
                kept.append(data)
                target.sendall(data)
        except OSError:
            return


def counters_at(port: int) -> Counters:
    """Counters whose Redis is, or is not, behind this port."""
    with override_settings(
        REDIS=f"redis://:{urlsplit(settings.REDIS).password}@127.0.0.1:{port}/0"
    ):
        return Counters()


def one_counter(quota: int = 5) -> list[Counter]:
    return [Counter(f"test:{uuid4().hex}", 30, quota, "|test|x|")]


@pytest.fixture(params=["nobody listens", "frozen"])
def lost_port(request: pytest.FixtureRequest, service: Service) -> Iterator[int]:
    """A port where connections are refused, or taken without ever a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "frozen":
            listener.listen(64)
        yield listener.getsockname()[1] if request.param == "frozen" else free_port()


@pytest.fixture
def lost(lost_port: int, monkeypatch: pytest.MonkeyPatch) -> Counters:
    """This process's counters, without their Redis."""
    away = counters_at(lost_port)
    monkeypatch.setattr(ratelimits, "counters", away)
    return away


def seconds(action: Callable[[], Any]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def test_nothing_is_counted_and_nobody_waits_while_redis_is_away(lost: Counters) -> None:
    assert seconds(lambda: lost.count(one_counter())) < BOUNDED_SECONDS
    assert seconds(lambda: [lost.count(one_counter()) for _ in range(1000)]) < AT_ONCE_SECONDS
    assert lost.count(one_counter()) is None


def test_requests_at_once_wait_a_moment_once_while_redis_is_away(lost: Counters) -> None:
    with ThreadPoolExecutor(16) as threads:
        durations = list(
            threads.map(lambda _: seconds(lambda: lost.count(one_counter())), range(64))
        )
    assert max(durations) < BOUNDED_SECONDS
    assert sum(duration > AT_ONCE_SECONDS for duration in durations) <= 16


def test_check_passes_and_tells_nothing_while_redis_is_away(
    lost: Counters, project: Project
) -> None:
    limit(project, events_user="1/d")
    client = Client(SERVER_NAME="localhost")
    for number in range(4):
        begun = time.monotonic()
        answer = client.post(
            "/v1/events",
            batch(),
            content_type="application/json",
            headers={"X-API-Key": project.ingest_key, "X-User-ID": "ada"},
        )
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers
        assert "RateLimit-Policy" not in answer.headers
        if number:
            assert time.monotonic() - begun < BOUNDED_SECONDS


def test_failed_authentication_is_401_while_redis_is_away(lost: Counters) -> None:
    client = Client(SERVER_NAME="localhost")
    statuses = {client.post("/v1/events").status_code for _ in range(AUTH_QUOTA + 5)}
    assert statuses == {401}


def test_project_can_be_changed_while_redis_is_away(
    lost_port: int, project: Project, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr("ingest.models.projects.counters", counters_at(lost_port))
    with caplog.at_level(logging.WARNING, "ingest.counters"):
        assert seconds(lambda: limit(project, events_user="7/d")) < 2 * BOUNDED_SECONDS
    assert "a change is seen in some seconds only" in caplog.text
    assert Row.objects.get(slug=project.project).rate_limits == {"events.user": "7/d"}


def test_log_says_that_limits_are_off_and_later_what_was_not_counted(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    away = counters_at(port)
    monkeypatch.setattr(counters_module, "_PAUSE_SECONDS", 0.05)
    with caplog.at_level(logging.WARNING, "ingest.counters"):
        for _ in range(7):
            assert away.count(one_counter()) is None
        with RedisProxy(port):
            wait_for(lambda: len(caplog.records) == 2, 4, "Redis to be found")
            assert away.count(one_counter()) == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "rate limits are off: Redis does not answer (ConnectionError)",
        "rate limits are on; 7 requests were not counted",
    ], "each said once an outage"


def test_limits_hold_again_when_redis_is_back(service: Service) -> None:
    """By themselves, some seconds later."""
    port = free_port()
    away, counted = counters_at(port), one_counter()
    assert away.count(counted) is None
    with RedisProxy(port):
        assert away.count(counted) is None, "it isn't asked yet"
        found = wait_for(lambda: away.count(counted), 4, "Redis to be asked again")
        assert (found, away.count(counted)) == ([1], [2])


def test_connection_that_redis_has_closed_is_made_anew(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, counted = free_port(), one_counter()
    away = counters_at(port)
    with RedisProxy(port):
        assert away.count(counted) == [1]
    monkeypatch.setattr(counters_module, "_PAUSE_SECONDS", 0.05)
    with RedisProxy(port):
        found = wait_for(lambda: away.count(counted), 3, "a new connection")
    assert found == [2]


def test_redis_that_forgot_the_script_is_told_it_again(service: Service) -> None:
    with RedisProxy() as proxy:
        found = counters_at(proxy.server_address[1])
        assert found.count(one_counter()) == [1]
        found._redis.script_flush()
        assert found.count(one_counter()) == [1]


# --- what a request costs ---


def test_all_rules_of_a_request_cost_one_round_trip(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(project, events_key="100/d", events_user="100/m,1000/d")
    with RedisProxy() as proxy:
        monkeypatch.setattr(ratelimits, "counters", counters_at(proxy.server_address[1]))
        assert here(project, "ada") == 200
        before = len(proxy.said)
        assert here(project, "ada") == 200
    (said,) = proxy.said[before:]
    assert commands(said) == ["EVALSHA"]


def test_rule_of_the_body_costs_a_second_one(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisProxy() as proxy:
        monkeypatch.setattr(ratelimits, "counters", counters_at(proxy.server_address[1]))
        client = Client(SERVER_NAME="localhost", headers={"X-API-Key": project.ingest_key})
        for _ in range(2):
            before = len(proxy.said)
            client.post("/v1/events", batch(user_id="ada"), content_type="application/json")
    said: Sequence[bytes] = proxy.said[before:]
    assert [commands(each) for each in said] == [["EVALSHA"], ["EVALSHA"]]


def commands(said: bytes) -> list[str]:
    """The commands that stand in what a client said to Redis."""
    return [name.decode() for name in re.findall(rb"\*\d+\r\n\$\d+\r\n([A-Z]+)\r\n", said)]


def test_counters_are_forgotten_when_their_window_is_over(
    service: Service, project: Project
) -> None:
    redis = counters_module.counters._redis
    limit(project, events_user="1/2s,1/m")
    before = set(redis.keys("rl:*"))
    assert Asker(service, project).events_by_header().status == 200
    lives = sorted(redis.ttl(key) for key in set(redis.keys("rl:*")) - before)
    assert all(0 < life <= 65 for life in lives)
    assert min(lives) <= 7


def test_nothing_of_a_caller_is_in_redis_in_clear(service: Service, project: Project) -> None:
    user, node, origin = (
        f"ada-{uuid4().hex}",
        f"node-{uuid4().hex}",
        f"https://{uuid4().hex}.example",
    )
    limit(project, events_user="1/d", events_ip="1/d", snapshot_node="1/d", metrics_key="1/d",
          submit_user="1/d", browser_ip="1/d")  # fmt: skip
    addresses = [new_address(), "2001:db8:77:88:99:aa:bb:cc"]
    for address in addresses:
        asker = Asker(service, project, user, address, node=node)
        asks = (
            asker.events_by_header, asker.events, asker.snapshot, asker.metrics,
            asker.submit_by_batch, asker.submit_nameless, asker.page,
        )  # fmt: skip
        for ask in asks:
            for _ in range(2):
                ask()
        asker.post("/api/client-telemetry", [], Origin=origin)
        refusals(service, address, **{"X-API-Key": "ingest_000000000000_x"})
    kept = everything_in_redis()
    assert b"events.user" in kept, "it does hold what was counted"
    secrets = [user, node, origin, *addresses, "2001:db8:77:88", project.project]
    for key in (project.ingest_key, project.secret_key):
        secrets += [key, *key.split("_", 2)[1:]]
    assert [secret for secret in secrets if secret.encode() in kept] == []


def everything_in_redis() -> bytes:
    """Every key with all it holds."""
    redis = counters_module.counters._redis
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"none": lambda key: None,
    }
    found = [(key, readers[redis.type(key)](key)) for key in redis.scan_iter(count=1000)]
    return repr(found).encode()
