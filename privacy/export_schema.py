"""The schema of an export, and what the OpenAPI document says of asking for one."""

from django.conf import settings

from ingest.records import CATEGORIES, KINDS
from ingest.schema.operations import ENCODING
from privacy import handing
from privacy.models import DeletionRequest, ExportRequest
from privacy.preferences import MOST_SECONDS, WAIT_SECONDS
from privacy.schema import (
    FORBIDDEN,
    MOMENT,
    PERHAPS,
    PERSON_REFUSALS,
    TAG,
    USER_ID,
    body,
)
from telemetry_site.openapi import (
    EXAMPLE_DAY,
    HEADERS,
    LIMITS,
    REFUSALS,
    RETRY_AFTER,
    Object,
    answer,
    component,
    examples,
    operation,
    refusal,
    schema,
)

# What is answered with at once, in events and measurements, and in bytes.
MOST_AT_ONCE = 10_000
MOST_BYTES_AT_ONCE = 16 * 1024**2

TEXT: Object = {"type": "string"}
NUMBER: Object = {"type": ["number", "null"]}
ID: Object = {"type": "string", "format": "uuid"}
COUNT: Object = {"type": "integer", "minimum": 0}
PSEUDONYM: Object = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "description": "A keyed hash; the id itself is stored nowhere.",
}


def _closed(**properties: Object) -> Object:
    """An object with just these fields."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _or_null(content: Object) -> Object:
    return {"anyOf": [content, {"type": "null"}]}


_STATE: Object = {
    "enum": ["stored", "waiting", "dead"],
    "description": "`waiting`: accepted and about to be stored; `dead`: could not be stored, kept "
    "to be tried again.",
}
EVENT = _closed(
    event=TEXT,
    timestamp=MOMENT,
    state=_STATE,
    batch_id=ID,
    position=COUNT | {"description": "Its place in the batch that brought it, from 0."},
    session=_or_null(PSEUDONYM),
    category={"enum": sorted(CATEGORIES)},
    level=_or_null(TEXT),
    scope=_or_null(TEXT),
    client_version=_or_null(TEXT),
    message=_or_null(TEXT),
    properties={"type": "object"},
)
POINT = _closed(
    name=TEXT,
    timestamp=MOMENT,
    state=_STATE,
    batch_id=ID,
    position=COUNT,
    part=COUNT | {"description": "Tells measurements apart that came as one item."},
    kind={"enum": sorted(KINDS)},
    node=_or_null(TEXT),
    tags={"type": "object"},
    cumulative={"type": "boolean"},
    value=NUMBER,
    samples=_or_null({"type": "array", "items": {"type": "number"}}),
    count=_or_null({"type": "integer"}),
    sum=NUMBER,
    min=NUMBER,
    max=NUMBER,
    weights=_or_null(
        {
            "type": "array",
            "items": {"type": "integer"},
            "description": "How many measurements each of the samples stands for; null: one each.",
        }
    ),
    started_at=PERHAPS | {"description": "Since when it is cumulative, where that was said."},
)
REQUEST = _closed(
    id=ID,
    type={"enum": ["deletion", "export"]},
    status={"enum": sorted({*DeletionRequest.State.values, *ExportRequest.State.values})},
    requested_at=MOMENT,
    finished_at=PERHAPS,
)
CONSENT = _closed(
    categories={
        "type": "object",
        "required": sorted(CATEGORIES),
        "propertyNames": {"enum": sorted(CATEGORIES)},
        "additionalProperties": {"type": "boolean"},
    },
    suppressed={"type": "boolean", "description": "Nothing is stored since an erasure was asked."},
    history={
        "type": "array",
        "items": _closed(
            category={"enum": sorted(CATEGORIES)}, granted={"type": "boolean"}, changed_at=MOMENT
        ),
    },
)
_PARTS = {
    "subject": PSEUDONYM,
    "export_timestamp": MOMENT | {"description": "When reading began."},
    "events": {"type": "array", "items": EVENT},
    "metrics": {"type": "array", "items": POINT},
    "requests": {"type": "array", "items": REQUEST},
    "consent": CONSENT,
    "destinations": {
        "type": "array",
        "items": TEXT,
        "description": (
            "Where data of the project's is forwarded to, which may be this person's: the scheme "
            "and host of each OpenTelemetry collector that has taken some."
        ),
    },
}
FILE: Object = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Export",
    "description": "All that is kept about one person: what is in the file of an export.",
    **_closed(**_PARTS),
}

# --- the operations ---

_ID = "7c1f2a90-4f0e-4c51-9d3a-2f6f3d1b8e77"
_STATUS_URL = f"http://127.0.0.1:8000/v1/telemetry/exports/{_ID}"
_MOMENT = f"{EXAMPLE_DAY}T10:30:00Z"
_CONTENT = {
    "user_id": "a7f3c8e9d2b1",
    "subject": "5f0c2b7a9e1d4c3388f0a6b1d2e3f405",
    "export_timestamp": _MOMENT,
    "events": [
        {
            "event": "plugin_loaded",
            "timestamp": _MOMENT,
            "state": "stored",
            "batch_id": "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11",
            "position": 0,
            "session": None,
            "category": "application",
            "level": None,
            "scope": None,
            "client_version": "1.2.3",
            "message": None,
            "properties": {"plugin": "Compressor"},
        }
    ],
    "metrics": [],
    "requests": [
        {
            "id": _ID,
            "type": "export",
            "status": "running",
            "requested_at": _MOMENT,
            "finished_at": None,
        }
    ],
    "consent": {
        "categories": dict.fromkeys(sorted(CATEGORIES), True),
        "suppressed": False,
        "history": [],
    },
    "destinations": ["https://collector.example.com"],
}
_STATUS: Object = {
    "type": "string",
    "enum": ExportRequest.State.values,
    "description": "; ".join(f"`{s.value}`: {s.label}" for s in ExportRequest.State) + ".",
}
PREFER = component(
    "parameters",
    "Prefer",
    {
        "name": "Prefer",
        "in": "header",
        "description": f"RFC 7240: `wait=5` for how many seconds to wait, {WAIT_SECONDS} where "
        f"nothing is said and at most {MOST_SECONDS}; `respond-async` not to wait at all.",
        "schema": TEXT,
    },
)
_EXPORT_ID: Object = {
    "name": "export_id",
    "in": "path",
    "required": True,
    "schema": ID,
    "example": _ID,
}
_APPLIED = {
    "Preference-Applied": {
        "description": "The preferences that were heeded. Absent where there were none.",
        "schema": {"type": "string"},
        "example": "wait=5",
    }
}
_LOCATION = {
    "Location": {
        "description": "The export's status.",
        "required": True,
        "schema": {"type": "string", "format": "uri"},
    }
}
EXPORT = operation(
    TAG,
    "Get a person's data",
    f"All that is kept of it. Up to {MOST_AT_ONCE:,} events and measurements, of "
    f"{MOST_BYTES_AT_ONCE // 1024**2} MiB, are answered at once if they are gathered while the "
    "client waits; anything else becomes a file, of which the status tells when it is ready. The "
    "file has no `user_id`, which is stored nowhere; else it is what is answered here, and its "
    "schema is at `/api/schema/export/`. While an export waits or is made, asking again asks for "
    "the same one; when another is done, the file of the earlier one is deleted.",
    {
        **PERSON_REFUSALS,
        200: answer(
            "The data.",
            schema("Export", _closed(user_id=TEXT, **_PARTS)),
            examples(small=_CONTENT),
            LIMITS | _APPLIED,
        ),
        202: answer(
            "It is being gathered.",
            schema(
                "ExportAsked",
                {
                    "type": "object",
                    "required": ["export_id", "status", "status_url"],
                    "properties": {
                        "export_id": ID,
                        "status": _STATUS,
                        "status_url": {"type": "string", "format": "uri"},
                    },
                },
            ),
            examples(
                asked={"export_id": _ID, "status": "waiting", "status_url": _STATUS_URL},
            ),
            LIMITS | _APPLIED | _LOCATION,
        )
        | {
            "links": {
                "status": {
                    "operationId": "get_v1_telemetry_exports_export_id",
                    "parameters": {"export_id": "$response.body#/export_id"},
                    "description": "How far it is.",
                }
            }
        },
    },
    [ENCODING, PREFER],
    body("ExportRequest", {"user_id": USER_ID}, ["user_id"], examples(
        person={"user_id": "a7f3c8e9d2b1"}
    )),
)  # fmt: skip
_UNKNOWN = {"unknown_export": "There is no such export of this person's."}
_WAITING = {
    "export_id": _ID,
    "status": "waiting",
    "requested_at": _MOMENT,
    "finished_at": None,
    "expires_at": None,
    "events": 0,
    "metrics": 0,
    "bytes": 0,
    "error": "",
    "download_url": None,
}
STATUS = operation(
    TAG,
    "How far is an export?",
    f"Once it is done there is a link to its file, for {settings.EXPORT_DAYS} days. A link opens "
    "this one file, for an hour and without a key; each answer has a new one.",
    {
        **REFUSALS,
        403: FORBIDDEN,
        404: refusal(404, "No export of this person's has this id.", _UNKNOWN),
        200: answer(
            "How far it is.",
            schema(
                "ExportStatus",
                {
                    "type": "object",
                    "required": list(_WAITING),
                    "properties": {
                        "export_id": ID,
                        "status": _STATUS,
                        "requested_at": MOMENT,
                        "finished_at": PERHAPS,
                        "expires_at": PERHAPS | {"description": "When its file is deleted."},
                        "events": COUNT,
                        "metrics": COUNT,
                        "bytes": COUNT,
                        "error": TEXT | {"description": "Why it failed; else empty."},
                        "download_url": _or_null({"type": "string", "format": "uri"}),
                    },
                },
            ),
            examples(
                waiting=_WAITING,
                done={
                    **_WAITING,
                    "status": "done",
                    "finished_at": _MOMENT,
                    "expires_at": "2026-12-27T10:30:00Z",
                    "events": 31_400,
                    "bytes": 2_113_002,
                    "download_url": f"{_STATUS_URL}/download?signature=1vM2xY:Zk3…",
                },
            ),
            LIMITS,
        ),
    },
    [_EXPORT_ID],
)
DOWNLOAD = operation(
    TAG,
    "Fetch an export's file",
    "With the link that its status has; nothing else is needed. JSON, compressed with gzip. One at "
    "a time may fetch it. Whoever reads it more slowly than "
    f"{handing.SLOWEST // 1024} KiB a second, or stops reading, is cut off.",
    {
        **{status: REFUSALS[status] for status in (400, 429)},
        503: refusal(
            503,
            "Not just now.",
            {"busy": "Several files are being fetched. Try again soon."},
            RETRY_AFTER,
        ),
        404: refusal(404, "The link is not ours, or the export is erased.", _UNKNOWN),
        409: refusal(
            409,
            "One at a time fetches a file.",
            {"being_fetched": "This file is being fetched right now. Try again when that is done."},
            RETRY_AFTER,
        ),
        410: refusal(
            410,
            "The link or the file is no more.",
            {
                "link_expired": "This link has expired. The status of the export has another.",
                "export_expired": "The file is deleted. Ask for another.",
            },
        ),
        200: {
            "description": "The file.",
            "headers": HEADERS | LIMITS,
            "content": {"application/gzip": {"schema": {"contentMediaType": "application/gzip"}}},
        },
    },
    [
        _EXPORT_ID,
        {
            "name": "signature",
            "in": "query",
            "required": True,
            "description": "What makes the link one.",
            "schema": TEXT,
        },
    ],
)
