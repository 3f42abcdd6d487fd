"""What an enemy sends is refused with its code, costs little memory, and leaves nothing behind."""

import contextlib
import http.client
import json
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import uuid4

import brotli
import psutil
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import Answer, Project, Service

MIB = 1024**2
MOST_GROWTH = 64 * MIB
SAMPLE_SECONDS = 0.005
EVENT = {"event": "e", "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "user_id": "u"}


@pytest.fixture(scope="module", autouse=True)
def first_line(service: Service) -> int:
    """Where this module's part of the log begins."""
    return len(service.lines)


@pytest.fixture(scope="module")
def keys(service: Service) -> Project:
    """A project whose web server has warmed up: what it keeps for good isn't an attack's cost."""
    keys = service.create_project(f"hostile {uuid4().hex}")
    big = json.dumps({"events": [{**EVENT, "p": "x" * 9000}] * 1000}).encode()
    for _ in range(3):
        send(service, keys, gz(big), "gzip")
    return keys


# --- sending ---


def send(
    service: Service,
    keys: Project,
    body: bytes | Iterable[bytes],
    encoding: str = "",
    content_type: str = "application/json",
) -> Answer:
    """POST a body, an iterable one chunked; what can be heard while the server hangs up counts."""
    headers = {"X-API-Key": keys.ingest_key, "Content-Type": content_type}
    if encoding:
        headers["Content-Encoding"] = encoding
    wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    chunks = not isinstance(body, bytes)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
        wire.request("POST", "/v1/events", body, headers, encode_chunked=chunks)
    try:
        answer = wire.getresponse()
        return Answer(answer.status, dict(answer.headers), answer.read().decode())
    finally:
        wire.close()


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 64 * 1024):
        yield body[start : start + 64 * 1024]


def resident(service: Service) -> int:
    """Bytes that the processes of the web server have in memory."""
    return sum(process.memory_info().rss for process in service.processes("web"))


@contextmanager
def little_memory(service: Service) -> Iterator[None]:
    """Fail if the web server grows by more than 64 MiB meanwhile, at any time."""
    idle, most, done = resident(service), 0, threading.Event()
    watched = [psutil.Process(process.pid) for process in service.processes("web")]

    def watch() -> None:
        nonlocal most
        while not done.wait(SAMPLE_SECONDS):
            most = max(most, sum(process.memory_info().rss for process in watched))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert most - idle <= MOST_GROWTH, f"grew by {(most - idle) / MIB:.0f} MiB"


def check_alive(service: Service, keys: Project) -> None:
    """The service takes an honest batch."""
    body = json.dumps({"events": [EVENT], "batch_id": str(uuid4())}).encode()
    assert send(service, keys, body).status == 200


def check_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer.text
    assert answer.json["details"]


# --- making ---


def gz(content: bytes) -> bytes:
    return zlib.compress(content, wbits=31)


@cache
def bomb_of_ten_gigabytes() -> bytes:
    """10 MB of gzip that decompress to 10 GB of zeros."""
    stream = zlib.compressobj(9, wbits=31)
    zeros = bytes(16 * MIB)
    block = b"".join([stream.compress(zeros), stream.flush(zlib.Z_FULL_FLUSH)])
    # After a full flush nothing refers back: the same bytes can follow as often as one likes.
    again = stream.compress(zeros) + stream.flush(zlib.Z_FULL_FLUSH)
    return block + again * 639


ENCODERS = {
    "gzip": gz,
    "deflate": zlib.compress,
    "br": lambda content: brotli.compress(content, quality=5),
    "zstd": zstandard.ZstdCompressor(level=3).compress,
}


def of_size(total: int, content: bytes = b" ") -> bytes:
    return content * (total // len(content))


# --- bombs ---


@pytest.mark.parametrize("how", ["Content-Length", "chunked"])
def test_ten_gigabytes_in_ten_megabytes_are_refused_unread(
    service: Service, keys: Project, how: str
) -> None:
    bomb = bomb_of_ten_gigabytes()
    assert len(bomb) > 9 * MIB
    with little_memory(service):
        answer = send(service, keys, bomb if how == "Content-Length" else chunked(bomb), "gzip")
    check_refused(answer, 413, "too_large")
    check_alive(service, keys)


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("size", [10 * MIB + 1, 200 * MIB])
def test_a_small_body_that_becomes_a_large_one_is_refused(
    service: Service, keys: Project, encoding: str, size: int
) -> None:
    bomb = ENCODERS[encoding](bytes(size))
    assert len(bomb) < MIB
    with little_memory(service):
        answer = send(service, keys, bomb, encoding)
    check_refused(answer, 413, "too_large_decompressed")
    check_alive(service, keys)


def test_the_start_of_the_ten_gigabytes_within_the_limit_is_refused(
    service: Service, keys: Project
) -> None:
    with little_memory(service):
        answer = send(service, keys, bomb_of_ten_gigabytes()[: MIB - 1], "gzip")
    check_refused(answer, 413, "too_large_decompressed")


OBJECTS = {
    "lists in a list": b"[" + b"[]," * 3_000_000 + b"[]]",
    "empty events": b'{"events":[' + b"{}," * 3_000_000 + b"{}]}",
    "events of one key": b'{"events":[' + b'{"":0},' * 1_300_000 + b"{}]}",
    "numbers": b"[" + b"0," * 4_000_000 + b"0]",
    "keys": b"{" + b'"":0,' * 2_000_000 + b'"":0}',
    "a million events": b"[" + b",".join([b'{"a":1}'] * 1_000_000) + b"]",
    "an event's list": b'[{"event":"e","x":[' + b"[]," * 3_000_000 + b"[]]}]",
}


@pytest.mark.parametrize("content", OBJECTS.values(), ids=OBJECTS)
def test_a_few_kilobytes_that_decode_to_millions_of_objects_are_refused(
    service: Service, keys: Project, content: bytes
) -> None:
    assert len(gz(content)) < 64 * 1024
    with little_memory(service):
        answer = send(service, keys, gz(content), "gzip")
    check_refused(answer, 413, "too_complex")
    check_alive(service, keys)


def test_large_bodies_at_once_share_their_memory(service: Service, keys: Project) -> None:
    """A body of the largest size, honest or not, from everybody at the same time."""
    body = gz(b'{"events":[{"x":"' + b"\\u00e9" * (10 * MIB // 6 - 20) + b'"}]}')
    codes: list[str] = []

    def client() -> None:
        codes.append(send(service, keys, body, "gzip").json["code"])

    threads = [threading.Thread(target=client) for _ in range(16)]
    idle = resident(service)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == ["missing_field"] * 16
    assert resident(service) - idle <= 4 * MOST_GROWTH
    check_alive(service, keys)


# --- encodings ---

ONE = gz(b"[]")
ENCODED = [
    ("gzip, gzip", gz(gz(b"[]")), 415, "unsupported_encoding"),
    ("gzip,gzip", gz(ONE), 415, "unsupported_encoding"),
    ("gzip, identity", ONE, 415, "unsupported_encoding"),
    ("compress", ONE, 415, "unsupported_encoding"),
    ("*", ONE, 415, "unsupported_encoding"),
    ("gzip;q=1", ONE, 415, "unsupported_encoding"),
    ("gzip" * 1000, ONE, 415, "unsupported_encoding"),
    ("gzip", gz(ONE), 400, "malformed_json"),
    ("gzip", b"[]", 400, "invalid_encoding"),
    ("gzip", b"", 400, "truncated"),
    ("gzip", b"\x1f\x8b", 400, "truncated"),
    ("gzip", ONE * 200, 400, "invalid_encoding"),
    ("gzip", ONE + b"rubbish", 400, "invalid_encoding"),
    ("gzip", ONE[:-8] + b"\0" * 8, 400, "invalid_encoding"),
    ("deflate", zlib.compress(b"[]") + b"x", 400, "invalid_encoding"),
    ("deflate", b"\x78\x9c\xff\xff\xff", 400, "invalid_encoding"),
    ("br", b"\xff" * 10, 400, "invalid_encoding"),
    ("br", b"", 400, "truncated"),
    ("zstd", b"[]", 400, "invalid_encoding"),
    ("zstd", b"", 400, "truncated"),
    ("zstd", zstandard.compress(b"[]") * 2, 400, "invalid_encoding"),
]


@pytest.mark.parametrize(("encoding", "body", "status", "code"), ENCODED)
def test_an_encoding_that_is_not_what_it_says_is_refused(
    service: Service, keys: Project, encoding: str, body: bytes, status: int, code: str
) -> None:
    check_refused(send(service, keys, body, encoding), status, code)


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_stream_cut_short_anywhere_is_refused(
    service: Service, keys: Project, encoding: str
) -> None:
    whole = ENCODERS[encoding](json.dumps([EVENT] * 20).encode())
    for end in {1, 2, 5, 12, len(whole) // 2, len(whole) - 5, len(whole) - 1}:
        answer = send(service, keys, whole[:end], encoding)
        assert answer.status == 400
        assert answer.json["code"] in {"truncated", "invalid_encoding"}, end


# --- JSON ---


def event(field: str) -> bytes:
    """A batch of one event that has `field` as well."""
    return b"[" + json.dumps(EVENT)[:-1].encode() + b", " + field.encode("latin-1") + b"}]"


DEEP = 100_000
CONTENTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty_body"),
    "blanks": (b" \n\t ", "empty_body"),
    "no JSON": (b"hello", "malformed_json"),
    "half of it": (b'{"events": [', "malformed_json"),
    "two of them": (b"[] []", "malformed_json"),
    "a comma too many": (event('"a": 1,'), "malformed_json"),
    "a mark of order": (b"\xef\xbb\xbf[]", "no_events"),
    "UTF-16": ("[]".encode("utf-16"), "malformed_json"),
    "deep lists": (b"[" * (DEEP - 1), "too_deep"),
    "deep closed lists": (b"[" * (DEEP // 2) + b"]" * (DEEP // 2), "too_deep"),
    "deep objects": (b'{"a":' * (DEEP // 2) + b"0" + b"}" * (DEEP // 2), "too_deep"),
    "deep in an event": (event('"a": ' + "[" * 40 + "]" * 40), "too_deep"),
    "very deep in an event": (event('"a": ' + "[" * 900 + "]" * 900), "too_deep"),
    "a huge integer": (event('"a": ' + "9" * 100_000), "number_out_of_range"),
    "a huge negative": (event('"a": -' + "9" * 5_000), "number_out_of_range"),
    "an integer of 65 bits": (event(f'"a": {2**64}'), "number_out_of_range"),
    "a huge exponent": (event('"a": 1e400'), "number_out_of_range"),
    "a huge exponent's digits": (event('"a": 1e' + "9" * 10_000), "number_out_of_range"),
    "NaN": (event('"a": NaN'), "number_out_of_range"),
    "infinity": (event('"a": -Infinity'), "number_out_of_range"),
    "a lone surrogate": (event(r'"a": "\ud800"'), "invalid_character"),
    "a lone surrogate's key": (event(r'"\udfff": 1'), "invalid_character"),
    "NUL": (event(r'"a": "\u0000"'), "invalid_character"),
    "NUL in a key": (event(r'"\u0000": 1'), "invalid_character"),
    "NUL in a name": (b'[{"event": "\\u0000", "user_id": "u"}]', "invalid_character"),
    "bytes that are no UTF-8": (event('"a": "\xff\xfe"'), "invalid_character"),
    "overlong UTF-8": (event('"a": "\xc0\x80"'), "invalid_character"),
    "UTF-8 of a surrogate": (event('"a": "\xed\xa0\x80"'), "invalid_character"),
    "a key twice": (event('"a": 1, "a": 2'), "duplicate_key"),
    "a key twice, spelt otherwise": (event(r'"a": 1, "\u0061": 2'), "duplicate_key"),
    "a key twice, deep": (event('"a": {"b": [{"c": 1, "c": 1}]}'), "duplicate_key"),
    "a key in properties too": (event('"a": 1, "properties": {"a": 1}'), "duplicate_key"),
    "a long name": (event('"' + "n" * 201 + '": 1'), "name_too_long"),
    "a long name, deep": (event('"a": {"' + "n" * 201 + '": 1}'), "name_too_long"),
    "a large event": (event('"a": "' + "x" * 33_000 + '"'), "event_too_large"),
    "a large message": (event('"message": "' + "x" * 33_000 + '"'), "event_too_large"),
    "events twice": (b'{"events": [], "events": []}', "duplicate_key"),
}


@pytest.mark.parametrize(("body", "code"), CONTENTS.values(), ids=CONTENTS)
def test_content_that_cannot_be_taken_is_refused(
    service: Service, keys: Project, body: bytes, code: str
) -> None:
    with little_memory(service):
        answer = send(service, keys, body)
    check_refused(answer, 400, code)


BAD_EVENTS = {
    name: body
    for name, (body, code) in CONTENTS.items()
    if body.startswith(b'[{"event": "e"') and code != "malformed_json"
}


@pytest.mark.parametrize("body", BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_one_bad_event_never_fails_its_batch(service: Service, keys: Project, body: bytes) -> None:
    good = json.dumps({**EVENT, "n": uuid4().hex}).encode()
    answer = send(service, keys, b"[" + good + b"," + body[1:])
    assert answer.status == 200, answer.text
    assert (answer.json["accepted"], answer.json["rejected"]) == (1, 1)
    assert answer.json["errors"][0]["index"] == 1


def test_what_is_no_event_hides_nothing_in_the_next_one(service: Service, keys: Project) -> None:
    hidden = event('"a": {"' + "n" * 201 + '": 1}')
    answer = send(service, keys, b"[0,0,0," + hidden[1:])
    assert [bad["code"] for bad in answer.json["errors"]] == ["invalid_type"] * 3 + [
        "name_too_long"
    ]


VALUES: list[Any] = [None, True, 0, -1.5, "", "x", "2026", "x" * 300, [], [1], {}, {"a": 1}]
EVENT_FIELDS = (*EVENT, "session_id", "category", "level", "message", "properties")
BATCH_FIELDS = (
    "events", "batch_id", "timestamp", "user_id", "session_id", "category", "client_version",
)  # fmt: skip


@pytest.mark.parametrize("field", EVENT_FIELDS)
def test_a_field_of_an_event_may_be_of_any_type(
    service: Service, keys: Project, field: str
) -> None:
    for value in VALUES:
        answer = send(service, keys, json.dumps([{**EVENT, field: value}]).encode())
        assert answer.status in {200, 400}, (value, answer.text)


@pytest.mark.parametrize("field", BATCH_FIELDS)
def test_a_field_of_a_batch_may_be_of_any_type(service: Service, keys: Project, field: str) -> None:
    for value in VALUES:
        body = json.dumps({"events": [EVENT], field: value}).encode()
        answer = send(service, keys, body)
        assert answer.status in {200, 400}, (value, answer.text)


@pytest.mark.parametrize("body", [b"null", b"true", b"0", b'"x"', b"{}", b"[]", b"[0]", b"[[]]"])
def test_a_body_may_be_of_any_type(service: Service, keys: Project, body: bytes) -> None:
    assert send(service, keys, body).status == 400


MOMENTS = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999-23:59", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z",
    "2026-01-01T00:00:00.123456789123Z", "2026-01-01", "1e9", "2016-12-31T23:59:60Z",
)  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_any_moment_may_be_named(service: Service, keys: Project, moment: str) -> None:
    event = {**EVENT, "timestamp": moment}
    for body in ([event], [event, EVENT], {"events": [EVENT], "timestamp": moment}):
        answer = send(service, keys, json.dumps(body).encode())
        assert answer.status in {200, 400}, answer.text


# --- anything ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(EVENT_FIELDS) | st.text(), inner)
    ),
    max_leaves=20,
)
BODIES = (
    st.binary(max_size=2000)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.lists(JSON_VALUES, max_size=5).map(lambda v: json.dumps({"events": v}).encode())
)
WRAPPED = st.tuples(BODIES, st.sampled_from([None, *ENCODERS])).map(
    lambda pair: ENCODERS[pair[1]](pair[0]) if pair[1] else pair[0]
)
TYPES = ["", "application/json", "text/plain", "application/gzip", "application/x-protobuf"]
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@pytest.mark.parametrize("path", ["/v1/events", "/otlp/v1/logs", "/otlp/v1/metrics"])
def test_no_bytes_under_any_label_make_it_fail(service: Service, keys: Project, path: str) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)

    @settings(
        max_examples=150, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(
        WRAPPED,
        st.sampled_from(["", "identity", *ENCODERS]) | TOKENS,
        st.sampled_from(TYPES) | TOKENS,
        TOKENS,
    )
    def post(body: bytes, encoding: str, content_type: str, token: str) -> None:
        headers = {
            "X-API-Key": keys.ingest_key,
            "Content-Encoding": encoding,
            "Content-Type": content_type,
            "Idempotency-Key": token if len(token) % 2 else "",
            "X-User-ID": token,
        }
        try:
            wire.request("POST", path, body, headers)
            answer = wire.getresponse()
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            wire.close()  # hung up after a refusal; the next example opens another
            wire.request("POST", path, body, headers)
            answer = wire.getresponse()
        told = answer.read()
        assert answer.status < 500, told
        if answer.headers["Content-Type"] == "application/json":
            assert answer.status == 200 or json.loads(told)["code"]
        else:
            assert content_type == answer.headers["Content-Type"] == "application/x-protobuf"

    post()
    wire.close()
    check_alive(service, keys)


def test_a_defect_is_never_what_an_enemy_finds(service: Service, first_line: int) -> None:
    said = "\n".join(service.lines[first_line:])
    assert "Traceback" not in said
    assert "Internal Server Error" not in said
