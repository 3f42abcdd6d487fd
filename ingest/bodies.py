"""A request's body, read and decompressed within bounds.

Reads `wsgi.input` itself: Django hands out an empty body for chunked requests, and what is refused
for its size must not have been read into memory first.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import brotli
import zstandard
from django.conf import settings
from django.http import HttpRequest
from isal import isal_zlib

from ingest.records import MalformedBatch

# RFC 8878 recommends that decoders need no more for a window than this.
_ZSTD_WINDOW = 8 * 1024**2
_ZSTD_SLICE = 256
_GZIP_MEMBERS = 16
_GZIP_START = b"\x1f\x8b"
_CHUNK = 64 * 1024

# Browsers' sendBeacon says text/plain.
CONTENT_TYPES = frozenset(
    {"", "application/json", "text/plain", "application/gzip", "application/x-gzip"}
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an endpoint takes: how many bytes, as sent and decompressed, and of which types."""

    wire_bytes: int
    body_bytes: int
    content_types: Collection[str] = CONTENT_TYPES
    expected: str = "application/json"


BATCH = Bounds(settings.MAX_WIRE_BYTES, settings.MAX_BODY_BYTES)


class _Reader(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Body:
    """What came, decompressed, and how many bytes it was on the wire."""

    content: bytes
    wire_bytes: int


def content_type_of(request: HttpRequest) -> str:
    """The type that a request says its body is of, without parameters; empty where it says none."""
    content_type: str = request.META.get("CONTENT_TYPE", "")
    return content_type.partition(";")[0].strip().lower()


def read(request: HttpRequest, bounds: Bounds = BATCH) -> Body:
    """The decompressed body of a request; of a batch's bounds where nothing is said.

    Raises MalformedBatch: `unsupported_type`, `unsupported_encoding`, `too_large`,
    `too_large_decompressed`, `invalid_encoding`, `truncated`.
    """
    content_type = content_type_of(request)
    if content_type not in bounds.content_types:
        raise MalformedBatch("unsupported_type", f"The content type must be {bounds.expected}.")
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if not encoding and content_type.endswith("gzip"):
        # Gzipped JSON by its type. With a Content-Encoding as well it is still compressed once.
        encoding = "gzip"
    decompress = DECOMPRESSORS.get(encoding)
    if decompress is None:
        raise MalformedBatch(
            "unsupported_encoding",
            f"Content-Encoding must be one of {', '.join(ENCODINGS)}, and only one.",
        )
    wire = _read_wire(request, bounds.wire_bytes)
    return Body(decompress(wire, bounds.body_bytes), len(wire))


def _read_wire(request: HttpRequest, limit: int) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or None
    expected = int(length) if length is not None and length.isdecimal() else None
    if expected is not None and expected > limit:
        raise _too_large(limit)
    stream: _Reader = request.META["wsgi.input"]
    parts: list[bytes] = []
    size = 0
    # To one byte past the limit, or to the end where a chunked body has no length.
    while size <= limit and (expected is None or size < expected):
        wanted = _CHUNK if expected is None else expected - size
        if not (part := stream.read(wanted)):
            break
        parts.append(part)
        size += len(part)
    if size > limit:
        raise _too_large(limit)
    if expected is not None and size < expected:
        raise MalformedBatch("truncated", "The body is shorter than its Content-Length.")
    return b"".join(parts)


def _too_large(limit: int) -> MalformedBatch:
    return MalformedBatch("too_large", f"The body is larger than {limit} bytes as sent.")


def _too_large_decompressed(limit: int) -> MalformedBatch:
    return MalformedBatch(
        "too_large_decompressed", f"The body is larger than {limit} bytes once decompressed."
    )


def _within(content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise _too_large_decompressed(limit)
    return content


def _invalid(encoding: str) -> MalformedBatch:
    return MalformedBatch("invalid_encoding", f"The body is not valid {encoding} data.")


def _truncated(encoding: str) -> MalformedBatch:
    return MalformedBatch("truncated", f"The {encoding} data ends too early.")


def _inflate(wire: bytes, limit: int, wbits: int, name: str) -> tuple[bytes, bytes]:
    """The content of one zlib stream, and what stands behind it."""
    stream = isal_zlib.decompressobj(wbits)
    try:
        content = _within(stream.decompress(wire, limit + 1), limit)
    except isal_zlib.error:  # type: ignore[misc] # its stubs take it for an instance
        raise _invalid(name) from None
    if not stream.eof:
        raise _truncated(name)
    return content, stream.unused_data


def _gzip(wire: bytes, limit: int) -> bytes:
    content, rest = _gzip_member(wire, limit)
    # Members may follow one another (RFC 1952, 2.2); a few are somebody's file, many are an attack.
    for _ in range(_GZIP_MEMBERS):
        if not rest.strip(b"\0"):
            return content
        more, rest = _gzip_member(rest, limit)
        content = _within(content + more, limit)
    raise _invalid("gzip")


def _gzip_member(wire: bytes, limit: int) -> tuple[bytes, bytes]:
    # ISA-L takes a few bytes of anything for the beginning of a head.
    if not wire.startswith(_GZIP_START[: len(wire)]):
        raise _invalid("gzip")
    return _inflate(wire, limit, 31, "gzip")


def _deflate(wire: bytes, limit: int) -> bytes:
    # RFC 9110 means zlib's format; some clients send the bare stream. The first byte tells.
    wbits = isal_zlib.MAX_WBITS if wire[:1] and wire[0] & 0x0F == 8 else -isal_zlib.MAX_WBITS
    content, rest = _inflate(wire, limit, wbits, "deflate")
    if rest:
        raise _invalid("deflate")
    return content


def _brotli(wire: bytes, limit: int) -> bytes:
    stream = brotli.Decompressor()
    try:
        content = stream.process(wire, output_buffer_limit=limit + 1)
        while len(content) <= limit and not stream.can_accept_more_data():
            content += stream.process(b"", output_buffer_limit=limit + 1 - len(content))
    except brotli.error:
        raise _invalid("br") from None
    content = _within(content, limit)
    if not stream.is_finished():
        raise _truncated("br")
    return content


def _zstd(wire: bytes, limit: int) -> bytes:
    # It knows no bound on its output, so it gets its input in slices: of the densest data one
    # slice makes 8 MiB.
    stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(wire), _ZSTD_SLICE):
            if stream.eof:
                raise _invalid("zstd")
            part = stream.decompress(wire[start : start + _ZSTD_SLICE])
            size += len(part)
            if size > limit:
                raise _too_large_decompressed(limit)
            parts.append(part)
    except zstandard.ZstdError:
        raise _invalid("zstd") from None
    if not stream.eof:
        raise _truncated("zstd")
    if stream.unused_data:
        raise _invalid("zstd")
    return b"".join(parts)


DECOMPRESSORS: dict[str, Callable[[bytes, int], bytes]] = {
    "": _within,
    "identity": _within,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
ENCODINGS = ("gzip", "deflate", "br", "zstd")
