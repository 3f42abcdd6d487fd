"""Everything that is refused is refused in one shape, wherever the refusal comes from."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from google.rpc.code_pb2 import Code

from telemetry_site import errors
from tests.harness import Answer, Project, Service

BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"
EVENT = {"event": "loaded", "timestamp": "2026-11-20T10:30:00Z", "user_id": "u"}
JSON = {"Content-Type": "application/json"}

# Route -> a path of it, and the methods it takes.
ROUTES = {
    "v1/events": ("/v1/events", {"POST"}),
    "v1/batches/<uuid:batch_id>": (f"/v1/batches/{BATCH_ID}", {"GET", "HEAD"}),
    "v1/submit": ("/v1/submit", {"POST"}),
    "v1/submit/ping": ("/v1/submit/ping", {"GET", "HEAD"}),
    "v1/metrics": ("/v1/metrics", {"POST"}),
    "api/client-telemetry": ("/api/client-telemetry", {"POST"}),
    "api/telemetry/snapshot": ("/api/telemetry/snapshot", {"POST"}),
    "otlp/v1/logs": ("/otlp/v1/logs", {"POST"}),
    "otlp/v1/metrics": ("/otlp/v1/metrics", {"POST"}),
    "otlp/v1/traces": ("/otlp/v1/traces", {"POST"}),
    "v1/ping": ("/v1/ping", {"GET", "HEAD"}),
    "v1/info": ("/v1/info", {"GET", "HEAD"}),
    "v1/query/events": ("/v1/query/events", {"GET", "HEAD"}),
    "v1/query/metrics": ("/v1/query/metrics", {"GET", "HEAD"}),
    "v1/query/nodes": ("/v1/query/nodes", {"GET", "HEAD"}),
    "v1/query/daily": ("/v1/query/daily", {"GET", "HEAD"}),
    "v1/query/accounting": ("/v1/query/accounting", {"GET", "HEAD"}),
    "v1/telemetry/tokens": ("/v1/telemetry/tokens", {"POST"}),
    "v1/telemetry/export": ("/v1/telemetry/export", {"POST"}),
    "v1/telemetry/exports/<uuid:export_id>": (
        f"/v1/telemetry/exports/{BATCH_ID}",
        {"GET", "HEAD"},
    ),
    "v1/telemetry/exports/<uuid:export_id>/download": (
        f"/v1/telemetry/exports/{BATCH_ID}/download",
        {"GET", "HEAD"},
    ),
    "v1/telemetry/delete": ("/v1/telemetry/delete", {"POST"}),
    "v1/telemetry/delete/status": ("/v1/telemetry/delete/status", {"POST"}),
    "v1/telemetry/delete/cancel": ("/v1/telemetry/delete/cancel", {"POST"}),
    "v1/telemetry/consent": ("/v1/telemetry/consent", {"GET", "HEAD", "PUT"}),
    "healthz": ("/healthz", {"GET", "HEAD"}),
    "readyz": ("/readyz", {"GET", "HEAD"}),
    "metrics": ("/metrics", {"GET", "HEAD"}),
    "api/schema/": ("/api/schema/", {"GET", "HEAD"}),
    "api/schema/export/": ("/api/schema/export/", {"GET", "HEAD"}),
    "api/schema/docs/": ("/api/schema/docs/", {"GET", "HEAD"}),
}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")

# Method, path, which key, further headers, body -> status and code.
REFUSALS = [
    ("POST", "/v1/events", "ingest_key", {}, b"{", 400, "malformed_json"),
    ("POST", "/v1/events", "ingest_key", {}, b"", 400, "empty_body"),
    ("POST", "/v1/events", "ingest_key", {}, b'[{"event": "e"}]', 400, "missing_field"),
    ("POST", "/v1/events", "ingest_key", {"Idempotency-Key": "x"}, b"[]", 400, "invalid_batch_id"),
    ("POST", "/v1/events", "ingest_key", {"X-User-ID": "u" * 300}, b"[]", 400, "too_long"),
    ("POST", "/v1/events", None, {}, b"[]", 401, "missing_key"),
    ("POST", "/v1/events", None, {"X-API-Key": ""}, b"[]", 401, "missing_key"),
    # The web server drops a header that isn't ASCII.
    ("POST", "/v1/events", None, {"X-API-Key": "\xe9_\xff_\xfe"}, b"[]", 401, "missing_key"),
    ("POST", "/v1/events", None, {"X-API-Key": "k" * 4000}, b"[]", 401, "invalid_key"),
    ("POST", "/v1/events", None, {"Authorization": "Bearer x"}, b"[]", 401, "invalid_key"),
    ("GET", f"/v1/batches/{BATCH_ID}", None, {}, None, 401, "missing_key"),
    ("GET", "/v1/query/accounting", None, {}, None, 401, "missing_key"),
    ("GET", "/v1/query/accounting", "ingest_key", {}, None, 403, "wrong_scope"),
    ("GET", f"/v1/batches/{BATCH_ID}", "ingest_key", {}, None, 404, "unknown_batch"),
    ("POST", "/v1/telemetry/export", None, {}, b"{}", 401, "missing_token"),
    ("POST", "/v1/telemetry/export", "ingest_key", {}, b"{}", 403, "wrong_scope"),
    ("POST", "/v1/telemetry/export", "secret_key", {}, b"{}", 400, "missing_field"),
    ("GET", f"/v1/telemetry/exports/{BATCH_ID}", None, {}, None, 401, "missing_token"),
    ("GET", f"/v1/telemetry/exports/{BATCH_ID}", "ingest_key", {}, None, 403, "wrong_scope"),
    ("GET", f"/v1/telemetry/exports/{BATCH_ID}", "secret_key", {}, None, 404, "unknown_export"),
    (
        "GET", f"/v1/telemetry/exports/{BATCH_ID}/download", "secret_key", {}, None,
        404, "unknown_export",
    ),
    ("GET", "/v1/batches/17", "ingest_key", {}, None, 404, "not_found"),
    ("GET", "/", None, {}, None, 404, "not_found"),
    ("GET", "/nothing/here", None, {}, None, 404, "not_found"),
    ("POST", "/nothing/here", None, {}, b"[]", 404, "not_found"),
    ("GET", "/v1/ping/", None, {}, None, 404, "not_found"),
    ("GET", "/%00%0a%ff", None, {}, None, 404, "not_found"),
    ("GET", "/" + "a" * 5000, None, {}, None, 404, "not_found"),
    ("DELETE", "/v1/events", "ingest_key", {}, None, 405, "method_not_allowed"),
    ("POST", "/v1/events", "ingest_key", {}, b" " * (1024**2 + 1), 413, "too_large"),
    ("POST", "/v1/events", "ingest_key", {}, b"[" + b"0," * 1000 + b"0]", 413, "too_many_events"),
    (
        "POST", "/v1/events", "ingest_key", {"Content-Type": "text/xml"}, b"",
        415, "unsupported_type",
    ),
    (
        "POST", "/v1/events", "ingest_key", {"Content-Encoding": "gzip, br"}, b"[]",
        415, "unsupported_encoding",
    ),
    (
        "GET", "/v1/query/accounting?from=yesterday", "secret_key", {}, None,
        400, "invalid_timestamp",
    ),
    (
        "GET", "/v1/query/accounting?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "secret_key", {}, None, 400, "invalid_range",
    ),
    ("GET", "/admin/login/", None, {"Host": "evil.example"}, None, 400, "bad_request"),
    ("GET", "/admin/login/", None, {"Host": "a b\\c"}, None, 400, "bad_request"),
]  # fmt: skip

ACCEPTS = ("text/html", "application/xml", "image/png;q=1", "*/*;q=0", "nonsense", "", ",;,")

# What the code raises -> what the client is told.
DATABASE_TROUBLE = [
    OperationalError("connection refused"),
    InterfaceError("connection already closed"),
    psycopg.OperationalError("server closed the connection"),
    psycopg.errors.QueryCanceled("statement timeout"),
    psycopg.errors.DiskFull("no space left"),
    psycopg.errors.AdminShutdown("terminating connection"),
]


def check_shape(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Fail unless this is the one shape of errors; the body."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json
    assert body.keys() <= {"error", "code", "details", "errors"}
    assert [type(body[name]) for name in ("error", "code", "details")] == [str, str, str]
    assert body["error"] == errors.TITLES[status]
    assert body["code"] == code
    assert body["details"]
    assert len(body.get("errors", [])) <= errors.MOST_ERRORS
    for problem in body.get("errors", []):
        assert problem.keys() <= {"index", "field", "code", "message"}
        assert {"code", "message"} <= problem.keys()
    return body


@pytest.mark.parametrize(
    ("method", "path", "key", "headers", "body", "status", "code"),
    REFUSALS,
    ids=[f"{r[5]} {r[6]} {r[0]} {r[1][:40]!a}" for r in REFUSALS],
)
def test_a_refusal_has_the_one_shape(
    service: Service,
    project: Project,
    method: str,
    path: str,
    key: str | None,
    headers: dict[str, str],
    body: bytes | None,
    status: int,
    code: str,
) -> None:
    headers = (JSON if body is not None else {}) | headers
    if key:
        headers = {"X-API-Key": getattr(project, key)} | headers
    check_shape(service.request(method, path, body, headers), status, code)


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/events", "/v1/batches/17", "/v1/query/accounting"]
)
def test_a_refusal_is_json_whatever_the_client_accepts(
    service: Service, path: str, accept: str
) -> None:
    answer = service.request("GET", path, headers={"Accept": accept})
    check_shape(answer, answer.status, answer.json["code"])


@pytest.mark.parametrize("accept", ACCEPTS)
def test_a_success_is_json_whatever_the_client_accepts(service: Service, accept: str) -> None:
    answer = service.request("GET", "/v1/info?format=xml", headers={"Accept": accept})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"


def test_a_401_says_how_to_authenticate(service: Service) -> None:
    answer = service.request("POST", "/v1/events", b"[]", JSON)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_at_most_twenty_bad_events_are_listed_each_by_index_and_field(
    service: Service, project: Project
) -> None:
    body = json.dumps([{**EVENT, "timestamp": index} for index in range(30)]).encode()
    answer = service.request("POST", "/v1/events", body, {"X-API-Key": project.ingest_key, **JSON})
    listed = check_shape(answer, 400, "invalid_timestamp")["errors"]
    assert [problem["index"] for problem in listed] == list(range(20))
    assert {problem["field"] for problem in listed} == {"timestamp"}
    assert answer.json["details"].startswith("events[0]: ")


def test_a_refusal_repeats_no_value_that_was_sent(service: Service, project: Project) -> None:
    body = json.dumps([{**EVENT, "timestamp": "alice@example.org", "level": ["s3cret"]}]).encode()
    answer = service.request("POST", "/v1/events", body, {"X-API-Key": project.ingest_key, **JSON})
    assert answer.status == 400
    assert "alice" not in answer.text
    assert "s3cret" not in answer.text


# --- methods ---


def _routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def test_every_route_stands_in_the_table_of_methods() -> None:
    found = {r for r in _routes(get_resolver().url_patterns) if not r.startswith("admin/")}
    assert found == ROUTES.keys()


REFUSED_METHODS = [
    (method, path)
    for path, allowed in ROUTES.values()
    for method in METHODS
    # Who may not read the metrics, as these tests behind a proxy, learns nothing of them.
    if method not in allowed and path != "/metrics"
]


@pytest.mark.parametrize(("method", "path"), REFUSED_METHODS)
def test_another_method_is_refused_and_told_which_there_are(
    service: Service, project: Project, method: str, path: str
) -> None:
    answer = service.request(method, path, headers={"X-API-Key": project.secret_key})
    allowed = next(allowed for route, allowed in ROUTES.values() if route == path)
    if method == "HEAD":
        assert (answer.status, answer.text) == (405, "")
    elif path.startswith("/otlp/") and method != "OPTIONS":
        assert (answer.status, answer.json["code"]) == (405, Code.UNIMPLEMENTED)
    elif method != "OPTIONS" or answer.status != 200:
        check_shape(answer, 405, "method_not_allowed")
    assert allowed <= set(answer.headers["allow"].split(", ")) <= allowed | {"OPTIONS"}


def test_what_allow_lists_is_allowed(service: Service, project: Project) -> None:
    headers = {"X-API-Key": project.secret_key}
    for path, _ in ROUTES.values():
        allow = service.request("TRACE", path, headers=headers).headers["allow"]
        for method in allow.split(", "):
            status = service.request(method, path, headers=headers).status
            assert status != 405, f"{method} {path}: Allow: {allow}"


@pytest.mark.parametrize("path", [path for path, allowed in ROUTES.values() if "GET" in allowed])
def test_head_answers_as_get_does_without_a_body(
    service: Service, project: Project, path: str
) -> None:
    headers = {"X-API-Key": project.secret_key}
    head, get = (service.request(method, path, headers=headers) for method in ("HEAD", "GET"))
    assert (head.status, head.text) == (get.status, "")
    assert head.headers["content-type"] == get.headers["content-type"]


# --- what is no fault of the client's ---


def _post_while_accept_raises(
    monkeypatch: pytest.MonkeyPatch, project: Project, error: Exception
) -> Any:
    def accept(*args: object) -> None:
        raise error

    monkeypatch.setattr("ingest.intake.accept", accept)
    body = json.dumps(EVENT)
    return Client(raise_request_exception=False).post(
        "/v1/events", body, "application/json", headers={"X-API-Key": project.ingest_key}
    )


def test_a_defect_is_a_500_that_tells_nothing_of_it_but_the_log_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, project: Project
) -> None:
    answer = _post_while_accept_raises(monkeypatch, project, KeyError("inner detail"))
    body = answer.json()
    assert (answer.status_code, body["code"]) == (500, "internal_error")
    assert body.keys() == {"error", "code", "details"}
    assert b"inner detail" not in answer.content
    assert "X-Request-ID" in answer
    assert "inner detail" in caplog.text


@pytest.mark.parametrize("error", DATABASE_TROUBLE, ids=lambda error: type(error).__name__)
def test_a_database_that_does_not_answer_is_a_503_with_a_time_to_come_again(
    monkeypatch: pytest.MonkeyPatch, project: Project, error: Exception
) -> None:
    answer = _post_while_accept_raises(monkeypatch, project, error)
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert int(answer["Retry-After"]) >= 1
    assert str(error) not in answer.content.decode()


@pytest.mark.parametrize(
    "error", [psycopg.errors.UniqueViolation(), psycopg.errors.UndefinedColumn()]
)
def test_a_statement_of_ours_that_is_wrong_is_a_500(
    monkeypatch: pytest.MonkeyPatch, project: Project, error: Exception
) -> None:
    assert _post_while_accept_raises(monkeypatch, project, error).status_code == 500


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("parameter", ["from", "to"])
@pytest.mark.parametrize("what", ["accounting", "events", "daily"])
def test_the_ends_of_time_are_no_defect(
    service: Service, project: Project, what: str, parameter: str, moment: str
) -> None:
    path = f"/v1/query/{what}?{parameter}={moment}"
    answer = service.request("GET", path, headers={"X-API-Key": project.secret_key})
    assert answer.status in {200, 400}, answer.text


@pytest.mark.parametrize("path", ["/v1/ping", "/v1/events", "/admin/login/", "/nothing"])
def test_another_host_s_name_is_not_answered_to(service: Service, path: str):
    answer = service.request("GET", path, headers={"Host": "evil.example"})
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_load_balancer_may_ask_by_any_name(service: Service, path: str):
    assert service.request("GET", path, headers={"Host": "10.0.0.7"}).status == 200
