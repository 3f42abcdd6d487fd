"""The browser's batch, `POST /api/client-telemetry` (source 002), or one event (legacy). Pure.

An event is a line of a page's log: `level`, `scope`, `sessionId`, `message` and `timestamp` are
required, `requestId` and `context` are not. Users are optional, whatever the project says: the
context's `userId` is the user (then the event's own, then `X-User-ID`) and is not kept as such.
What else stands in the context or on the event becomes properties, `requestId` with it. A field
that stands in both places is kept once where both say the same: nobody reads this endpoint's
answers, and a line is worth more than the repetition.

A whole number as `timestamp` is milliseconds since 1970 (`Date.now()`), and as `sessionId` or
`userId` its digits.
"""

from functools import partial
from typing import Any

from ingest.formats import fields
from ingest.formats.items import blaming_the_batch, one_by_one, take_apart
from ingest.formats.json_values import check_values, load
from ingest.records import (
    DEFAULT_CATEGORY,
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    Record,
)

_NAME = "log"
_LEVELS = ("error", "info", "warn")
_MARKS = ("level", "scope", "sessionId", "message")
_KNOWN = frozenset({*_MARKS, "timestamp", "context", "userId"})


def decode(body: bytes, envelope: Envelope) -> DecodedBatch:
    """The records of a body, and why each other event was refused.

    Raises MalformedBatch where the body or its envelope can't be taken at all.
    """
    limits = envelope.limits
    value, clean = load(body, limits)
    content = take_apart(value, "events", _MARKS, limits)
    with blaming_the_batch():
        check_values(content.batch, limits)
        batch_id = fields.uuid(content.batch.get("batch_id"), "batch_id") or envelope.batch_id
        sent = content.batch.get("timestamp")
        sent_at = fields.when_given(sent, "timestamp", fields.moment_or_milliseconds)
    read = partial(_record, envelope=envelope)
    records, rejections = one_by_one(content.items, read, "An event", clean, limits)
    return DecodedBatch(records, rejections, batch_id, sent_at)


def _record(index: int, event: dict[str, Any], envelope: Envelope) -> Record:
    """One event's record."""
    limits = envelope.limits
    level = fields.one_of(event.get("level"), "level", _LEVELS, "invalid_level")
    fields.required(level, "level")
    scope = fields.required(fields.word(event.get("scope"), "scope", limits), "scope")
    session_id = fields.identifier(event.get("sessionId"), "sessionId", limits)
    fields.required(session_id, "sessionId")
    message = fields.required(fields.text(event.get("message"), "message"), "message")
    occurred_at = fields.moment_or_milliseconds(event.get("timestamp"), "timestamp")
    context = _context(event)
    return Record(
        position=index,
        occurred_at=occurred_at,
        name=_NAME,
        user_id=_user_id(event, context, limits) or envelope.user_id,
        session_id=session_id,
        category=DEFAULT_CATEGORY,
        level=level,
        scope=scope,
        client_version=envelope.client_version,
        message=message,
        properties=fields.properties(_properties(event, context), message, limits),
    )


def _context(event: dict[str, Any]) -> dict[str, Any]:
    context = event.get("context")
    if context is not None and not isinstance(context, dict):
        raise InvalidRecord("invalid_type", "context must be an object", "context")
    return context or {}


def _user_id(event: dict[str, Any], context: dict[str, Any], limits: Limits) -> str | None:
    within = fields.identifier(context.get("userId"), "context.userId", limits)
    return within or fields.identifier(event.get("userId"), "userId", limits)


def _properties(event: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """The context without its user, and the fields that the event has beside the known ones."""
    found = {name: value for name, value in context.items() if name != "userId"}
    own = {name: value for name, value in event.items() if name not in _KNOWN}
    if not fields.is_given(own.get("requestId")):
        own.pop("requestId", None)
    if any(found[name] != own[name] for name in found.keys() & own.keys()):
        raise InvalidRecord("duplicate_key", "A field stands both on the event and in its context")
    return found | own
