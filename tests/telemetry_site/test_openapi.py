"""The OpenAPI document: complete, valid, and true in its examples; the page it is read on."""

import ast
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from jsonschema import Draft202012Validator

from telemetry_site import health
from telemetry_site.document import document
from telemetry_site.openapi import EXAMPLE_DAY
from tests.harness import ROOT, Project, Service
from tests.telemetry_site.test_errors import ROUTES

ASKED = {200, 400, 401, 429, 503}
SENT = ASKED | {413, 415}
# Path -> the statuses it may answer with.
STATUSES = {
    "/v1/events": SENT,
    "/v1/submit": SENT,
    "/v1/metrics": SENT,
    "/api/client-telemetry": SENT - {200} | {204, 403},
    "/api/telemetry/snapshot": SENT,
    "/otlp/v1/logs": SENT | {409},
    "/otlp/v1/metrics": SENT | {409},
    "/otlp/v1/traces": ASKED - {200} | {501},
    "/v1/batches/{batch_id}": ASKED | {404},
    "/v1/query/accounting": ASKED | {403},
    "/v1/query/events": ASKED | {403},
    "/v1/query/metrics": ASKED | {403},
    "/v1/query/nodes": ASKED | {403},
    "/v1/query/daily": ASKED | {403},
    "/v1/telemetry/tokens": SENT | {403},
    "/v1/telemetry/export": SENT | {202, 403},
    "/v1/telemetry/exports/{export_id}": ASKED | {403, 404},
    "/v1/telemetry/exports/{export_id}/download": {200, 400, 404, 409, 410, 429, 503},
    "/v1/telemetry/delete": SENT | {403},
    "/v1/telemetry/delete/status": SENT - {401} | {404},
    "/v1/telemetry/delete/cancel": SENT - {401} | {404, 409},
    "GET /v1/telemetry/consent": ASKED | {403},
    "PUT /v1/telemetry/consent": SENT | {403, 409},
    "/v1/ping": {200, 400},
    "/v1/submit/ping": {200, 400},
    "/v1/info": {200, 400},
    "/healthz": {200},
    "/readyz": {200, 503},
    "/metrics": {200, 400, 401, 403},
}
# What tells clients a code -> which of its arguments that is.
TELLS = {
    "MalformedBatch": 0, "InvalidRecord": 0, "Rejection": 1, "error_response": 1, "one_of": 3,
    "UnreadableBody": 1, "NotFound": 1, "refuse": 2,
}  # fmt: skip
# Answers to no operation: a defect, and what Django refuses. Exporters are told no code of ours.
BESIDE = {
    *("internal_error", "forbidden"),
    *("malformed_protobuf", "no_value", "traces_not_taken", "loop"),
}
# Of these there is no example that could be read.
COMPRESSED = {"application/gzip", "application/x-protobuf"}


def made(day: date) -> dict[str, Any]:
    """The document as it is read on the day after `day`."""
    content: dict[str, Any] = json.loads(document(day))
    return content


DOCUMENT = made(datetime.now(UTC).date() - timedelta(days=1))
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the document, or what it refers to."""
    if "$ref" not in part:
        return part
    _, kind, name = part["$ref"].rsplit("/", 2)
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that is sent or answered, by where it stands in the document."""
    for name, operation in OPERATIONS.items():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if media_type not in COMPRESSED:
                yield f"{name} {media_type}", content
        for status, answer in operation["responses"].items():
            for media_type, content in resolved(answer).get("content", {}).items():
                if media_type not in COMPRESSED:
                    yield f"{name} {status}", content


CONTENTS = dict(contents())


# --- complete ---


def test_the_document_is_valid_and_nothing_in_it_was_guessed() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=StringIO())
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_route_is_described_with_every_method() -> None:
    routes = {
        "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", route): {m.lower() for m in methods - {"HEAD"}}
        for route, (_, methods) in ROUTES.items()
        if not route.startswith("api/schema/")
    }
    assert {path: operations.keys() for path, operations in DOCUMENT["paths"].items()} == routes


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_is(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}


def test_each_operation_has_an_id_of_its_own() -> None:
    assert len({operation["operationId"] for operation in OPERATIONS.values()}) == len(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_status_that_there_may_be_is_described(name: str) -> None:
    expected = STATUSES.get(name) or STATUSES[name.partition(" ")[2]]
    assert {int(status) for status in OPERATIONS[name]["responses"]} == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_headers_of_answers_are_described(name: str) -> None:
    for status, answer in OPERATIONS[name]["responses"].items():
        headers = resolved(answer)["headers"]
        assert "X-Request-ID" in headers
        # What is being fetched is free again soon; other conflicts don't end by waiting.
        passes = status in {"429", "503"} or (status == "409" and name.endswith("/download"))
        assert ("Retry-After" in headers) == passes
        assert ("WWW-Authenticate" in headers) == (status == "401")
        if status in {"200", "204"}:
            limited = "Limits: " in OPERATIONS[name]["description"]
            assert ({"RateLimit", "RateLimit-Policy"} <= headers.keys()) == limited


@pytest.mark.parametrize("name", OPERATIONS)
def test_who_needs_a_key_says_where_to_put_it(name: str) -> None:
    operation = OPERATIONS[name]
    ways = {scheme for way in operation["security"] for scheme in way}
    assert ways <= DOCUMENT["components"]["securitySchemes"].keys()
    asks = {"apiKey", "bearer"} <= ways or ways == {"metricsToken"}
    assert asks == ("401" in operation["responses"])
    assert ("urlKey" in ways) == (operation["tags"] == ["Ingest"])


def told(call: ast.Call) -> list[ast.expr]:
    """What in a call may be a code that clients are told."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    place = TELLS.get(name)
    given = call.args[place : place + 1] if place is not None else []
    return given + [keyword.value for keyword in call.keywords if keyword.arg == "code"]


def test_every_code_that_clients_are_told_has_an_example() -> None:
    codes = {
        argument.value
        for app in ("ingest", "privacy", "aggregation", "telemetry_site")
        for file in (ROOT / app).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for argument in told(node)
        if isinstance(argument, ast.Constant)
    }
    assert codes > {"missing_field", "invalid_level", "wrong_scope", "unknown_batch"}
    shown = {
        example["value"]["code"]
        for content in CONTENTS.values()
        for example in content["examples"].values()
        if "code" in example["value"]
    }
    assert codes - BESIDE <= shown


def test_limits_are_the_settings_own() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["NativeBatch"]["properties"]["events"]["maxItems"] == settings.MAX_BATCH_EVENTS
    name = schemas["NativeEvent"]["properties"]["event"]
    assert name["maxLength"] == settings.MAX_NAME_LENGTH
    assert f"`submit.user` {settings.RATE_LIMITS['submit.user']}" in DOCUMENT["info"]["description"]


# --- true ---


@pytest.mark.parametrize("where", CONTENTS)
def test_a_body_has_examples_and_they_keep_to_its_schema(where: str) -> None:
    content = CONTENTS[where]
    schema = {"components": DOCUMENT["components"], **content["schema"]}
    assert content["examples"]
    for example in content["examples"].values():
        Draft202012Validator(schema).validate(example["value"])


POSTED = [
    (path, media_type, shown)
    for path, operations in DOCUMENT["paths"].items()
    for media_type in operations.get("post", {}).get("requestBody", {}).get("content", {})
    if media_type != "application/x-protobuf"
    for shown in operations["post"]["requestBody"]["content"]["application/json"]["examples"]
]


@pytest.mark.parametrize(("path", "media_type", "shown"), POSTED)
def test_an_example_can_be_sent_as_it_stands(
    service: Service, project: Project, path: str, media_type: str, shown: str
) -> None:
    operation = OPERATIONS[f"POST {path}"]
    example = operation["requestBody"]["content"]["application/json"]["examples"][shown]["value"]
    body = json.dumps(example).encode()
    if media_type == "application/gzip":
        body = gzip.compress(body)
    sent = operation["tags"] == ["Ingest"]
    key = project.ingest_key if sent else project.secret_key
    answer = service.request("POST", path, body, {"X-API-Key": key, "Content-Type": media_type})
    if "deletion_token" in example:
        assert answer.json["code"] == "unknown_token"
        return
    # What is asked for may be answered later.
    good = {int(status) for status in operation["responses"] if status.startswith("2")}
    assert answer.status in good, answer.text
    if sent and answer.status == 200:
        assert answer.json == {} if path.startswith("/otlp/") else answer.json["rejected"] == 0


def test_examples_do_not_age() -> None:
    text = json.dumps(made(date(2031, 1, 2)))
    assert "2031-01-02T10:30:00Z" in text
    assert EXAMPLE_DAY not in text


def test_each_check_of_readyz_is_shown() -> None:
    examples = CONTENTS["GET /readyz 200"]["examples"].values()
    assert [list(example["value"]["checks"]) for example in examples] == [list(health.CHECKS)]


# --- served ---


def test_the_document_is_served_to_anybody(service: Service) -> None:
    answer = service.request("GET", "/api/schema/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == DOCUMENT


def test_the_page_fetches_nothing_from_elsewhere(service: Service) -> None:
    page = service.request("GET", "/api/schema/docs/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "//" not in page.text
    addresses = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    assert len(addresses) == 5
    for address in addresses:
        assert service.request("HEAD", address).status == 200


def test_swagger_ui_validates_nothing_elsewhere(service: Service) -> None:
    """By itself it shows a picture that validator.swagger.io makes of the document's address."""
    assert "validatorUrl: null" in service.request("GET", "/static/telemetry_site/openapi.js").text


def test_a_process_that_serves_no_document_does_without_what_makes_it() -> None:
    program = (
        "import django, sys; django.setup(); import telemetry_site.urls; "
        "sys.exit('drf_spectacular.openapi' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
