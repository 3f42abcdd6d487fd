"""OpenTelemetry's endpoints. What they take and answer is OTLP's own, and described there."""

from collections.abc import Mapping

from django.conf import settings

from ingest.bodies import ENCODINGS
from ingest.formats.otlp.frames import MOST_ITEMS
from ingest.schema.operations import CLIENT_VERSION, ENCODING, USER
from telemetry_site.openapi import (
    CHALLENGE,
    EXAMPLE_DAY,
    HEADERS,
    LIMITS,
    RETRY_AFTER,
    Object,
    examples,
    operation,
    schema,
)

OTLP = "https://opentelemetry.io/docs/specs/otlp/"
PROTOBUF: Object = {
    "application/x-protobuf": {
        "schema": {
            "description": f"The same as protobuf has it ({OTLP}).",
            "type": "string",
            "contentMediaType": "application/x-protobuf",
        }
    }
}
STATUS = schema(
    "RpcStatus",
    {
        "description": "`google.rpc.Status`: why a request is refused. HTTP's own status says "
        "whether it may be sent again: 429 and 503 alone.",
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "description": "gRPC's number for it."},
            "message": {"type": "string", "description": "For people; repeats no value."},
            "details": {
                "type": "array",
                "description": "`google.rpc.BadRequest` says what is wrong with each item, the "
                "first of them; `google.rpc.RetryInfo` is `Retry-After` once more.",
                "items": {
                    "type": "object",
                    "required": ["@type"],
                    "properties": {"@type": {"type": "string"}},
                    "additionalProperties": True,
                },
            },
        },
    },
)


def _refused(
    description: str, code: int, message: str, headers: Mapping[str, Object], *details: Object
) -> Object:
    shown: Object = {"code": code, "message": message}
    if details:
        shown["details"] = list(details)
    return {
        "description": description,
        "headers": HEADERS | dict(headers),
        "content": {
            "application/json": {"schema": STATUS, "examples": examples(refused=shown)},
            **PROTOBUF,
        },
    }


def _wait(seconds: int) -> Object:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}


_REFUSALS = {
    400: _refused("The request can't be read (is the host allowed?).", 3, "Not readable.", {}),
    401: _refused(
        "No key, or none that is valid.",
        16,
        "Send the project's key as X-API-Key or as Authorization: Bearer.",
        CHALLENGE,
    ),
    429: _refused(
        "A limit is used up.",
        8,
        "6000 requests in 60 s are allowed by the limit otlp.key. Try again in 24 s.",
        RETRY_AFTER | LIMITS,
        _wait(24),
    ),
    503: _refused(
        "Not all of it was accepted. Sent again, what was accepted is a duplicate.",
        14,
        "The database does not answer. Send the request again later.",
        RETRY_AFTER,
        _wait(5),
    ),
}
_SENT = {
    409: _refused(
        "This server forwarded the request itself.",
        9,
        "This server forwarded the request itself: its collector's URL leads back here.",
        {},
    ),
    413: _refused(
        f"More than {settings.MAX_OTLP_WIRE_BYTES} bytes as sent, "
        f"{settings.MAX_OTLP_BODY_BYTES} decompressed, or {MOST_ITEMS} items.",
        3,
        f"The body is larger than {settings.MAX_OTLP_WIRE_BYTES} bytes as sent.",
        {},
    ),
    415: _refused(
        f"A content type that isn't taken, or an encoding: {', '.join(ENCODINGS)} are.",
        3,
        "The content type must be application/x-protobuf or application/json.",
        {},
    ),
}


def _answered(name: str, rejected: str, item: str) -> Object:
    """200, in full or in part."""
    partial = {
        "type": "object",
        "description": "What was rejected, and would be again. Absent where nothing was.",
        "properties": {
            rejected: {"type": "string", "pattern": "^[0-9]+$"},
            "errorMessage": {"type": "string"},
        },
    }
    content = schema(name, {"type": "object", "properties": {"partialSuccess": partial}})
    some = {
        rejected: "1",
        "errorMessage": f"1 of 512 rejected; {item}[7]: A number is not finite or too large",
    }
    return {
        "description": "What is accepted is durable, or seen before.",
        "headers": HEADERS | LIMITS,
        "content": {
            "application/json": {
                "schema": content,
                "examples": examples(accepted={}, some_rejected={"partialSuccess": some}),
            },
            **PROTOBUF,
        },
    }


def _exporting(summary: str, description: str, body: Object, shown: Object, good: Object) -> Object:
    """An endpoint that takes a signal."""
    every_bad = _refused(
        "Malformed, or every item of it is bad; nothing is kept.",
        3,
        "2 of 2 rejected; log_records[0]: timestamp is more than 31 days ago; log_records[1]: "
        "A number is not finite or too large",
        {},
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [
                {"field": "[0].timestamp", "description": "timestamp is more than 31 days ago"},
                {"field": "[1]", "description": "A number is not finite or too large"},
            ],
        },
    )
    json = {"application/json": {"schema": body, "examples": shown}}
    return operation(
        "Ingest",
        summary,
        f"{description} An OpenTelemetry SDK or collector whose OTLP/HTTP endpoint is `…/otlp` "
        f"sends here ({OTLP}). More than one batch of it is split; users are optional.",
        {**_REFUSALS, **_SENT, 200: good, 400: every_bad},
        (USER, CLIENT_VERSION, ENCODING),
        {"required": True, "content": {**json, **PROTOBUF}},
    )


# --- what is sent ---

_OPEN: Object = {"type": "object", "additionalProperties": True}
_NANOSECONDS: Object = {
    "description": "Nanoseconds since 1970.",
    "type": "string",
    "pattern": "^[0-9]{1,19}$",
}
ATTRIBUTES = schema(
    "OtlpAttributes",
    {
        "description": "Values are `AnyValue`s: `stringValue`, `intValue`, `doubleValue`, "
        "`boolValue`, `bytesValue`, `arrayValue` or `kvlistValue`.",
        "type": "array",
        "items": {
            "type": "object",
            "required": ["key", "value"],
            "properties": {"key": {"type": "string", "maxLength": 200}, "value": _OPEN},
        },
    },
)


def _request(name: str, resources: str, scopes: str, items: str, item: Object) -> Object:
    scope = {
        "type": "object",
        "properties": {
            "scope": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 200}},
            },
            items: {"type": "array", "items": item},
        },
    }
    resource = {
        "type": "object",
        "properties": {
            "resource": {"type": "object", "properties": {"attributes": ATTRIBUTES}},
            scopes: {"type": "array", "items": scope},
        },
    }
    return schema(
        name,
        {"type": "object", "properties": {resources: {"type": "array", "items": resource}}},
    )


_TEMPORALITY: Object = {"type": "integer", "minimum": 1, "maximum": 2}
NUMBER_POINT = schema(
    "OtlpNumberDataPoint",
    {
        "description": "`user.id` (or `enduser.id`) is hashed; other attributes are its tags.",
        "type": "object",
        "properties": {
            "attributes": ATTRIBUTES,
            "startTimeUnixNano": _NANOSECONDS,
            "timeUnixNano": _NANOSECONDS,
            "asInt": {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
            "asDouble": {"type": "number"},
        },
    },
)


def _form(*, temporal: bool = True, monotonic: bool = False, point: Object = _OPEN) -> Object:
    """The data of one kind of metric."""
    properties: Object = {"dataPoints": {"type": "array", "items": point}}
    if temporal:
        properties["aggregationTemporality"] = _TEMPORALITY
    if monotonic:
        properties["isMonotonic"] = {"type": "boolean"}
    return {"type": "object", "properties": properties}


METRIC = schema(
    "OtlpMetric",
    {
        "description": "One of the five forms of data.",
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 200},
            "unit": {"type": "string"},
            "sum": _form(monotonic=True, point=NUMBER_POINT),
            "gauge": _form(temporal=False, point=NUMBER_POINT),
            "histogram": _form(),
            "exponentialHistogram": _form(),
            "summary": _form(temporal=False),
        },
    },
)
LOG_RECORD = schema(
    "OtlpLogRecord",
    {
        "description": "`user.id` (or `enduser.id`) and `session.id` are hashed; other attributes "
        "become properties.",
        "type": "object",
        "properties": {
            "timeUnixNano": _NANOSECONDS,
            "observedTimeUnixNano": _NANOSECONDS,
            "severityNumber": {"type": "integer", "minimum": 0, "maximum": 24},
            "severityText": {"type": "string", "maxLength": 200},
            "eventName": {"type": "string", "maxLength": 200},
            "body": _OPEN,
            "attributes": ATTRIBUTES,
            "traceId": {"type": "string", "pattern": "^([0-9a-f]{32})?$"},
            "spanId": {"type": "string", "pattern": "^([0-9a-f]{16})?$"},
        },
    },
)


def _text(key: str, value: str) -> Object:
    return {"key": key, "value": {"stringValue": value}}


_RECORD = {
    "severityNumber": 9,
    "severityText": "INFO",
    "eventName": "order_placed",
    "body": {"stringValue": f"Order placed on {EXAMPLE_DAY}"},
    "attributes": [_text("user.id", "u-17"), _text("session.id", "s-1"), _text("plan", "pro")],
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
}
_LOGS_EXAMPLE = {
    "resourceLogs": [
        {
            "resource": {
                "attributes": [_text("service.name", "shop"), _text("service.version", "1.2.3")]
            },
            "scopeLogs": [{"scope": {"name": "shop.orders"}, "logRecords": [_RECORD]}],
        }
    ]
}
LOGS = _exporting(
    "Export logs",
    "Log records, each of which becomes an event.",
    _request("OtlpLogs", "resourceLogs", "scopeLogs", "logRecords", LOG_RECORD),
    examples(logs=_LOGS_EXAMPLE),
    _answered("OtlpLogsAnswer", "rejectedLogRecords", "log_records"),
)
_POINT = {"asInt": "12", "attributes": [_text("http.route", "/upload")]}
_METRICS_EXAMPLE = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [_text("service.instance.id", "eu-1")]},
            "scopeMetrics": [
                {
                    "scope": {"name": "shop.orders"},
                    "metrics": [
                        {
                            "name": "requests",
                            "sum": {
                                "aggregationTemporality": 1,
                                "isMonotonic": True,
                                "dataPoints": [_POINT],
                            },
                        }
                    ],
                }
            ],
        }
    ]
}
METRICS = _exporting(
    "Export metrics",
    "Sums, gauges, histograms, exponential histograms and summaries.",
    _request("OtlpMetrics", "resourceMetrics", "scopeMetrics", "metrics", METRIC),
    examples(metrics=_METRICS_EXAMPLE),
    _answered("OtlpMetricsAnswer", "rejectedDataPoints", "data_points"),
)
TRACES = operation(
    "Ingest",
    "Export traces",
    "Not taken: an exporter is told so, and doesn't try again.",
    {
        **_REFUSALS,
        501: _refused(
            "Always.",
            12,
            "This server takes logs and metrics. Configure no exporter of traces to it.",
            {},
        ),
    },
)
