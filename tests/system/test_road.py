"""The road a batch takes, as its client sees it: HTTP, and nothing else."""

import gzip
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.harness import Project, Service, wait_for

STORED_SECONDS = 20


@pytest.fixture(scope="module")
def keys(service: Service) -> Project:
    """A project, made as an operator makes one."""
    return service.create_project(f"road {uuid4().hex}")


def events(count: int) -> list[dict[str, Any]]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return [
        {"event": "plugin_loaded", "timestamp": now, "user_id": uuid4().hex, "load_ms": 41.5}
        for _ in range(count)
    ]


def batch(count: int = 3) -> dict[str, Any]:
    return {"batch_id": str(uuid4()), "client_version": "1.2.3", "events": events(count)}


def headers(keys: Project, **more: str) -> dict[str, str]:
    return {"X-API-Key": keys.ingest_key, "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in more.items()
    }


def post(service: Service, keys: Project, content: Any, **more: str) -> Any:
    body = gzip.compress(json.dumps(content).encode())
    sent = headers(keys, Content_Encoding="gzip", **more)
    answer = service.request("POST", "/v1/events", body, sent)
    assert answer.status == 200, answer.text
    return answer.json


def wait_until_stored(service: Service, keys: Project, batch_id: str) -> Any:
    def stored() -> Any:
        answer = service.request("GET", f"/v1/batches/{batch_id}", headers=headers(keys))
        assert answer.status == 200, answer.text
        return answer.json if answer.json["state"] == "stored" else None

    return wait_for(stored, STORED_SECONDS, f"batch {batch_id} to be stored")


def accounting(service: Service, keys: Project) -> dict[str, int]:
    secret = {"X-API-Key": keys.secret_key}
    answer = service.request("GET", "/v1/query/accounting", headers=secret)
    assert answer.status == 200, answer.text
    formats = {line.pop("format"): line for line in answer.json["formats"]}
    found: dict[str, int] = formats["events"]
    return found


def test_a_batch_is_accepted_stored_recognised_and_accounted_for(service: Service) -> None:
    keys = service.create_project(f"road {uuid4().hex}")
    sent = batch(3)
    sent["events"].append({"event": "no time"})

    receipt = post(service, keys, sent)
    assert receipt["batch_id"] == sent["batch_id"]
    assert (receipt["received"], receipt["accepted"], receipt["rejected"]) == (4, 3, 1)
    assert [(e["index"], e["field"]) for e in receipt["errors"]] == [(3, "timestamp")]
    assert datetime.fromisoformat(receipt["timestamp"]).tzinfo
    assert "duplicate" not in receipt

    report = wait_until_stored(service, keys, sent["batch_id"])
    assert (report["received"], report["stored"], report["rejected"]) == (4, 3, 1)

    replay = post(service, keys, sent)
    assert replay["duplicate"] is True
    assert replay["batch_id"] == sent["batch_id"]

    total = accounting(service, keys)
    received = total.pop("received")
    assert received == sum(total.values()) == 8
    assert (total["stored"], total["duplicate"], total["rejected"]) == (3, 3, 2)


def test_a_batch_that_is_sent_again_at_once_is_stored_once(service: Service, keys: Project) -> None:
    sent = batch(5)
    with ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(lambda _: post(service, keys, sent), range(8)))
    assert [bool(r.get("duplicate")) for r in receipts].count(False) == 1
    assert wait_until_stored(service, keys, sent["batch_id"])["stored"] == 5


def test_another_project_knows_nothing_of_it(service: Service, keys: Project) -> None:
    sent = batch()
    post(service, keys, sent)
    stranger = service.create_project(f"stranger {uuid4().hex}")
    path = f"/v1/batches/{sent['batch_id']}"
    assert service.request("GET", path, headers=headers(stranger)).status == 404
    assert "duplicate" not in post(service, stranger, sent)


def test_a_client_may_name_its_batch_by_header_and_send_a_bare_event(
    service: Service, keys: Project
) -> None:
    batch_id = str(uuid4())
    receipt = post(service, keys, events(1)[0], Idempotency_Key=batch_id)
    assert (receipt["batch_id"], receipt["accepted"]) == (batch_id, 1)


@pytest.mark.parametrize(
    "more",
    [
        {"Content-Type": "application/gzip"},
        {"Content-Type": "application/gzip", "Content-Encoding": "gzip"},
        {"Content-Type": "text/plain;charset=UTF-8", "Content-Encoding": "gzip"},
        {"Content-Type": "", "Content-Encoding": "GZIP"},
    ],
)
def test_clients_say_gzip_in_several_ways(
    service: Service, keys: Project, more: dict[str, str]
) -> None:
    body = gzip.compress(json.dumps(batch()).encode())
    answer = service.request("POST", "/v1/events", body, {"X-API-Key": keys.ingest_key, **more})
    assert (answer.status, answer.json["accepted"]) == (200, 3)


def test_a_key_may_come_as_a_bearer_token(service: Service, keys: Project) -> None:
    sent = {"Authorization": f"bearer {keys.ingest_key}", "Content-Type": "application/json"}
    answer = service.request("POST", "/v1/events", json.dumps(batch()).encode(), sent)
    assert answer.status == 200


def test_what_an_operator_and_a_client_ask_first(service: Service) -> None:
    asked = {path: service.request("GET", path) for path in ("/healthz", "/readyz", "/v1/ping")}
    assert {answer.status for answer in asked.values()} == {200}
    assert asked["/v1/ping"].json == {"status": "ok"}
    info = service.request("GET", "/v1/info").json
    assert info.keys() >= {"name", "version", "api_versions", "limits", "encodings"}
    assert info["encodings"] == ["gzip", "deflate", "br", "zstd"]
    assert info["limits"]["batch_events"] == 1000


# --- the wire ---


def raw(service: Service, *pieces: bytes) -> http.client.HTTPResponse:
    """Send these bytes one after the other on a bare socket; the answer, read."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            wire.sendall(piece)
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer


def head(keys: Project, *lines: str) -> bytes:
    first = ("POST /v1/events HTTP/1.1", "Host: localhost", f"X-API-Key: {keys.ingest_key}")
    return "\r\n".join([*first, "Content-Type: application/json", *lines, "", ""]).encode()


def chunk(piece: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)


def test_a_chunked_body_is_read_to_its_end(service: Service, keys: Project) -> None:
    body = gzip.compress(json.dumps(batch(50)).encode())
    pieces = [chunk(body[at : at + 97], b";x=1") for at in range(0, len(body), 97)]
    chunked = head(keys, "Transfer-Encoding: chunked", "Content-Encoding: gzip")
    answer = raw(service, chunked, *pieces, chunk(b""))
    assert (answer.status, json.loads(answer.body)["accepted"]) == (200, 50)


def test_a_body_may_come_in_pieces_and_be_announced(service: Service, keys: Project) -> None:
    body = json.dumps(batch(2)).encode()
    expecting = head(keys, f"Content-Length: {len(body)}", "Expect: 100-continue")
    answer = raw(service, expecting, *(body[at : at + 50] for at in range(0, len(body), 50)))
    assert (answer.status, json.loads(answer.body)["accepted"]) == (200, 2)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: -1",),
        ("Content-Length: x",),
        ("Transfer-Encoding: gzip",),
    ],
)
def test_a_length_that_two_servers_could_read_in_two_ways_is_not_taken(
    service: Service, keys: Project, lines: tuple[str, ...]
) -> None:
    answer = raw(service, head(keys, *lines), b"[]\r\n0\r\n\r\n")
    assert 400 <= answer.status < 500


def test_one_connection_carries_many_requests(service: Service, keys: Project) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    wire.connect()
    first = wire.sock
    for _ in range(10):
        for body, status in ((json.dumps(batch()).encode(), 200), (b"{", 400)):
            wire.request("POST", "/v1/events", body, headers(keys))
            answer = wire.getresponse()
            answer.read()
            assert (answer.status, wire.sock) == (status, first)
    wire.close()


EARLY = [({"Content-Type": "text/xml"}, 415), ({"X-API-Key": "no"}, 401)]


@pytest.mark.parametrize(("more", "status"), EARLY)
def test_what_is_refused_unread_is_never_taken_for_the_next_request(
    service: Service, keys: Project, more: dict[str, str], status: int
) -> None:
    smuggled = b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    lines = [f"{name}: {value}" for name, value in (headers(keys) | more).items()]
    first = ["POST /v1/events HTTP/1.1", "Host: localhost", f"Content-Length: {len(smuggled)}"]
    sent = "\r\n".join([*first, *lines, "", ""]).encode() + smuggled
    answer = raw(service, sent)
    assert (answer.status, "code" in json.loads(answer.body)) == (status, True)
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as wire:
        ping = b"GET /v1/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        wire.sendall(sent + ping)
        everything = b"".join(iter(lambda: wire.recv(65536), b""))
    assert everything.count(b"HTTP/1.1 ") in {1, 2}
    assert b"api_versions" not in everything


@pytest.mark.parametrize("size", [2, 50_000, 500_000])
@pytest.mark.parametrize(("more", "status"), EARLY)
def test_who_is_refused_while_still_sending_hears_why(
    service: Service, keys: Project, more: dict[str, str], status: int, size: int
) -> None:
    for _ in range(5):
        answer = service.request("POST", "/v1/events", b" " * size, headers(keys) | more)
        assert answer.status == status


def test_many_clients_at_once_are_all_answered_and_all_stored(service: Service) -> None:
    keys = service.create_project(f"crowd {uuid4().hex}")

    def client(_: int) -> None:
        wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        for _ in range(10):
            wire.request("POST", "/v1/events", json.dumps(batch(10)).encode(), headers(keys))
            answer = wire.getresponse()
            assert json.loads(answer.read())["accepted"] == 10
        wire.close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(client, range(16)))
    wait_for(
        lambda: accounting(service, keys)["stored"] == 1600, STORED_SECONDS, "1,600 events stored"
    )
    total = accounting(service, keys)
    assert (total["received"], total["waiting"]) == (1600, 0)


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(
    service: Service, keys: Project
) -> None:
    before = accounting(service, keys) if _has_sent(service, keys) else None
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as wire:
            wire.sendall(head(keys, "Content-Length: 1000") + b'{"events":[')
    post(service, keys, batch(1))
    after = accounting(service, keys)
    assert after["received"] == (before["received"] if before else 0) + 1


def _has_sent(service: Service, keys: Project) -> bool:
    secret = {"X-API-Key": keys.secret_key}
    answer = service.request("GET", "/v1/query/accounting", headers=secret)
    return bool(answer.json["formats"])
