"""The native batch of `POST /v1/events` (source 000), a bare list, or one bare event. Pure.

Strict: every text a text, every moment as RFC 3339 writes it.
"""

from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal

import msgspec

from ingest.formats import fields
from ingest.formats.items import blaming_the_batch, one_by_one, take_apart
from ingest.formats.json_values import check_values, load
from ingest.records import (
    CATEGORIES,
    DEFAULT_CATEGORY,
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    Record,
)

_encode = msgspec.json.Encoder().encode
_NO_PROPERTIES = b"{}"


class _Defaults(msgspec.Struct, frozen=True):
    """What the batch says for those of its events that don't say it themselves."""

    user_id: str | None
    session_id: str | None
    category: str
    client_version: str | None
    users_optional: bool


def decode(body: bytes, envelope: Envelope) -> DecodedBatch:
    """The records of a body, and why each other event was refused.

    Raises MalformedBatch where the body or its envelope can't be taken at all.
    """
    return records_of(*load(body, envelope.limits), envelope)


def records_of(value: Any, clean: bool, envelope: Envelope) -> DecodedBatch:
    """What `decode` makes of a body that is loaded."""
    limits = envelope.limits
    content = take_apart(value, "events", ("event",), limits)
    with blaming_the_batch():
        check_values(content.batch, limits)
        decoded = _batch(content.batch, envelope)
        defaults = _defaults(content.batch, decoded.user_id, envelope)
    records = None
    if clean:
        records = all_at_once(content.items, defaults, limits)
    if records is None:
        read = partial(_record, defaults=defaults, limits=limits)
        records, decoded.rejections = one_by_one(content.items, read, "An event", clean, limits)
    decoded.records = records
    if content.single is not None and records:
        decoded.user_id = content.single.get("user_id") or None
    return decoded


def all_at_once(events: list[Any], defaults: _Defaults, limits: Limits) -> list[Record] | None:
    """The records of good and flat events, for a third of what `_record` takes for each.

    None where anything is wrong or nested: then each event is looked at by itself, and that is
    where the rules are written down.
    """
    flat, good_events = _good(limits.name_length)
    records: list[Record] = []
    try:
        good = msgspec.convert(events, good_events)
        for index, (event, known) in enumerate(zip(events, good, strict=True)):
            rest = known.properties or {}
            if not event.keys() <= _KNOWN:
                own = {name: value for name, value in event.items() if name not in _KNOWN}
                if not own.keys().isdisjoint(rest):
                    return None
                rest = msgspec.convert(own, flat) | rest
            properties = _encode(rest) if rest else _NO_PROPERTIES
            message, moment = known.message, known.timestamp
            user_id = known.user_id or defaults.user_id
            if user_id is None and not defaults.users_optional:
                return None
            if len(properties) + (len(message.encode()) if message else 0) > limits.event_bytes:
                return None
            records.append(
                Record(
                    index,
                    moment if moment.tzinfo is UTC else fields.in_utc(moment),
                    known.event,
                    user_id,
                    known.session_id or defaults.session_id,
                    known.category or defaults.category,
                    known.level or None,
                    None,
                    defaults.client_version,
                    message,
                    properties,
                )
            )
    except (msgspec.ValidationError, OverflowError):
        return None
    return records


@cache
def _good(name_length: int) -> tuple[Any, Any]:
    """The types of flat properties and of a list of good events."""
    name = Annotated[str, msgspec.Meta(min_length=1, max_length=name_length)]
    word = Annotated[str, msgspec.Meta(max_length=name_length)]
    flat = dict[word, str | int | float | bool | None]
    known = [
        ("timestamp", datetime),
        ("event", name),
        ("user_id", word | None, None),
        ("session_id", word | None, None),
        ("category", Literal[tuple(sorted(CATEGORIES))] | None, None),
        ("level", word | None, None),
        ("message", str | None, None),
        ("properties", flat | None, None),
    ]
    return flat, list[msgspec.defstruct("Known", known)]  # type: ignore[misc, arg-type]


_KNOWN = frozenset(
    {"timestamp", "event", "user_id", "session_id", "category", "level", "message", "properties"}
)


def _batch(batch: dict[str, Any], envelope: Envelope) -> DecodedBatch:
    """The batch, as yet without its events."""
    return DecodedBatch(
        [],
        [],
        batch_id=fields.uuid(batch.get("batch_id"), "batch_id") or envelope.batch_id,
        sent_at=fields.when_given(batch.get("timestamp"), "timestamp", fields.moment),
        user_id=fields.word(batch.get("user_id"), "user_id", envelope.limits),
    )


def _defaults(batch: dict[str, Any], user_id: str | None, envelope: Envelope) -> _Defaults:
    limits = envelope.limits
    return _Defaults(
        user_id=user_id or envelope.user_id,
        session_id=fields.word(batch.get("session_id"), "session_id", limits),
        category=fields.category(batch.get("category")) or DEFAULT_CATEGORY,
        client_version=fields.word(batch.get("client_version"), "client_version", limits)
        or envelope.client_version,
        users_optional=envelope.users_optional,
    )


def _record(index: int, event: dict[str, Any], defaults: _Defaults, limits: Limits) -> Record:
    """One event's record."""
    occurred_at = fields.moment(event.get("timestamp"), "timestamp")
    name = fields.required(fields.word(event.get("event"), "event", limits), "event")
    user_id = fields.word(event.get("user_id"), "user_id", limits) or defaults.user_id
    if not defaults.users_optional:
        fields.required(user_id, "user_id")
    session_id = fields.word(event.get("session_id"), "session_id", limits) or defaults.session_id
    category = fields.category(event.get("category")) or defaults.category
    level = fields.word(event.get("level"), "level", limits)
    message = fields.text(event.get("message"), "message")
    return Record(
        position=index,
        occurred_at=occurred_at,
        name=name,
        user_id=user_id,
        session_id=session_id,
        category=category,
        level=level,
        scope=None,
        client_version=defaults.client_version,
        message=message,
        properties=fields.properties(_rest(event), message, limits),
    )


def _rest(event: dict[str, Any]) -> dict[str, Any]:
    """The fields an event has beside the known ones, with those of its `properties`."""
    rest = {name: value for name, value in event.items() if name not in _KNOWN}
    given = event.get("properties")
    if given is None:
        return rest
    if not isinstance(given, dict):
        raise InvalidRecord("invalid_type", "properties must be an object", "properties")
    if not rest.keys().isdisjoint(given):
        raise InvalidRecord(
            "duplicate_key", "A field stands both on the event and in its properties"
        )
    return rest | given
