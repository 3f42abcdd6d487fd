"""Every request has an id, and one line in the access log that gives nobody away."""

import json
import re
from typing import Any
from uuid import uuid4

import pytest

from telemetry_site.middleware import _printable
from tests.harness import Answer, Project, Service, wait_for
from tests.logs import entries

MADE = re.compile(r"[0-9a-f]{32}")
TAKEN = ("a", "A-9", "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11", "x" * 64)
NOT_TAKEN = ("", "x" * 65, "a b", "a_b", "a\tb", "a%0ab", "a;b", "id=forged 200", "\xe9", "-é-")
LOG_SECONDS = 10


def ask(service: Service, path: str = "/v1/ping", **headers: str) -> Answer:
    return service.request("GET", path, headers=headers)


def access_line(service: Service, request_id: str) -> dict[str, Any]:
    """The line of the access log of the request with this id."""

    def find() -> dict[str, Any] | None:
        return next(entries(service, logger="telemetry.access", request_id=request_id), None)

    line: dict[str, Any] = wait_for(find, LOG_SECONDS, f"a line of the access log for {request_id}")
    return line


@pytest.mark.parametrize("given", TAKEN)
def test_an_id_of_the_callers_is_taken_and_echoed(service: Service, given: str) -> None:
    assert ask(service, **{"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", NOT_TAKEN)
def test_anything_else_gets_an_id_made(service: Service, given: str) -> None:
    made = ask(service, **{"X-Request-ID": given}).headers["x-request-id"]
    assert MADE.fullmatch(made)


def test_each_request_has_another_id(service: Service) -> None:
    assert len({ask(service).headers["x-request-id"] for _ in range(10)}) == 10


@pytest.mark.parametrize("path", ["/nothing", "/v1/events", "/admin/", "/healthz"])
def test_every_answer_has_one(service: Service, path: str) -> None:
    assert ask(service, path).headers["x-request-id"]


def test_it_is_in_the_access_log_and_in_the_ledger(service: Service, project: Project) -> None:
    request_id = uuid4().hex
    headers = {
        "X-Request-ID": request_id,
        "X-API-Key": project.ingest_key,
        "Content-Type": "application/json",
    }
    assert service.request("POST", "/v1/events", b"[]", headers).status == 400
    line = access_line(service, request_id)
    assert re.fullmatch(r"POST /v1/events 400 \d+\.\d ms", line["message"])
    assert (line["level"], line["process"]) == ("INFO", "web")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/events", 400)
    with service.database() as connection:
        query = "SELECT error FROM ingest_batch WHERE request_id = %s"
        assert connection.execute(query, [request_id]).fetchone() == ("no_events",)


def test_the_access_log_has_no_query_no_key_and_no_user(service: Service, project: Project) -> None:
    request_id, secret = uuid4().hex, uuid4().hex
    body = json.dumps({"events": [], "user_id": f"body-{secret}"}).encode()
    path = f"/v1/events?key=query-{secret}"
    headers = {
        "X-Request-ID": request_id,
        "X-API-Key": project.ingest_key,
        "X-User-ID": f"user-{secret}",
        "X-Client-Version": f"version-{secret}",
        "Referer": f"http://referer/{secret}",
        "User-Agent": f"agent-{secret}",
        "Cookie": f"c={secret}",
    }
    service.request("POST", path, body, headers)
    access_line(service, request_id)
    assert secret not in service.output
    assert project.ingest_key not in service.output


@pytest.mark.parametrize("newline", ["%0a", "%0d", "%0d%0a", "%c2%85", "%e2%80%a8", "%1b[2K"])
def test_a_path_forges_no_line_of_the_log(service: Service, newline: str) -> None:
    request_id, mark = uuid4().hex, uuid4().hex
    ask(service, f"/x{newline}{mark}", **{"X-Request-ID": request_id})
    assert f"{mark} 404" in access_line(service, request_id)["message"]
    lines = [line for line in service.lines if mark in line]
    assert len(lines) == 1
    assert lines[0].isprintable()


def test_a_long_path_is_cut_in_the_log(service: Service) -> None:
    request_id = uuid4().hex
    ask(service, "/" + "x" * 5000, **{"X-Request-ID": request_id})
    assert len(access_line(service, request_id)["path"]) == 200


def test_what_is_printed_of_a_path_is_one_printable_line() -> None:
    for code in [*range(0x100), 0x2028, 0x2029, 0xD800, 0x1F600]:
        assert _printable(f"/a{chr(code)}b").isprintable(), hex(code)
        assert len(_printable(f"/a{chr(code)}b").splitlines()) == 1
