"""What schemathesis must know of the service, loaded by its command line (`test_openapi`)."""

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import brotli
import schemathesis
import zstandard
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response, SerializationContext
from schemathesis.generation.meta import TestPhase

COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
# What a schema can't say of a body, and so may be wrong with one that keeps to it.
UNSAYABLE = {
    "duplicate_key",
    "event_too_large",
    "invalid_character",
    "invalid_range",
    "invalid_value",
    "name_too_long",  # inside of a property
    "number_out_of_range",
    "too_costly",
    "too_deep",
    "too_old",
}

NOW = datetime.now(UTC).replace(tzinfo=None)
moments = st.datetimes(NOW - timedelta(days=1), NOW).map(lambda moment: f"{moment.isoformat()}Z")
schemathesis.openapi.format("date-time", moments)

# JavaScript's: whole numbers up to there are written without a point.
MOST_EXACT = 2**53
addresses = map(IPv4Address, itertools.count(2**24))


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Compressed bodies are generated like others; answers have no fields but those described."""
    close_answers(raw_schema)
    # The web server drops a header that isn't ASCII.
    for name in ("X-User-ID", "X-Client-Version"):
        del raw_schema["components"]["parameters"][name]["schema"]["pattern"]
    for body in operations(raw_schema, "requestBody"):
        content = body["content"]
        # A schema says nothing of protobuf.
        content.pop("application/x-protobuf", None)
        if "application/gzip" in content:
            content["application/gzip"]["schema"] = content["application/json"]["schema"]


def close_answers(document: dict[str, Any]) -> None:
    """Let the objects of answers have no fields but those that are described."""
    schemas = document["components"]["schemas"]
    answers = {**document["components"]["responses"], "": [*operations(document, "responses")]}
    pending, seen = [answers], set()
    while pending:
        names = set(re.findall("#/components/schemas/([A-Za-z]+)", json.dumps(pending))) - seen
        pending, seen = [schemas[name] for name in names], seen | names
    for name in seen:
        if "properties" in schemas[name]:
            schemas[name]["additionalProperties"] = False


def operations(document: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """That part of each operation that has it."""
    for path in document["paths"].values():
        for operation in path.values():
            if part in operation:
                yield operation[part]


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Each request comes from an address of its own, or failed authentications would use one up."""
    case.headers["X-Forwarded-For"] = str(next(addresses))


@schemathesis.hook
def filter_case(context: HookContext, case: Case) -> bool:
    """Of the many cases of the coverage phase those in JSON; compressed ones differ in nothing."""
    if case.meta is None or case.meta.phase.name is not TestPhase.COVERAGE:
        return True
    return case.media_type in {None, "application/json"}


@schemathesis.serializer("application/json", "text/plain", "application/gzip")
def serialize(context: SerializationContext, value: Any) -> bytes:
    """JSON, compressed as the headers say."""
    if isinstance(value, bytes):
        return value
    case = context.case
    by_type = "gzip" if case.media_type == "application/gzip" else None
    encoding = case.headers.get("Content-Encoding") or by_type
    return COMPRESS.get(encoding, bytes)(json.dumps(as_javascript_has_it(value)).encode())


def as_javascript_has_it(value: Any) -> Any:
    """The value with whole numbers as integers: to a schema 1.0 is one."""
    if isinstance(value, dict):
        return {name: as_javascript_has_it(part) for name, part in value.items()}
    if isinstance(value, list):
        return [as_javascript_has_it(part) for part in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST_EXACT:
        return int(value)
    return value


@schemathesis.check
def valid_data_is_taken(context: CheckContext, response: Response, case: Case) -> None:
    """What keeps to the schema is refused for nothing but what a schema can't say."""
    if case.meta and case.meta.generation.mode.is_positive and response.status_code == 400:
        body = response.json()
        if case.path.startswith("/otlp/"):
            return  # of a time a schema can't say that it is too old, nor why in a code
        if body["code"] == "missing_field" and "errors" not in body:
            return  # a snapshot without a number: of its fields any may be one
        if case.path == "/v1/telemetry/consent" and case.method == "GET":
            return  # a person with a token needs no header, a server does
        assert body["code"] in UNSAYABLE, body["details"]
