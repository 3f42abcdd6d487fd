"""The native batch of `POST /v1/events` (source 000), a bare list, or one bare event. Pure."""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from ingest.formats.json_values import RepeatedKey, check_names, check_nesting, check_values, load
from ingest.records import (
    CATEGORIES,
    DEFAULT_CATEGORY,
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    MalformedBatch,
    Record,
    Rejection,
)

_encode = msgspec.json.Encoder().encode
_NO_PROPERTIES = b"{}"
_SHAPE_FIELDS = 50
_TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


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
    limits = envelope.limits
    value, clean = load(body, limits)
    batch = _batch(value)
    events = _events(batch, limits)
    try:
        check_values({key: batch[key] for key in batch if key != "events"}, limits)
        defaults = _defaults(batch, envelope)
        batch_id = _batch_id(batch) or envelope.batch_id
        given = batch.get("timestamp") not in (None, "")
        sent_at = _moment(batch, "timestamp") if given else None
    except InvalidRecord as reason:
        raise MalformedBatch(reason.code, reason.message, reason.field) from None

    decoded = DecodedBatch([], [], batch_id, sent_at)
    around = 2 if batch is value else isinstance(value, list)
    brackets = body.count(b"{") + body.count(b"[") - around
    if clean and (records := all_at_once(events, brackets, defaults, limits)) is not None:
        decoded.records = records
        return decoded
    for index, event in enumerate(events):
        try:
            if not isinstance(event, dict):
                raise InvalidRecord("invalid_type", "An event must be an object")
            if clean:
                check_nesting(event, limits)
            else:
                check_values(event, limits)
            decoded.records.append(_record(index, dict(event), defaults, limits))
        except InvalidRecord as reason:
            decoded.rejections.append(
                Rejection(index, reason.code, reason.message, reason.field, shape(event))
            )
    return decoded


def all_at_once(
    events: list[Any], brackets: int, defaults: _Defaults, limits: Limits
) -> list[Record] | None:
    """The records of good and flat events, for a third of what `_record` takes for each.

    None where anything is wrong or nested (`brackets` are those of the events): then each event
    is looked at by itself, and that is where the rules are written down.
    """
    try:
        known = msgspec.convert(events, _known_fields(limits.name_length))
    except msgspec.ValidationError:
        return None
    records: list[Record] = []
    names: set[str] = set()
    objects = 0
    for index, (event, fields) in enumerate(zip(events, known, strict=True)):
        rest = {name: value for name, value in event.items() if name not in _KNOWN}
        if fields.properties is not None:
            if not rest.keys().isdisjoint(fields.properties):
                return None
            rest |= fields.properties
            objects += 1
        names.update(rest)
        properties = _encode(rest) if rest else _NO_PROPERTIES
        user_id = fields.user_id or defaults.user_id
        if user_id is None and not defaults.users_optional:
            return None
        if len(properties) + len((fields.message or "").encode()) > limits.event_bytes:
            return None
        moment = fields.timestamp
        try:
            moment = moment if moment.tzinfo is UTC else _in_utc(moment)
        except OverflowError:
            return None
        records.append(
            Record(
                index,
                moment,
                fields.event,
                user_id,
                fields.session_id or defaults.session_id,
                fields.category or defaults.category,
                fields.level or None,
                None,
                defaults.client_version,
                fields.message,
                properties,
            )
        )
    nested = brackets > len(events) + objects
    too_long = max(map(len, names), default=0) > limits.name_length
    return None if nested or too_long else records


@cache
def _known_fields(name_length: int) -> Any:
    """The type of a list of good events, but for what becomes properties."""
    name = Annotated[str, msgspec.Meta(min_length=1, max_length=name_length)]
    word = Annotated[str, msgspec.Meta(max_length=name_length)] | None
    fields = [
        ("timestamp", datetime),
        ("event", name),
        ("user_id", word, None),
        ("session_id", word, None),
        ("category", Literal[tuple(sorted(CATEGORIES))] | None, None),
        ("level", word, None),
        ("message", str | None, None),
        ("properties", dict[str, Any] | None, None),
    ]
    return list[msgspec.defstruct("Known", fields)]  # type: ignore[misc, arg-type]


_KNOWN = frozenset(
    {"timestamp", "event", "user_id", "session_id", "category", "level", "message", "properties"}
)


def shape(event: Any) -> dict[str, str]:
    """Names and types of an event's fields (50 at the most), without a value."""
    if not isinstance(event, dict):
        return {"": _TYPES[type(event)]}
    return {
        _storable(name[:200]): _TYPES.get(type(field), "object")
        for name, field in list(event.items())[:_SHAPE_FIELDS]
    }


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode(errors="replace").decode()


def _batch(value: Any) -> dict[str, Any]:
    """The batch, whether it came as one, as a list of events or as a single event."""
    if isinstance(value, list):
        return {"events": value}
    if not isinstance(value, dict):
        raise MalformedBatch("invalid_type", "The body must be an object or a list")
    if "events" not in value and "event" in value:
        return {"events": [value]}
    if isinstance(value, RepeatedKey):
        raise MalformedBatch("duplicate_key", "A key occurs twice in the batch")
    return value


def _events(batch: dict[str, Any], limits: Limits) -> list[Any]:
    events = batch.get("events")
    if events is None:
        raise MalformedBatch("missing_field", "Missing required field: events", "events")
    if not isinstance(events, list):
        raise MalformedBatch("invalid_type", "events must be a list", "events")
    if not events:
        raise MalformedBatch("no_events", "events is empty", "events")
    if len(events) > limits.batch_events:
        raise MalformedBatch(
            "too_many_events",
            f"{len(events)} events in one batch; at most {limits.batch_events} are taken",
            "events",
        )
    return events


def _defaults(batch: dict[str, Any], envelope: Envelope) -> _Defaults:
    limits = envelope.limits
    return _Defaults(
        user_id=_word(batch.get("user_id"), "user_id", limits) or envelope.user_id,
        session_id=_word(batch.get("session_id"), "session_id", limits),
        category=_category(batch.get("category")) or DEFAULT_CATEGORY,
        client_version=_word(batch.get("client_version"), "client_version", limits)
        or envelope.client_version,
        users_optional=envelope.users_optional,
    )


def _record(index: int, event: dict[str, Any], defaults: _Defaults, limits: Limits) -> Record:
    """One event's record; what is left in `event` are the fields that become properties."""
    occurred_at = _moment(event, "timestamp")
    name = _word(event.pop("event", None), "event", limits)
    if name is None:
        raise InvalidRecord("missing_field", "Missing required field: event", "event")
    user_id = _word(event.pop("user_id", None), "user_id", limits) or defaults.user_id
    if user_id is None and not defaults.users_optional:
        raise InvalidRecord("missing_field", "Missing required field: user_id", "user_id")
    session_id = _word(event.pop("session_id", None), "session_id", limits) or defaults.session_id
    category = _category(event.pop("category", None)) or defaults.category
    level = _word(event.pop("level", None), "level", limits)
    message = event.pop("message", None)
    if message is not None and not isinstance(message, str):
        raise InvalidRecord("invalid_type", "message must be a string", "message")
    del event["timestamp"]
    properties = _properties(event, limits)
    if len(properties) + len((message or "").encode()) > limits.event_bytes:
        raise InvalidRecord(
            "event_too_large", f"An event is larger than {limits.event_bytes} bytes"
        )
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
        properties=properties,
    )


def _properties(event: dict[str, Any], limits: Limits) -> bytes:
    """The fields an event has beside the known ones, with those of its `properties`, as JSON."""
    given = event.pop("properties", None)
    if given is not None:
        if not isinstance(given, dict):
            raise InvalidRecord("invalid_type", "properties must be an object", "properties")
        if not event.keys().isdisjoint(given):
            raise InvalidRecord(
                "duplicate_key", "A field stands both on the event and in its properties"
            )
        event |= given
    if not event:
        return _NO_PROPERTIES
    check_names(event, limits)
    return _encode(event)


def _word(value: Any, field: str, limits: Limits) -> str | None:
    """A short text; None where it is absent or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidRecord("invalid_type", f"{field} must be a string", field)
    if len(value) > limits.name_length:
        raise InvalidRecord(
            "too_long", f"{field} is longer than {limits.name_length} characters", field
        )
    return value


def _category(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value in CATEGORIES:
        return value
    raise InvalidRecord(
        "invalid_category", f"category must be one of {', '.join(sorted(CATEGORIES))}", "category"
    )


def _moment(holder: dict[str, Any], field: str) -> datetime:
    """An RFC 3339 moment; one without an offset is UTC."""
    value = holder.get(field)
    if value is None:
        raise InvalidRecord("missing_field", f"Missing required field: {field}", field)
    try:
        if not isinstance(value, str):
            raise ValueError
        return _in_utc(msgspec.convert(value, datetime))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise InvalidRecord(
            "invalid_timestamp",
            f"{field} must be a time such as 2026-11-20T10:30:00Z (RFC 3339)",
            field,
        ) from None


def _in_utc(moment: datetime) -> datetime:
    """The moment in UTC; raises OverflowError at the ends of the calendar."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _batch_id(batch: dict[str, Any]) -> UUID | None:
    value = batch.get("batch_id")
    if value is None or value == "":
        return None
    try:
        return msgspec.convert(value, UUID)
    except msgspec.ValidationError:
        raise InvalidRecord("invalid_batch_id", "batch_id must be a UUID", "batch_id") from None
