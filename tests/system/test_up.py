"""`manage.py up`, as its user sees it: starts, keeps data, says what is wrong, stops cleanly."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from http.cookies import SimpleCookie
from uuid import uuid4

import psutil
import pytest

from tests.harness import ROOT, Answer, Service, data_folder, free_port, wait_for

CREDENTIALS = re.compile(r"user +(\S+)\n.*password +(\S+)")
STOP_SECONDS = 30


class Restarted(Service):
    """A service that is started more than once: what an ended run leaves open is closed."""

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            super()._read()


@pytest.fixture(scope="module")
def own() -> Iterator[Service]:
    """A service on a new folder; the tests of this module start and stop it."""
    service = Restarted(data_folder())
    try:
        yield service.start()
    finally:
        service.remove()


def up(service: Service, *words: str) -> "subprocess.CompletedProcess[str]":
    """Another `up` on the same folder, that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "manage.py", "up", *words],
        cwd=ROOT,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def tree(service: Service) -> list[psutil.Process]:
    root = psutil.Process(service.process.pid)
    return [root, *root.children(recursive=True)]


def check_sentence(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """Fail unless it ended with a sentence that has these words."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


# --- while it runs ---


def test_it_runs_every_kind_of_process(own: Service) -> None:
    for role in ("web", "ingest", "default", "beat", "postgres", "redis"):
        assert own.processes(role), role


def test_nothing_listens_but_the_web_server_on_loopback(own: Service) -> None:
    listening = set()
    for process in tree(own):
        with suppress(psutil.NoSuchProcess):  # PostgreSQL's come and go
            listening |= {
                (found.laddr.ip, found.laddr.port)
                for found in process.net_connections("inet")
                if found.status == psutil.CONN_LISTEN or found.type == socket.SOCK_DGRAM
            }
    assert listening == {("127.0.0.1", own.port)}


def test_no_process_shows_a_secret_on_its_command_line(own: Service) -> None:
    secrets = json.loads((own.data_dir / "secrets.json").read_text()).values()
    shown = []
    for process in tree(own):
        with suppress(psutil.NoSuchProcess):
            shown.append(" ".join(process.cmdline()))
    assert not [line for line in shown if any(secret in line for secret in secrets)]


def test_no_secret_is_printed(own: Service) -> None:
    secrets = json.loads((own.data_dir / "secrets.json").read_text()).values()
    assert not [secret for secret in secrets if secret in own.output]


def test_the_servers_folders_are_closed_to_other_users(own: Service) -> None:
    for name in ("postgres", "redis", "run"):
        home = own.data_dir / "servers"
        folder = (home if home.exists() else own.data_dir) / name
        assert folder.stat().st_mode & 0o077 == 0, folder


def test_a_second_one_on_the_same_folder_is_refused_with_a_sentence(own: Service) -> None:
    done = up(own, "--port", str(free_port()))
    check_sentence(done, "already runs", str(own.process.pid), "TELEMETRY_DATA_DIR")
    assert own.request("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--port", "0"), ["--port", "65535"]),
        (("--port", "65536"), ["--port", "65535"]),
        (("--host", "no.such.host.invalid"), ["--host", "no.such.host.invalid"]),
        (("--host", "203.0.113.1"), ["203.0.113.1"]),
    ],
)
def test_where_it_cannot_listen_it_says_so(words: tuple[str, ...], expected: list[str]) -> None:
    service = Service(data_folder())
    try:
        check_sentence(up(service, *words), *expected)
        assert not (service.data_dir / "postgres").exists()
    finally:
        service.remove()


def test_a_port_that_is_taken_is_refused_with_a_sentence(own: Service) -> None:
    service = Service(data_folder())
    try:
        check_sentence(up(service, "--port", str(own.port)), str(own.port), "--port")
        assert not (service.data_dir / "postgres").exists()
    finally:
        service.remove()


# --- the admin ---


def credentials(service: Service) -> tuple[str, str]:
    found = CREDENTIALS.findall(service.output)
    assert len(found) == 1
    return found[0]


def log_in(service: Service, user: str, password: str) -> tuple[Answer, SimpleCookie]:
    """Fill in the login form; the answer, and the cookies had by then."""
    page = service.request("GET", "/admin/login/")
    assert page.status == 200
    cookies = SimpleCookie(page.headers["set-cookie"])
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    form = urllib.parse.urlencode(
        {"csrfmiddlewaretoken": token[1], "username": user, "password": password, "next": "/admin/"}
    )
    wire = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    sent = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"csrftoken={cookies['csrftoken'].value}",
    }
    wire.request("POST", "/admin/login/", form, sent)
    answer = wire.getresponse()
    for cookie in answer.headers.get_all("Set-Cookie", []):
        cookies.load(cookie)
    told = Answer(answer.status, dict(answer.headers), answer.read().decode())
    wire.close()
    return told, cookies


def test_the_printed_credentials_open_the_admin(own: Service) -> None:
    answer, cookies = log_in(own, *credentials(own))
    assert answer.status == 302
    session = {"Cookie": f"sessionid={cookies['sessionid'].value}"}
    page = own.request("GET", "/admin/", headers=session)
    assert page.status == 200
    assert "Projects" in page.text
    assert cookies["sessionid"]["httponly"]


def test_another_password_does_not(own: Service) -> None:
    answer, cookies = log_in(own, credentials(own)[0], "guess")
    assert answer.status == 200
    assert "sessionid" not in cookies


def test_the_admins_static_files_are_served_and_no_other_file_is(own: Service) -> None:
    page = own.request("GET", "/admin/login/").text
    sheets = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert sheets
    for sheet in sheets:
        assert own.request("GET", sheet).status == 200, sheet
    for path in ("../secrets.json", "%2e%2e/secrets.json", "..%2fsecrets.json", "", "nope.css"):
        assert own.request("GET", f"/static/{path}").status == 404, path


# --- stopped, and started again (these come last: they end what the tests above use) ---


def test_it_stops_cleanly_and_its_next_run_has_the_data(own: Service) -> None:
    before = own.create_project(f"kept {uuid4().hex}")
    user, password = credentials(own)
    for number in (signal.SIGINT, signal.SIGTERM):
        processes = tree(own)
        assert len(processes) > 8
        assert own.stop(number) == 0
        _, alive = psutil.wait_procs(processes, timeout=0)
        assert not alive
        assert own.process.wait(0) == 0
        wait_for(lambda: "ready" in own.output, STOP_SECONDS, "output")
        assert "Traceback" not in own.output
        own.lines.clear()
        own.start()
    assert not CREDENTIALS.search(own.output), "credentials are shown once"
    assert password not in own.output
    assert log_in(own, user, password)[0].status == 302
    key = {"X-API-Key": before.secret_key}
    assert own.request("GET", "/v1/query/accounting", headers=key).status == 200
