"""What a collector's answer means, by the OTLP specification (*OTLP/HTTP Response*). Pure.

The status line decides. A 2xx whose body is cut, or is no OTLP, was accepted all the same: sent
again it would be there twice.

A collector may quote what it was sent. What is kept of its words is therefore scrubbed as data is,
and without anything that may be a pseudonym or another id: no erasure finds them here.
"""

import email.utils
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from ingest.forwarding.backoff import LONGEST_SECONDS
from privacy.scrubbing import scrub_text

_RETRIED = frozenset({429, 502, 503, 504})
_LONGEST_WORDS = 500
# Read of what is longer: its end may be half a name, which scrubbing takes for none.
_MOST_READ = 4 * _LONGEST_WORDS
_ID = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)


class Outcome(enum.Enum):
    """What becomes of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as far as it matters; or that there was none."""

    outcome: Outcome
    status: int | None  # None where nobody answered
    words: str  # the collector's or the network's: printable, at most 500 characters
    retry_after: float | None  # seconds, at most an hour
    rejected: int = 0  # items of a request that was accepted otherwise


def unanswered(words: str) -> Answer:
    """Of a request to which no answer came, or which couldn't be made."""
    return Answer(Outcome.RETRY, None, words, None)


def answered(status: int, headers: Mapping[str, str], body: bytes | None, now: datetime) -> Answer:
    """The meaning of an answer. `headers` have names in any case; no body: it was cut."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        rejected, words = _partial_success(kind, body)
        return Answer(Outcome.DELIVERED, status, _told(words), None, rejected)
    words = "a redirect, which isn't followed" if 300 <= status < 400 else _reason(kind, body)
    if status not in _RETRIED:
        return Answer(Outcome.REFUSED, status, _told(words), None)
    retry_after = _seconds(headers.get("Retry-After", ""), now)
    return Answer(Outcome.RETRY, status, _told(words), retry_after)


# --- What is said in the body ---------------------------------------------------------------------


class _Partial(msgspec.Struct, rename="camel"):
    rejected_log_records: int = 0
    rejected_data_points: int = 0
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


class _Status(msgspec.Struct):
    message: str = ""


# In JSON a 64-bit number is a text.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, DecodeError)


def _partial_success(kind: str, body: bytes | None) -> tuple[int, str]:
    """How many items were rejected, and why; of none rejected it is a warning."""
    if body is None:
        return 0, "accepted, with an answer that was cut"
    try:
        if kind.endswith("json"):
            said = msgspec.json.decode(body, type=_Response, strict=False).partial_success
            said = said or _Partial()
            rejected = said.rejected_log_records or said.rejected_data_points
            return max(0, rejected), said.error_message
        # On the wire a response to metrics is the same.
        partial = ExportLogsServiceResponse.FromString(body).partial_success
    except _UNREADABLE:
        return 0, "accepted, with an answer that is no OTLP"
    return max(0, partial.rejected_log_records), partial.error_message


def _reason(kind: str, body: bytes | None) -> str:
    """The message of a google.rpc.Status; the body's text where it is none."""
    if body is None:
        return "an answer that was cut"
    text = body.decode(errors="replace")
    try:
        if kind.endswith("json"):
            return msgspec.json.decode(body, type=_Status).message or text
        if kind.endswith("protobuf"):
            message: str = Status.FromString(body).message
            return message
    except _UNREADABLE:
        pass
    return text


def _told(words: str) -> str:
    """Of `words` what may be kept and shown."""
    line = "".join(char if char.isprintable() else " " for char in words[:_MOST_READ])
    scrubbed = scrub_text(" ".join(line.split()))
    return _ID.sub("[id]", scrubbed)[:_LONGEST_WORDS]


def _seconds(text: str, now: datetime) -> float | None:
    """Retry-After, which is seconds or a date; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), LONGEST_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_SECONDS)
