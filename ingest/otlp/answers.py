"""What OpenTelemetry's exporters are told, in protobuf or JSON as their request is.

Refusals are those of every endpoint (`telemetry_site.errors`) in other words: `google.rpc.Status`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from ingest.bodies import content_type_of
from ingest.formats.otlp.frames import JSON, PROTOBUF
from ingest.records import Rejection

PATHS = "/otlp/"
# Why items were rejected is said of so many.
REASONS = 5

# HTTP's status decides what an exporter does; this is the same for a person to read.
_CODES: Mapping[int, "Code.ValueType"] = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    409: Code.FAILED_PRECONDITION,
    413: Code.INVALID_ARGUMENT,
    415: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}


def encoding_of(request: HttpRequest) -> str:
    """How an answer to this request is written."""
    return PROTOBUF if content_type_of(request) == PROTOBUF else JSON


def written(message: Message, encoding: str) -> bytes:
    """A message as a body."""
    if encoding == PROTOBUF:
        return message.SerializeToString()
    return MessageToJson(message, indent=None).encode()


def taken(request: HttpRequest, answer: Message) -> HttpResponse:
    """200."""
    encoding = encoding_of(request)
    return HttpResponse(written(answer, encoding), content_type=encoding)


def reasons(rejections: Sequence[tuple[int, Rejection]], items: str, received: int) -> str:
    """Why items were rejected: the first few by their places in the request."""
    told = [f"{items}[{place}]: {problem.message}" for place, problem in rejections[:REASONS]]
    beyond = ["…"] if len(rejections) > REASONS else []
    return f"{len(rejections)} of {received} rejected; " + "; ".join(told + beyond)


def as_status(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """A refusal in the one shape of errors as exporters read it."""
    problem: Any = msgspec.json.decode(response.content)
    status = Status(code=_CODES.get(response.status_code, Code.UNKNOWN), message=problem["details"])
    if errors := problem.get("errors"):
        bad = BadRequest()
        for error in errors:
            bad.field_violations.add(field=_place(error), description=error["message"])
        status.details.add().Pack(bad)
    if seconds := response.get("Retry-After"):
        wait = RetryInfo()
        wait.retry_delay.FromSeconds(int(seconds))
        status.details.add().Pack(wait)
    response["Content-Type"] = encoding_of(request)
    response.content = written(status, response["Content-Type"])
    return response


def _place(error: dict[str, Any]) -> str:
    """Where in the request something is wrong."""
    index = f"[{error['index']}]" if "index" in error else ""
    return ".".join(filter(None, (index, error.get("field"))))
