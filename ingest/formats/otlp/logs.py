"""Log records, `POST /otlp/v1/logs`, as OpenTelemetry's SDKs and collectors send them. Pure.

A record is an event. Its `event_name` is the event's name (else the attribute `event.name`, else
"log"), its severity the level, a body that is text the message, its scope the scope. The attributes
`user.id` or `enduser.id` say whom it is of, `session.id` in which session, `event.category` its
category, and `service.version` of the resource the client's version; none of them is kept as it is.
Users are optional, whatever the project says.

All other attributes become properties by their own names, but `request.id` by that which browsers
have for it, `requestId`. Beside them stand `trace_id` and `span_id` in hexadecimal digits, a `body`
that is no text, and under `resource` what else is known of that. An attribute that has one of these
names, and says something else, stands there as `sent.` and its name.
"""

from collections.abc import Container, Iterator
from itertools import chain, islice
from typing import Any

import msgspec
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.formats import fields
from ingest.formats.json_values import check_text, check_values
from ingest.formats.otlp.attributes import SESSION, USERS, Source, Values, source
from ingest.formats.otlp.frames import LOGS, Group, groups
from ingest.formats.otlp.items import ESCAPED_NUL, message, moment
from ingest.records import (
    CATEGORIES,
    DEFAULT_CATEGORY,
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    Record,
    Rejection,
)

UNNAMED = "log"
# OpenTelemetry's numbers of severity begin at 1 and come in fours.
LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
NAME, CATEGORY, REQUEST = "event.name", "event.category", "request.id"
# As a property of browsers' events.
REQUEST_PROPERTY = "requestId"
# Before the name of an attribute that is also the name of something else.
SENT = "sent."

_NO_PROPERTIES = b"{}"
_Item = tuple[Source | InvalidRecord, bytes]


def decode(body: bytes, encoding: str, envelope: Envelope) -> Iterator[DecodedBatch]:
    """The records of a request in batches, in order.

    Raises MalformedBatch where the request can't be taken at all, and then before any batch.
    """
    reader = _Reader(encoding, envelope)
    items = chain.from_iterable(map(reader.items, groups(body, encoding, LOGS)))
    while several := list(islice(items, envelope.limits.batch_events)):
        yield reader.batch(several)


class _Reader:
    """Reads the items of one request."""

    def __init__(self, encoding: str, envelope: Envelope) -> None:
        self._encoding = encoding
        self._envelope = envelope
        self._limits = envelope.limits
        self._values = Values(envelope.limits)

    def items(self, group: Group) -> Iterator[_Item]:
        """Each item of a group, with who sent all of them, or what is wrong with that."""
        try:
            whole: Source | InvalidRecord = source(group, self._encoding, self._values)
        except InvalidRecord as reason:
            whole = reason
        for item in group.items:
            yield whole, item

    def batch(self, items: list[_Item]) -> DecodedBatch:
        """The records of some items, and why each other one is refused."""
        records: list[Record] = []
        rejections: list[Rejection] = []
        for index, (whole, item) in enumerate(items):
            try:
                if isinstance(whole, InvalidRecord):
                    raise whole.with_traceback(None)
                records.append(self._record(index, whole, item))
            except InvalidRecord as reason:
                rejections.append(Rejection(index, reason.code, reason.message, reason.field))
        sent, kept = sum(len(item) for _, item in items), sum(len(r.properties) for r in records)
        return DecodedBatch(records, rejections, named_by_content=True, body_bytes=max(sent, kept))

    def _record(self, index: int, whole: Source, item: bytes) -> Record:
        """One log record's event."""
        limits, envelope, values = self._limits, self._envelope, self._values
        record = message(LogRecord, item, self._encoding, limits)
        own = values.mapping(record.attributes)
        user_id = values.taken(USERS, own) or whole.user_id or envelope.user_id
        session_id = values.taken((SESSION,), own) or whole.session_id
        name = fields.word(record.event_name or _text(own, NAME), "event_name", limits)
        category = _text(own, CATEGORY, CATEGORIES) or DEFAULT_CATEGORY
        body = values.plain(record.body) if record.HasField("body") else None
        is_text = record.body.WhichOneof("value") == "string_value"
        event = Record(
            index,
            # When it happened, else when it was seen.
            moment(record.time_unix_nano or record.observed_time_unix_nano),
            name or UNNAMED,
            user_id,
            session_id,
            category,
            _level(record, whole, limits),
            whole.scope,
            whole.version or envelope.client_version,
            body if is_text else None,
            _NO_PROPERTIES,
        )
        if REQUEST in own and REQUEST_PROPERTY not in own:
            own[REQUEST_PROPERTY] = own.pop(REQUEST)
        _add(own, "resource", msgspec.Raw(whole.text) if whole.attributes else None)
        _add(own, "trace_id", _digits(record.trace_id, 16))
        _add(own, "span_id", _digits(record.span_id, 8))
        _add(own, "body", None if is_text else body)
        event.properties = fields.properties(own, event.message, limits)
        if ESCAPED_NUL in event.properties:
            check_values(own, limits)
        check_text(f"{event.name}{event.level}{event.message}")
        values.keep(len(event.properties))
        return event


def _text(own: dict[str, Any], name: str, choices: Container[str] | None = None) -> str | None:
    """An attribute that is a text (one of these, where there are some), taken out."""
    value = own.get(name)
    if not isinstance(value, str) or (choices is not None and value not in choices):
        return None
    del own[name]
    return value


def _add(own: dict[str, Any], name: str, value: Any) -> None:
    """Add what there is beside the attributes, none of which is lost for it."""
    if value is None:
        return
    if name in own and own[name] != value:
        own[SENT + name] = own[name]
    own[name] = value


def _digits(identifier: bytes, length: int) -> str | None:
    """A valid id of a trace or span; none is all zeros."""
    return identifier.hex() if len(identifier) == length and any(identifier) else None


def _level(record: LogRecord, whole: Source, limits: Limits) -> str | None:
    """By the severity's number, else by its text: that may be anything.

    What we export ourselves has the level as its text, in capitals if it is one of the usual ones.
    """
    text = fields.word(record.severity_text, "severity_text", limits)
    if whole.is_ours and text:
        return text.lower() if text.isupper() else text
    if 0 < record.severity_number <= 4 * len(LEVELS):
        return LEVELS[(record.severity_number - 1) // 4]
    return text.lower() if text and text.lower() in LEVELS else text
