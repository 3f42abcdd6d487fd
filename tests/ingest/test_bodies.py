"""Bodies as they come off the wire: compressed, chunked, cut short, too large, or a trap."""

import gzip
import json
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO

import brotli
import pytest
import zstandard
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.bodies import CONTENT_TYPES, DECOMPRESSORS, ENCODINGS, Body, read
from ingest.records import MalformedBatch
from tests.harness import Project, Service
from tests.ingest.sending import accounting, batch, event, send
from tests.ingest.sockets import Connection

fuzz = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def bare_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def several_members(content: bytes) -> bytes:
    """As `cat a.gz b.gz` makes it."""
    middle = len(content) // 2
    return gzip.compress(content[:middle]) + gzip.compress(content[middle:])


# What a client may say -> how it compresses.
COMPRESSIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "nothing": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip of members": ("gzip", several_members),
    "gzip, padded": ("gzip", lambda content: gzip.compress(content) + b"\0" * 500),
    "deflate": ("deflate", zlib.compress),
    "deflate, bare": ("deflate", bare_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "in capitals": ("GZIP", gzip.compress),
}
COMPRESSING = {name: both for name, both in COMPRESSIONS.items() if both[0] in ENCODINGS}
# Those whose last byte matters.
STREAMS = {name: both for name, both in COMPRESSING.items() if name != "gzip, padded"}


def encoded(encoding: str) -> dict[str, str]:
    return {"Content-Encoding": encoding} if encoding else {}


# --- what is taken ---


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_body_is_taken_in_every_encoding(
    service: Service, project: Project, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = compress(json.dumps(batch(event(), event(text="ä" * 500))).encode())
    answer = send(service, project, body, encoded(encoding))
    assert (answer.status, answer.json["accepted"]) == (200, 2)


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS)
@fuzz
@given(content=st.binary(max_size=5_000))
def test_what_is_compressed_comes_out_again(
    encoding: str, compress: Callable[[bytes], bytes], content: bytes
) -> None:
    assert DECOMPRESSORS[encoding.lower()](compress(content), 5_000) == content


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/gzip", "gzip"),  # what the plug-in of source 000 sends
        ("application/gzip", ""),
        ("application/x-gzip", ""),
        ("Application/GZip", ""),
        ("application/json", "gzip"),
        ("text/plain;charset=UTF-8", "gzip"),
    ],
)
def test_gzip_by_type_or_by_encoding_is_compressed_once(
    service: Service, project: Project, content_type: str, encoding: str
) -> None:
    body = gzip.compress(json.dumps(batch()).encode())
    answer = send(service, project, body, {"Content-Type": content_type, **encoded(encoding)})
    assert (answer.status, answer.json["accepted"]) == (200, 1)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "text/plain", "TEXT/PLAIN"],
)
def test_json_by_any_of_its_types_is_taken(
    service: Service, project: Project, content_type: str
) -> None:
    assert send(service, project, batch(), {"Content-Type": content_type}).status == 200


def test_body_without_a_type_is_taken(service: Service, project: Project) -> None:
    body = json.dumps(batch()).encode()
    with Connection(service) as connection:
        connection.write(project, {"Content-Length": str(len(body))})
        connection.send(body)
        assert connection.answer().status == 200


# --- chunked ---


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["bytes", "small", "one"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_chunked_body_is_taken(
    service: Service, project: Project, size: int, encoding: str
) -> None:
    content = json.dumps(batch(event(), event())).encode()
    body = gzip.compress(content) if encoding else content
    with Connection(service) as connection:
        connection.write(project, {"Transfer-Encoding": "chunked", **encoded(encoding)})
        connection.send_chunks(body[at : at + size] for at in range(0, len(body), size))
        answer = connection.answer()
    assert (answer.status, answer.json["accepted"]) == (200, 2)


def test_empty_chunked_body_is_refused(service: Service, project: Project) -> None:
    with Connection(service) as connection:
        connection.write(project, {"Transfer-Encoding": "chunked"})
        connection.send_chunks([])
        answer = connection.answer()
    assert (answer.status, answer.json["code"]) == (400, "empty_body")


def test_chunked_body_that_never_ends_is_refused_at_the_limit(
    service: Service, project: Project
) -> None:
    with Connection(service) as connection:
        connection.write(project, {"Transfer-Encoding": "chunked"})
        connection.send_chunks(b" " * 65_536 for _ in range(1_000))
        answer = connection.answer()
    assert (answer.status, answer.json["code"]) == (413, "too_large")


@pytest.mark.parametrize("chunked", [True, False])
def test_body_whose_client_goes_away_is_not_accepted(
    service: Service, project: Project, chunked: bool
) -> None:
    """And harms nobody else."""
    body = json.dumps([event()]).encode()[:-1]
    with Connection(service) as connection:
        if chunked:
            connection.write(project, {"Transfer-Encoding": "chunked"})
            connection.send(b"%x\r\n%s" % (len(body) + 100, body))
        else:
            connection.write(project, {"Content-Length": str(len(body) + 100)})
            connection.send(body)
        connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.answer_if_any()
        assert answer is None or answer.status == 400
    assert send(service, project, batch()).status == 200
    assert accounting(service, project)["received"] == 1


# --- what is refused ---


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/xml"}, "unsupported_type"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "unsupported_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_type"),
        ({"Content-Type": "json"}, "unsupported_type"),
        ({"Content-Encoding": "compress"}, "unsupported_encoding"),
        ({"Content-Encoding": "gzip, gzip"}, "unsupported_encoding"),
        ({"Content-Encoding": "gzip,br"}, "unsupported_encoding"),
        ({"Content-Encoding": "*"}, "unsupported_encoding"),
    ],
    ids=str,
)
def test_unknown_type_or_encoding_is_refused(
    service: Service, project: Project, headers: dict[str, str], code: str
) -> None:
    answer = send(service, project, batch(), headers)
    assert (answer.status, answer.json["code"]) == (415, code)


@pytest.mark.parametrize(("encoding", "compress"), STREAMS.values(), ids=STREAMS)
def test_damaged_body_is_refused(
    service: Service, project: Project, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    whole = compress(json.dumps(batch()).encode())
    for damaged, codes in (
        (whole[: len(whole) * 2 // 3], {"truncated"}),
        (whole[:-1], {"truncated"}),
        (b"", {"truncated"}),
        (whole + b"more", {"invalid_encoding"}),
        (b"\xff" * 40, {"invalid_encoding"}),
        (json.dumps(batch()).encode(), {"invalid_encoding", "truncated"}),
    ):
        answer = send(service, project, damaged, encoded(encoding))
        assert answer.status == 400
        assert answer.json["code"] in codes, damaged
    assert accounting(service, project)["received"] == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_body_compressed_twice_is_no_json(
    service: Service, project: Project, encoding: str
) -> None:
    _, compress = COMPRESSIONS[encoding]
    body = compress(compress(json.dumps(batch()).encode()))
    answer = send(service, project, body, encoded(encoding))
    assert (answer.status, answer.json["code"]) == (400, "malformed_json")


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("size", [0, 1, 4_096, 1_000_000])
def test_decompressed_body_may_be_as_large_as_the_limit_and_no_larger(
    encoding: str, compress: Callable[[bytes], bytes], size: int
) -> None:
    decompress = DECOMPRESSORS[encoding.lower()]
    assert decompress(compress(b"x" * size), size) == b"x" * size
    with pytest.raises(MalformedBatch) as caught:
        decompress(compress(b"x" * (size + 1)), size)
    assert caught.value.code == "too_large_decompressed"


def test_gzip_of_countless_members_is_refused() -> None:
    with pytest.raises(MalformedBatch) as caught:
        DECOMPRESSORS["gzip"](gzip.compress(b"") * 40_000, 10 * 1024**2)
    assert caught.value.code == "invalid_encoding"


OUTCOMES = {"taken", "invalid_encoding", "truncated", "too_large_decompressed"}


def outcome(encoding: str, wire: bytes) -> str:
    try:
        DECOMPRESSORS[encoding](wire, 1_000)
    except MalformedBatch as refused:
        return refused.code
    return "taken"


@pytest.mark.parametrize("encoding", ENCODINGS)
@fuzz
@given(wire=st.binary(max_size=300))
def test_no_bytes_surprise_a_decompressor(encoding: str, wire: bytes) -> None:
    assert outcome(encoding, wire) in OUTCOMES


@pytest.mark.parametrize("encoding", ENCODINGS)
@fuzz
@given(
    at=st.integers(0, 200), flip=st.integers(1, 255), content=st.binary(min_size=1, max_size=200)
)
def test_no_flipped_byte_surprises_a_decompressor(
    encoding: str, at: int, flip: int, content: bytes
) -> None:
    wire = bytearray(COMPRESSIONS[encoding][1](content))
    wire[at % len(wire)] ^= flip
    assert outcome(encoding, bytes(wire)) in OUTCOMES


def test_wire_limit_is_exact(service: Service, project: Project) -> None:
    body = json.dumps(batch()).encode()
    assert send(service, project, body.ljust(1024**2)).status == 200
    answer = send(service, project, body.ljust(1024**2 + 1))
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_body_that_announces_too_much_is_refused_unread(service: Service, project: Project) -> None:
    with Connection(service) as connection:
        connection.write(project, {"Content-Length": str(2**40)})
        answer = connection.answer()
    assert (answer.status, answer.json["code"]) == (413, "too_large")


# --- read directly: what is taken from the stream, and what it costs ---

JSON = json.dumps(batch()).encode()
WIRE_LIMIT = django_settings.MAX_WIRE_BYTES
BODY_LIMIT = django_settings.MAX_BODY_BYTES


class Stream(BytesIO):
    """A socket's stream that counts what is read and may hand out little at a time."""

    def __init__(self, content: bytes, at_once: int = 2**30) -> None:
        super().__init__(content)
        self.at_once = at_once
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self.at_once if size is None or size < 0 else min(size, self.at_once)
        part = super().read(wanted)
        self.taken += len(part)
        return part


def read_from(stream: Stream, length: object = None, **meta: str) -> Body:
    environ = {"REQUEST_METHOD": "POST", "wsgi.input": stream, **meta}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    return read(WSGIRequest(environ))


def read_wire(wire: bytes, encoding: str = "", content_type: str = "application/json") -> Body:
    meta = {"CONTENT_TYPE": content_type, "HTTP_CONTENT_ENCODING": encoding}
    return read_from(Stream(wire), len(wire), **meta)


def code_of(call: Callable[[], Body]) -> str:
    with pytest.raises(MalformedBatch) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(("encoding", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("content_type", sorted(CONTENT_TYPES))
def test_every_encoding_goes_with_every_type(
    content_type: str, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    wire = compress(JSON)
    if not encoding and content_type.endswith("gzip"):
        wire = gzip.compress(JSON)
    assert read_wire(wire, encoding, content_type) == Body(JSON, len(wire))


def test_gzip_by_its_type_alone_must_be_gzip() -> None:
    assert code_of(lambda: read_wire(JSON, "", "application/gzip")) == "invalid_encoding"


@pytest.mark.parametrize(
    "encoding",
    ["compress", "gzip, gzip", "gzip,identity", "br, gzip", "gzip;q=1", "*", "zlib", "none"],
)
def test_unknown_or_several_encodings_are_refused_unread(encoding: str) -> None:
    stream = Stream(JSON)
    code = code_of(lambda: read_from(stream, len(JSON), HTTP_CONTENT_ENCODING=encoding))
    assert (code, stream.taken) == ("unsupported_encoding", 0)


def test_unknown_type_is_refused_unread() -> None:
    stream = Stream(JSON)
    code = code_of(lambda: read_from(stream, len(JSON), CONTENT_TYPE="application/xml"))
    assert (code, stream.taken) == ("unsupported_type", 0)


@pytest.mark.parametrize(("encoding", "compress"), STREAMS.values(), ids=STREAMS)
def test_stream_cut_anywhere_is_refused(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    wire = compress(JSON)
    # Cut between two members it is a whole stream, of half the content.
    whole = {len(gzip.compress(JSON[: len(JSON) // 2]))} if compress is several_members else set()
    for end in sorted(set(range(len(wire))) - whole):
        assert code_of(lambda end=end: read_wire(wire[:end], encoding)) == "truncated"


@pytest.mark.parametrize(("encoding", "compress"), STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("behind", [b"x", b"{}", b"\x1f", b"\0x"])
def test_what_stands_behind_a_stream_is_refused(
    behind: bytes, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    wire = compress(JSON) + behind
    codes = {"invalid_encoding", "truncated"} if encoding == "gzip" else {"invalid_encoding"}
    assert code_of(lambda: read_wire(wire, encoding)) in codes


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd"])
def test_only_gzip_has_several_members(encoding: str) -> None:
    wire = COMPRESSIONS[encoding][1](JSON)
    assert code_of(lambda: read_wire(wire * 2, encoding)) == "invalid_encoding"


@pytest.mark.parametrize("members", [1, 2, 16])
def test_few_gzip_members_are_taken(members: int) -> None:
    assert read_wire(gzip.compress(b"x") * members, "gzip").content == b"x" * members


@pytest.mark.parametrize("members", [17, 1000])
def test_many_gzip_members_are_refused(members: int) -> None:
    assert code_of(lambda: read_wire(gzip.compress(b"x") * members, "gzip")) == "invalid_encoding"


def test_gzip_members_share_one_limit() -> None:
    wire = gzip.compress(b" " * (BODY_LIMIT // 2 + 1))
    assert code_of(lambda: read_wire(wire * 2, "gzip")) == "too_large_decompressed"


@pytest.fixture(scope="module")
def trap() -> bytes:
    return b" " * (12 * BODY_LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, bare", "br", "zstd"])
def test_a_bomb_costs_no_more_memory_than_the_limit_allows(encoding: str, trap: bytes) -> None:
    header, compress = COMPRESSIONS[encoding]
    wire = compress(trap)
    assert len(wire) < WIRE_LIMIT
    tracemalloc.start()
    try:
        code = code_of(lambda: read_wire(wire, header))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == "too_large_decompressed"
    assert peak < 4 * BODY_LIMIT


@pytest.mark.parametrize("at_once", [1000, 2**30])
@pytest.mark.parametrize("announced", [True, False])
def test_the_stream_is_read_to_its_end(announced: bool, at_once: int) -> None:
    stream = Stream(b"x" * 50_000, at_once)
    assert read_from(stream, 50_000 if announced else None).wire_bytes == 50_000


@pytest.mark.parametrize("length", ["", "nonsense", "-1", "1.5"])
def test_a_length_that_is_no_number_is_none(length: str) -> None:
    assert read_from(Stream(JSON), length).content == JSON


def test_no_more_than_the_announced_length_is_read() -> None:
    stream = Stream(JSON + b"the next request")
    assert read_from(stream, len(JSON)).content == JSON
    assert stream.taken == len(JSON)


@pytest.mark.parametrize("sent", [0, 1, len(JSON) - 1])
def test_a_body_shorter_than_announced_is_truncated(sent: int) -> None:
    assert code_of(lambda: read_from(Stream(JSON[:sent]), len(JSON))) == "truncated"


@pytest.mark.parametrize("length", [WIRE_LIMIT + 1, 10**30])
def test_more_than_the_wire_limit_announced_is_refused_unread(length: int) -> None:
    stream = Stream(b"x" * (WIRE_LIMIT + 1))
    assert code_of(lambda: read_from(stream, length)) == "too_large"
    assert stream.taken == 0


def test_more_than_the_wire_limit_unannounced_is_read_little_beyond_it() -> None:
    stream = Stream(b"x" * (3 * WIRE_LIMIT))
    assert code_of(lambda: read_from(stream)) == "too_large"
    assert stream.taken <= WIRE_LIMIT + 64 * 1024


@pytest.mark.parametrize("announced", [True, False])
def test_exactly_the_wire_limit_is_taken(announced: bool) -> None:
    stream = Stream(b"x" * WIRE_LIMIT)
    assert read_from(stream, WIRE_LIMIT if announced else None).wire_bytes == WIRE_LIMIT
