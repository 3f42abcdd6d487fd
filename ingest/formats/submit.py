"""The submission client's batch, `POST /v1/submit` (source 001). Pure.

The native format (see `events`) with what a TypeScript client over SQLite sends in other words:

- users are optional, whatever the project says;
- a whole number as `timestamp` is milliseconds since 1970 (`Date.now()`, an INTEGER column), and as
  `user_id` or `session_id` its digits: on an event and on the batch;
- where a native field is absent, the client's own name for it is taken: `eventType`, `sessionId`,
  `userId` and `eventData` stand for `event`, `session_id`, `user_id` and `properties`.

Nothing else is converted: a number as `event` or `message` is refused as in the native format, and
so are numbers of seconds, with a moment of 1970. Refusals speak of the native names.
"""

from dataclasses import replace
from typing import Any

from ingest.formats import events, fields
from ingest.formats.json_values import load
from ingest.records import DecodedBatch, Envelope, InvalidRecord

_NAMES = {
    "eventType": "event",
    "sessionId": "session_id",
    "userId": "user_id",
    "eventData": "properties",
}
_IDS = ("user_id", "session_id")


def decode(body: bytes, envelope: Envelope) -> DecodedBatch:
    """The records of a body, and why each other event was refused.

    Raises MalformedBatch where the body or its envelope can't be taken at all.
    """
    value, clean = load(body, envelope.limits)
    for part in _parts(value):
        _translate(part)
    return events.records_of(value, clean, replace(envelope, users_optional=True))


def _parts(value: Any) -> list[dict[str, Any]]:
    """The objects of a body that may need translating: the batch and its events."""
    found = value if isinstance(value, list) else [value]
    if isinstance(value, dict) and isinstance(value.get("events"), list):
        found = [value, *value["events"]]
    return [part for part in found if isinstance(part, dict)]


def _translate(part: dict[str, Any]) -> None:
    """Put an event, or a batch, into the native format's words where they are others."""
    for theirs, native in _NAMES.items():
        if theirs in part and part.get(native) is None:
            part[native] = part.pop(theirs)
    for name in _IDS:
        if name in part:
            part[name] = fields.digits(part[name])
    if type(part.get("timestamp")) is int:
        part["timestamp"] = _written(part["timestamp"])


def _written(milliseconds: int) -> str | int:
    """The moment as RFC 3339 writes it; a number that is none is left to be refused."""
    try:
        return fields.moment_or_milliseconds(milliseconds, "timestamp").isoformat()
    except InvalidRecord:
        return milliseconds
