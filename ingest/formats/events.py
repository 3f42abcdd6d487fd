"""The native batch of `POST /v1/events` (source 000), a bare list, or one bare event. Pure.

Strict: every text a text, every moment as RFC 3339 writes it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ingest.formats import fields
from ingest.formats.items import blaming_the_batch, one_by_one, take_apart
from ingest.formats.json_values import (
    INT64,
    UNDECODABLE,
    check_size,
    check_values,
    has_all_keys_once,
    load_checked,
)
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
    check_size(body, envelope.limits)
    return _directly(body, envelope) or records_of(*load_checked(body), envelope)


def _directly(body: bytes, envelope: Envelope) -> DecodedBatch | None:
    """What `records_of` makes of a batch of good and flat events, for two thirds of the time.

    None of anything else: that is loaded, and looked at in its parts.
    """
    limits = envelope.limits
    try:
        batch = _types(limits.name_length).batch(body)
        if not 0 < len(batch.events) <= limits.batch_events:
            return None
        own = {name: _given(getattr(batch, name)) for name in _OF_BATCH}
        decoded = _batch(own, envelope)
        defaults = _defaults(own, decoded.user_id, envelope)
        records = _records(batch.events, defaults, limits)
        if records is None:
            return None
        for event, record in zip(batch.events, records, strict=True):
            if event.properties:
                # Encoded already.
                event.properties = msgspec.Raw(record.properties)
        if not has_all_keys_once(body, batch):
            return None
    except (InvalidRecord, *UNDECODABLE):
        return None
    decoded.records = records
    return decoded


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
    types = _types(limits.name_length)
    try:
        good = types.events(events)
        for event, known in zip(events, good, strict=True):
            if not event.keys() <= _KNOWN:
                own = {name: value for name, value in event.items() if name not in _KNOWN}
                given = known.properties or {}
                if not own.keys().isdisjoint(given):
                    return None
                known.properties = types.flat(own) | given
        return _records(good, defaults, limits)
    except UNDECODABLE:
        return None


def _records(events: list[Any], defaults: _Defaults, limits: Limits) -> list[Record] | None:
    """The records of events that have the types they should have; None where one is refused."""
    records: list[Record] = []
    moments = _moments([event.timestamp for event in events])
    for index, (event, moment) in enumerate(zip(events, moments, strict=True)):
        properties = _encode(event.properties) if event.properties else _NO_PROPERTIES
        message = _given(event.message)
        user_id = event.user_id or defaults.user_id
        if user_id is None and not defaults.users_optional:
            return None
        if len(properties) + (len(message.encode()) if message else 0) > limits.event_bytes:
            return None
        records.append(
            Record(
                index,
                moment if moment.tzinfo is UTC else fields.in_utc(moment),
                event.event,
                user_id,
                event.session_id or defaults.session_id,
                event.category or defaults.category,
                event.level or None,
                None,
                defaults.client_version,
                message,
                properties,
            )
        )
    return records


def _given(value: Any) -> Any:
    return None if value is msgspec.UNSET else value


class _Types(NamedTuple):
    """What is made of good and flat events; each raises a ValidationError for what is none."""

    # Of a batch's body, where all fields are known ones.
    batch: Callable[[bytes], Any]
    # Of values: of a list of events, and of what becomes properties.
    events: Callable[[Any], list[Any]]
    flat: Callable[[Any], dict[str, Any]]


@cache
def _types(name_length: int) -> _Types:
    """The types for one greatest length of names."""
    name = Annotated[str, msgspec.Meta(min_length=1, max_length=name_length)]
    word = Annotated[str, msgspec.Meta(max_length=name_length)]
    whole = Annotated[int, msgspec.Meta(ge=INT64.start, le=2**63 - 1)]
    flat = dict[word, str | whole | float | bool | None]
    event: Any = msgspec.defstruct(
        "Event",
        [
            ("timestamp", str),
            ("event", name),
            _optional("user_id", word),
            _optional("session_id", word),
            _optional("category", Literal[tuple(sorted(CATEGORIES))]),
            _optional("level", word),
            _optional("message", str),
            _optional("properties", flat),
        ],
    )
    known: Any = msgspec.defstruct("Known", [], bases=(event,), forbid_unknown_fields=True)
    batch = msgspec.defstruct(
        "Batch",
        [("events", list[known]), *(_optional(name, str) for name in _OF_BATCH)],
        forbid_unknown_fields=True,
    )
    return _Types(
        msgspec.json.Decoder(batch).decode,
        partial(msgspec.convert, type=list[event]),
        partial(msgspec.convert, type=flat),
    )


def _optional(name: str, type: Any) -> tuple[str, Any, Any]:
    """A field that may be null or absent, and isn't encoded where it was absent."""
    return name, type | None | msgspec.UnsetType, msgspec.UNSET


_moments = partial(msgspec.convert, type=list[datetime])
_OF_BATCH = ("batch_id", "timestamp", "client_version", "user_id", "session_id", "category")
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
