"""The bodies of native clients, of the submission client and of browsers."""

from ingest.schema.fields import (
    BATCH_ID,
    CATEGORY,
    CLOCK,
    FIELD_NAMES,
    IDENTIFIER,
    MOMENT,
    NAME,
    OPTIONAL_IDENTIFIER,
    OPTIONAL_MOMENT,
    OPTIONAL_TIME,
    TEXT,
    TIME,
    WORD,
    batch,
    record,
)
from telemetry_site.openapi import EXAMPLE_DAY, Object, examples, schema

PROPERTIES: Object = {"type": ["object", "null"], "propertyNames": FIELD_NAMES}
ON_THE_BATCH = "What stands here holds for those of its events that don't say it themselves."

NATIVE_EVENT = record(
    "NativeEvent",
    "Every field that isn't named here becomes a property, beside those in `properties`. A user "
    "must stand on the event, on the batch or in `X-User-ID`, unless the project says that users "
    "are optional; the event's own wins. Of users and sessions only keyed hashes are stored.",
    ["event", "timestamp"],
    event=NAME,
    timestamp=MOMENT,
    user_id=WORD,
    session_id=WORD,
    category=CATEGORY,
    level=WORD,
    message=TEXT,
    properties=PROPERTIES,
)
NATIVE = batch(
    "NativeBatch",
    ON_THE_BATCH,
    "events",
    NATIVE_EVENT,
    batch_id=BATCH_ID,
    timestamp=OPTIONAL_MOMENT | {"description": CLOCK},
    client_version=WORD,
    user_id=WORD,
    session_id=WORD,
    category=CATEGORY,
)

SUBMIT_EVENT = schema(
    "SubmitEvent",
    {
        "description": "As `NativeEvent`; users are optional, times and ids may be numbers, and "
        "where a native field is absent the client's own name for it is taken: `eventType`, "
        "`userId`, `sessionId` and `eventData` for `event`, `user_id`, `session_id` and "
        "`properties`.",
        "type": "object",
        "required": ["timestamp"],
        "anyOf": [
            {"required": ["event"], "properties": {"event": NAME}},
            {
                "required": ["eventType"],
                "properties": {"event": {"type": "null"}, "eventType": NAME},
            },
        ],
        "properties": {
            "timestamp": TIME,
            "event": WORD,
            "eventType": WORD,
            "user_id": OPTIONAL_IDENTIFIER,
            "userId": OPTIONAL_IDENTIFIER,
            "session_id": OPTIONAL_IDENTIFIER,
            "sessionId": OPTIONAL_IDENTIFIER,
            "properties": PROPERTIES,
            "eventData": PROPERTIES,
            "category": CATEGORY,
            "level": WORD,
            "message": TEXT,
        },
        "propertyNames": FIELD_NAMES,
    },
)
SUBMIT = batch(
    "SubmitBatch",
    ON_THE_BATCH,
    "events",
    SUBMIT_EVENT,
    batch_id=BATCH_ID,
    timestamp=OPTIONAL_TIME | {"description": CLOCK},
    client_version=WORD,
    user_id=OPTIONAL_IDENTIFIER,
    session_id=OPTIONAL_IDENTIFIER,
    category=CATEGORY,
)

BROWSER_EVENT = record(
    "BrowserEvent",
    "A line of a page's log. What it has beside these fields, and its context, become properties.",
    ["level", "scope", "sessionId", "message", "timestamp"],
    level={"type": "string", "enum": ["info", "warn", "error"]},
    scope=NAME,
    sessionId=IDENTIFIER,
    message={"type": "string"},
    timestamp=TIME,
    requestId={"description": "Becomes a property."},
    userId=OPTIONAL_IDENTIFIER,
    context={
        "description": "Its `userId` is the event's user, and is not kept as such.",
        "properties": {"userId": OPTIONAL_IDENTIFIER},
        **PROPERTIES,
    },
)
BROWSER = batch(
    "BrowserBatch",
    "What a page has collected.",
    "events",
    BROWSER_EVENT,
    batch_id=BATCH_ID,
    timestamp=OPTIONAL_TIME | {"description": CLOCK},
)

# --- examples ---

_TIME = f"{EXAMPLE_DAY}T10:30:00Z"
NATIVE_EXAMPLES = examples(
    batch={
        "batch_id": "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11",
        "timestamp": _TIME,
        "client_version": "1.2.3",
        "user_id": "a7f3c8e9d2b1",
        "session_id": "s-1",
        "category": "application",
        "events": [
            {
                "event": "plugin_loaded",
                "timestamp": _TIME,
                "plugin": "Compressor",
                "load_ms": 41.5,
            },
            {"event": "feature_used", "timestamp": f"{EXAMPLE_DAY}T10:29:12.250+00:00"},
        ],
    },
    list=[
        {"event": "preset_saved", "timestamp": _TIME, "user_id": "a7f3c8e9d2b1"},
        {
            "event": "crashed",
            "timestamp": _TIME,
            "user_id": "b41d09",
            "category": "system",
            "level": "error",
            "message": "Audio device lost",
            "properties": {"device": "ASIO", "buffer": 256},
        },
    ],
    event={"event": "preset_saved", "timestamp": _TIME, "user_id": "a7f3c8e9d2b1"},
)
SUBMIT_EXAMPLES = examples(
    batch={
        "events": [
            {
                "event": "command_run",
                "timestamp": _TIME,
                "command": "build",
                "duration_ms": 812,
            },
        ]
    },
    own_names={
        "events": [
            {
                "eventType": "memory_search",
                "timestamp": _TIME,
                "sessionId": 17,
                "eventData": {"results": 4},
            },
        ]
    },
)
_LINE = {
    "level": "info",
    "scope": "component-name",
    "sessionId": "component-session-abc123",
    "message": "User action description",
    "timestamp": _TIME,
}
BROWSER_EXAMPLES = examples(
    batch={
        "events": [
            {
                **_LINE,
                "requestId": "request-xyz789",
                "context": {"userId": "user-123", "action": "button_click"},
            }
        ]
    },
    event=_LINE,
)
