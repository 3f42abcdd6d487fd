"""A web page of a project's origin, in a browser: what it sends arrives; what others send, not."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page

from tests.harness import Project, Service, wait_for

PAGE = b"<!doctype html><title>A page that sends</title>"
STORING_SECONDS = 30

BEACON = """([url, body]) => navigator.sendBeacon(url, body)"""
FETCH = """async ([url, body]) => {
    try {
        const answer = await fetch(url, {method: "POST", body, keepalive: true,
            credentials: "include", headers: {"Content-Type": "application/json"}});
        return {status: answer.status, limit: answer.headers.get("RateLimit"),
                text: await answer.text()};
    } catch (error) { return {status: 0}; }
}"""


class Handler(http.server.BaseHTTPRequestHandler):
    """The web server of somebody's product."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page lives: another origin than the service's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def allow(project: Project, *origins: str, keyless: bool = False) -> None:
    from ingest.models import Project as Row

    row = Row.objects.get(slug=project.project)
    row.origins, row.keyless_browsers = list(origins), keyless
    row.save()


def body(message: str) -> str:
    event = {
        "level": "error",
        "scope": "checkout",
        "sessionId": f"s-{uuid4().hex}",
        "message": message,
        "timestamp": "2026-01-01T00:00:00Z",
        "context": {"action": "open", "userId": "user-123"},
    }
    from tests.ingest.sending import moment

    return json.dumps({"events": [event | {"timestamp": moment()}]})


def stored(project: Project) -> list[str]:
    """The messages of a project's events."""
    from ingest.models import Event

    return list(
        Event.objects.filter(project__slug=project.project).values_list("message", flat=True)
    )


def address(service: Service, project: Project) -> str:
    return f"{service.url}/api/client-telemetry?key={project.ingest_key}"


def test_beacon_of_a_listed_origin_is_stored(
    service: Service, project: Project, origin: str, page: Page
) -> None:
    allow(project, origin)
    page.goto(origin)
    assert page.evaluate(BEACON, [address(service, project), body("sent by a beacon")])
    wait_for(lambda: stored(project) == ["sent by a beacon"], STORING_SECONDS, "the beacon's event")


def test_beacon_sent_while_the_page_is_left_is_stored(
    service: Service, project: Project, origin: str, page: Page
) -> None:
    allow(project, origin)
    page.goto(origin)
    page.evaluate(
        f"([url, body]) => addEventListener('pagehide', () => ({BEACON})([url, body]))",
        [address(service, project), body("sent at the end")],
    )
    page.goto("about:blank")
    wait_for(lambda: stored(project) == ["sent at the end"], STORING_SECONDS, "the last event")


def test_fetch_is_preflighted_answered_and_told_its_limit(
    service: Service, project: Project, origin: str, page: Page
) -> None:
    allow(project, origin)
    page.goto(origin)
    answer = page.evaluate(FETCH, [address(service, project), body("sent by fetch")])
    assert answer["status"] == 204, answer
    assert answer["limit"].startswith('"browser.ip";r=')
    wait_for(lambda: stored(project) == ["sent by fetch"], STORING_SECONDS, "fetch's event")


def test_page_of_another_origin_is_neither_answered_nor_heard(
    service: Service, project: Project, origin: str, page: Page
) -> None:
    allow(project, origin)
    page.goto(origin.replace("127.0.0.1", "localhost"))
    url = address(service, project)
    assert page.evaluate(FETCH, [url, body("not ours")]) == {"status": 0}
    with page.expect_request_finished() as sent:
        page.evaluate(BEACON, [url, body("not ours either")])
    assert sent.value.response().status == 403
    assert stored(project) == []


def test_page_needs_no_key_where_its_project_says_so(
    service: Service, project: Project, origin: str, page: Page
) -> None:
    allow(project, origin, keyless=True)
    page.goto(origin)
    url = f"{service.url}/api/client-telemetry"
    try:
        assert page.evaluate(FETCH, [url, body("without a key")])["status"] == 204
    finally:
        allow(project)  # the origin is the module's: another project's keyless page would clash
    wait_for(lambda: stored(project) == ["without a key"], STORING_SECONDS, "the keyless event")
