"""One request to a collector, over real sockets: whatever that does, there is an answer in time."""

import concurrent.futures
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from google.protobuf import json_format
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from ingest.forwarding import connections
from ingest.forwarding.answers import Answer, Outcome
from ingest.forwarding.sending import send
from ingest.forwarding.targets import Target
from tests.certificates import certificate, server_context
from tests.collector import answers
from tests.collector.received import JSON, PROTOBUF
from tests.collector.server import Collector
from tests.harness import free_port, wait_for

SECRET = "s3cret-t0ken"
SHORT = 0.3  # seconds, where there is nothing to come
LONG = 30.0  # where an answer comes, however busy the machine is
LATE = 5.0  # what a busy machine may add


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running, override_settings(OTEL_COLLECTOR_TIMEOUT=LONG):
        yield running


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give up after so long; fails where that took longer."""
    begun = time.monotonic()
    with override_settings(OTEL_COLLECTOR_TIMEOUT=seconds):
        yield
    assert time.monotonic() - begun < seconds + LATE


def request(words: str = "hello") -> ExportLogsServiceRequest:
    whole = ExportLogsServiceRequest()
    record = whole.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = words
    return whole


BODY = request().SerializeToString()


def to(collector: Collector, path: str = "/v1/logs") -> Target:
    return Target(collector.url + path, {}, is_trusted=True)


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that talks to one client, then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/logs"
        thread.join(LONG)


def post(collector: Collector, answer: answers.Answer | None = None) -> Answer:
    """Send a request that is answered so."""
    if answer is not None:
        collector.then(answer)
    return send(to(collector), BODY, PROTOBUF)


# --- What is sent ---------------------------------------------------------------------------------


def test_a_request_arrives_whole(collector: Collector) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Scope-OrgID": "a"}
    sent = request("ä" * 10_000)
    target = Target(collector.url + "/v1/logs", headers, is_trusted=True)
    assert send(target, sent.SerializeToString(), PROTOBUF).outcome is Outcome.DELIVERED
    received = collector.received[0]
    assert received.request == sent
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert received.headers["x-scope-orgid"] == "a"
    assert received.headers["content-encoding"] == "gzip"
    assert received.headers["user-agent"].startswith("client-telemetry/")
    assert len(received.body) < 1000


def test_json_arrives_as_json(collector: Collector) -> None:
    sent = request()
    answer = send(to(collector), json_format.MessageToJson(sent).encode(), JSON)
    assert answer == Answer(Outcome.DELIVERED, 200, "", None)
    assert collector.received[0].request == sent


def test_connections_are_reused_for_both_signals(collector: Collector) -> None:
    for path in ("/v1/logs", "/v1/metrics") * 10:
        assert send(to(collector, path), b"", PROTOBUF).outcome is Outcome.DELIVERED
    assert collector.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        answers.refuse(503),
        answers.refuse(400),
        answers.say(500, b"x" * 1000),
        answers.say(204, b""),
    ],
)
def test_connections_are_reused_after_an_error(
    collector: Collector, answer: answers.Answer
) -> None:
    post(collector, answer)
    post(collector)
    assert collector.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew(collector: Collector) -> None:
    post(collector)
    collector.disconnect()
    wait_for(lambda: not collector.open_connections, LATE, "the connection to be closed")
    assert post(collector).outcome is Outcome.DELIVERED
    assert collector.connections == 2


def test_requests_at_the_same_time_have_connections_of_their_own(collector: Collector) -> None:
    together = threading.Barrier(4)

    def answer(exchange: answers.Exchange) -> None:
        together.wait(LONG)
        answers.accept(exchange)

    collector.then(*[answer] * 4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = [pool.submit(post, collector) for _ in range(4)]
    assert {f.result().outcome for f in found} == {Outcome.DELIVERED}
    assert collector.connections == 4
    wait_for(lambda: collector.open_connections == 1, LATE, "all but one to be closed")


def test_connections_that_wait_are_bounded(collector: Collector) -> None:
    with Collector(host="0.0.0.0") as everywhere:
        for number in range(1, 41):
            url = f"http://127.0.0.{number}:{everywhere.port}/v1/logs"
            assert send(Target(url, {}, True), BODY, PROTOBUF).outcome is Outcome.DELIVERED
        wait_for(lambda: everywhere.open_connections == 32, LATE, "the oldest to be closed")


def test_proxies_of_the_environment_are_not_asked(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert post(collector).outcome is Outcome.DELIVERED


# --- What is answered -----------------------------------------------------------------------------


def test_every_status_has_its_outcome(collector: Collector) -> None:
    for status in range(200, 600):
        answer = post(collector, answers.say(status, b""))
        expected = Outcome.DELIVERED if status < 300 else Outcome.REFUSED
        if status in (429, 502, 503, 504):
            expected = Outcome.RETRY
        assert (answer.status, answer.outcome) == (status, expected)
    assert len(collector.received) == 400


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_the_collectors_words_are_told(collector: Collector, kind: str) -> None:
    body = BODY if kind == PROTOBUF else json_format.MessageToJson(request()).encode()
    collector.then(answers.refuse(400, "bad record"), answers.accept_partly(3, "too old"))
    assert send(to(collector), body, kind).words == "bad record"
    assert send(to(collector), body, kind) == Answer(Outcome.DELIVERED, 200, "too old", None, 3)


def test_retry_after_is_told(collector: Collector) -> None:
    assert post(collector, answers.refuse(503, "", {"Retry-After": "7"})).retry_after == 7
    date = {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}
    assert post(collector, answers.refuse(429, "", date)).retry_after == 3600


def test_a_late_answer_is_waited_for(collector: Collector) -> None:
    assert post(collector, answers.after(0.2, answers.accept)).outcome is Outcome.DELIVERED


def test_a_redirect_is_not_followed(collector: Collector) -> None:
    with Collector() as goal:
        for status in (301, 302, 303, 307, 308):
            location = {"Location": f"{goal.url}/v1/logs"}
            answer = post(collector, answers.say(status, b"", location))
            assert answer.outcome is Outcome.REFUSED
            assert goal.url not in answer.words
        assert goal.connections == 0


def test_of_an_endless_answer_the_beginning_is_read(collector: Collector) -> None:
    answer = post(collector, answers.pour(400))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 400)
    assert answer.words.startswith("word word")
    assert len(answer.words) == 500
    assert post(collector).outcome is Outcome.DELIVERED
    assert collector.connections == 2


def test_an_answer_that_comes_before_all_was_sent_is_heard() -> None:
    def refuse_unread(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")

    with listening(refuse_unread) as url, override_settings(OTEL_COLLECTOR_TIMEOUT=LONG):
        # More than the sockets between hold.
        answer = send(Target(url, {}, is_trusted=True), os.urandom(32 * 1024**2), PROTOBUF)
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 413)


# --- Half an answer, garbage, none ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answers.hang_up, Outcome.RETRY),
        (answers.shout(b""), Outcome.RETRY),
        (answers.shout(b"HTTP/1.1 "), Outcome.RETRY),
        (answers.shout(b"hello\r\n\r\n"), Outcome.RETRY),
        (answers.shout(b"\x16\x03\x01\x02\x00"), Outcome.RETRY),
        (answers.shout(b"HTTP/1.1 99999 OK\r\n\r\n"), Outcome.RETRY),
        (answers.shout(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000), Outcome.RETRY),
        (answers.shout(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000), Outcome.RETRY),
        (answers.shout(b"HTTP/1.1 100 Continue\r\n\r\n" * 9), Outcome.RETRY),
        # The status line says it.
        (answers.shout(b"HTTP/1.1 200 OK\r\nContent-Ty"), Outcome.DELIVERED),
        (answers.shout(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Outcome.DELIVERED),
        (answers.shout(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nxx"), Outcome.DELIVERED),
        (answers.cut_short, Outcome.DELIVERED),
        (
            answers.shout(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Outcome.DELIVERED,
        ),
        (
            answers.shout(b"HTTP/1.1 400 Bad\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08"),
            Outcome.REFUSED,
        ),
        (answers.say(200, b"<html>Welcome</html>"), Outcome.DELIVERED),
    ],
)
def test_a_broken_answer_is_none_unless_its_status_came(
    collector: Collector, answer: answers.Answer, outcome: Outcome
) -> None:
    assert post(collector, answer).outcome is outcome
    assert post(collector).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answers.stay_silent, Outcome.RETRY),
        (answers.drip(b"", b"H"), Outcome.RETRY),
        (answers.drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"), Outcome.RETRY),
        (answers.drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), Outcome.RETRY),
        (answers.drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Outcome.RETRY),
        (answers.drip(b"HTTP/1.1 503 Away\r\n\r\n", b"y"), Outcome.RETRY),
        (answers.drip(b"HTTP/1.1 400 Bad\r\nContent-Length: 999\r\n\r\n", b"y"), Outcome.REFUSED),
        (answers.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"y"), Outcome.DELIVERED),
    ],
)
def test_the_deadline_holds_however_slowly_the_answer_comes(
    collector: Collector, answer: answers.Answer, outcome: Outcome
) -> None:
    # Of some at least the status has to come.
    with deadline(SHORT if outcome is Outcome.RETRY else 5 * SHORT):
        assert post(collector, answer).outcome is outcome
    # What is still to come isn't taken for the next answer.
    assert post(collector).outcome is Outcome.DELIVERED


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 Away\r\n\r\n"]),
    rest=st.binary(max_size=200),
)
def test_whatever_is_said_there_is_an_answer(
    collector: Collector, start: bytes, rest: bytes
) -> None:
    with deadline(SHORT):
        answer = post(collector, answers.shout(start + rest))
    assert answer.words.isprintable()


def test_nobody_listens_and_then_somebody_does(collector: Collector) -> None:
    collector.stop()
    assert post(collector) == Answer(Outcome.RETRY, None, "Connection refused", None)
    collector.start()
    assert post(collector).outcome is Outcome.DELIVERED


def test_names_that_lead_nowhere(collector: Collector) -> None:
    target = Target("http://nowhere.invalid:4318/v1/logs", {}, is_trusted=True)
    assert send(target, BODY, PROTOBUF) == Answer(
        Outcome.RETRY, None, "the name leads to no address", None
    )


def test_a_resolver_that_hangs_is_not_waited_for(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: hanging.wait(LONG))
    with deadline(SHORT):
        answer = post(collector)
    hanging.set()
    assert answer == Answer(Outcome.RETRY, None, "no answer within 0.3 s", None)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes this process know an authority, as an operator does."""

    def know(file: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        connections.tls.cache_clear()

    connections.tls.cache_clear()
    yield know
    connections.tls.cache_clear()


def test_certificates_are_verified(tmp_path: Path, known: Callable[[Path], None]) -> None:
    file = certificate(tmp_path)
    tls = server_context(file)
    with override_settings(OTEL_COLLECTOR_TIMEOUT=LONG), Collector(tls=tls) as collector:
        assert post(collector) == Answer(Outcome.RETRY, None, "TLS: self-signed certificate", None)
        known(file)
        for _ in range(3):
            assert post(collector).outcome is Outcome.DELIVERED
        assert len(collector.received) == 3
        assert len({received.connection for received in collector.received}) == 1


def test_a_certificate_for_somebody_else_is_refused(
    tmp_path: Path, known: Callable[[Path], None]
) -> None:
    file = certificate(tmp_path, name="another.example", address="127.0.0.2")
    known(file)
    tls = server_context(file)
    with override_settings(OTEL_COLLECTOR_TIMEOUT=LONG), Collector(tls=tls) as collector:
        answer = post(collector)
        assert answer.outcome is Outcome.RETRY
        assert answer.words.startswith("TLS: IP address mismatch")
        assert not collector.received


def test_the_deadline_holds_for_tls(tmp_path: Path, known: Callable[[Path], None]) -> None:
    file = certificate(tmp_path)
    known(file)
    with Collector(tls=server_context(file)) as collector:
        for answer in (answers.stay_silent, answers.drip(b"HTTP/1.1 200 OK\r\nX: ", b"y")):
            with deadline(SHORT):
                assert post(collector, answer).words == "no answer within 0.3 s"
    done = threading.Event()
    with listening(lambda _: done.wait(LONG)) as url:  # no handshake comes
        with deadline(SHORT):
            target = Target(url.replace("http", "https"), {}, is_trusted=True)
            assert send(target, BODY, PROTOBUF).words == "no answer within 0.3 s"
        done.set()


# --- Where a project's own destination may not be -------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0",
        "localhost", "LocalHost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "[::]",
    ],
)  # fmt: skip
def test_a_projects_own_destination_reaches_nothing_of_ours(
    collector: Collector, host: str
) -> None:
    target = Target(f"http://{host}:{collector.port}/v1/logs", {}, is_trusted=False)
    answer = send(target, BODY, PROTOBUF)
    assert (answer.outcome, answer.status) == (Outcome.RETRY, None)
    assert "public" in answer.words
    assert collector.connections == 0


PUBLIC = ("127.0.0.2", "127.0.0.3")


class Resolver:
    """Tells where a name leads, each time another answer."""

    def __init__(self, *found: list[str]) -> None:
        self.found = list(found)

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "collector.example"
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.found.pop(0)
        ]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """The resolver of this test, for which two addresses are the public network."""
    asked = Resolver()
    monkeypatch.setattr("socket.getaddrinfo", asked)
    monkeypatch.setattr(connections, "is_public", lambda address: str(address) in PUBLIC)
    return asked


def own(collector: Collector) -> Target:
    return Target(f"http://collector.example:{collector.port}/v1/logs", {}, is_trusted=False)


@pytest.mark.parametrize("found", [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]])
def test_all_addresses_of_a_name_are_checked(
    collector: Collector, resolver: Resolver, found: list[str]
) -> None:
    resolver.found = [found]
    assert send(own(collector), BODY, PROTOBUF).words == connections.NOT_PUBLIC
    assert collector.connections == 0


def test_a_name_is_asked_once_a_connection_and_checked_each_time(resolver: Resolver) -> None:
    with override_settings(OTEL_COLLECTOR_TIMEOUT=LONG), Collector(host="0.0.0.0") as collector:
        resolver.found = [["127.0.0.2"], ["127.0.0.1"]]
        for _ in range(2):
            assert send(own(collector), BODY, PROTOBUF).outcome is Outcome.DELIVERED
        assert resolver.found == [["127.0.0.1"]]
        assert collector.connections == 1
        collector.disconnect()
        wait_for(lambda: not collector.open_connections, LATE, "the connection to be closed")
        assert send(own(collector), BODY, PROTOBUF).words == connections.NOT_PUBLIC
        assert collector.connections == 1
        assert collector.received[0].headers["host"] == f"collector.example:{collector.port}"


def test_a_trusted_connection_is_not_lent_to_who_is_not(collector: Collector) -> None:
    post(collector)
    target = Target(collector.url + "/v1/logs", {}, is_trusted=False)
    assert send(target, BODY, PROTOBUF).words == connections.NOT_PUBLIC
    assert len(collector.received) == 1


def test_where_one_address_refuses_the_next_is_tried(resolver: Resolver) -> None:
    resolver.found = [["127.0.0.3", "127.0.0.2"]]
    with override_settings(OTEL_COLLECTOR_TIMEOUT=LONG), Collector(host="127.0.0.2") as collector:
        assert send(own(collector), BODY, PROTOBUF).outcome is Outcome.DELIVERED


# --- What can't be sent, and what isn't told ------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://{}/v1/logs", {"X-Key": f"{SECRET}\r\nX-Other: 1"}),
        ("http://{}/v1/logs", {"X-Key": f"{SECRET}\n"}),
        ("http://{}/v1/logs", {"Host": "a.example"}),
        ("http://{}/v1/logs", {"Content-Length": "1"}),
        (f"http://{SECRET}@{{}}/v1/logs", {}),
        ("ftp://{}/v1/logs", {}),
        ("http://{}/v1/ logs", {}),
        ("http://{}/v1/logs\r\nX-Other: 1", {}),
    ],
)
def test_a_destination_that_cannot_be_used_is_told_without_its_secrets(
    collector: Collector, url: str, headers: dict[str, str]
) -> None:
    target = Target(url.format(f"127.0.0.1:{collector.port}"), headers, is_trusted=True)
    answer = send(target, BODY, PROTOBUF)
    assert (answer.outcome, answer.status) == (Outcome.RETRY, None)
    assert SECRET not in answer.words
    assert collector.connections == 0


def test_nothing_of_a_destination_is_logged(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    target = Target(f"{collector.url}/v1/logs?key={SECRET}", {"X-Key": SECRET}, is_trusted=True)
    broken = b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n"
    collector.then(answers.accept, answers.shout(broken), answers.hang_up, answers.refuse(400))
    for _ in range(4):
        send(target, BODY, PROTOBUF)
    collector.stop()
    send(target, BODY, PROTOBUF)
    assert SECRET not in caplog.text + repr(target)
