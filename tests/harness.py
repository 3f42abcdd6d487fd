"""The real service in a folder and on a port of its own, as a user would start it.

Imports nothing of the project: what the tests know of it they learn as anybody could.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90
STOP_SECONDS = 90
DEMO_SECONDS = 90

# Servers of somebody else's that a test mustn't touch.
SERVERS = (
    *("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_REPLICA_URL"),
    *("REDIS_URL", "TELEMETRY_BROKER_URL"),
)

# A limit that refuses would be tested in place of the thing itself. Raised, not switched off; the
# tests of the limits lower their own project's.
RAISED = {
    f"TELEMETRY_RATE_{rule}": "1000000/m"
    for rule in (
        "EVENTS_USER", "EVENTS_IP", "BROWSER_IP", "SNAPSHOT_NODE", "SUBMIT_USER", "METRICS_KEY",
        "PRIVACY_SUBJECT", "DOWNLOAD_IP", "QUERY_KEY", "OTLP_KEY",
    )
}  # fmt: skip

# What the command line of each kind of process contains.
ROLES = {
    "web": "granian",
    "ingest": "worker -Q ingest",
    "default": "worker -Q default",
    "privacy": "worker -Q privacy",
    "rollup": "worker -Q rollup",
    "forward": "worker -Q forward",
    "beat": " beat ",
    "postgres": "bin/postgres -D",
    "redis": "redis-server",
}


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def data_folder() -> Path:
    """A new folder with a short path, that the embedded servers' user can reach too."""
    folder = Path(tempfile.mkdtemp(prefix="telemetry-test-"))
    folder.chmod(0o755)
    return folder


@dataclass(frozen=True)
class Project:
    """What `create_project --json` prints."""

    project: str
    ingest_key: str
    secret_key: str
    signing_secret: str


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body decoded where it is JSON."""

    status: int
    headers: dict[str, str]
    text: str
    content: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Service:
    """`manage.py up` and everything below it."""

    def __init__(self, data_dir: Path | None = None, **environment: str) -> None:
        self.data_dir = data_dir or data_folder()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in SERVERS},
            "TELEMETRY_DATA_DIR": str(self.data_dir),
            **RAISED,
            **environment,
        }
        self.lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> str:
        """All that `up` has printed so far."""
        return "\n".join(self.lines)

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "not started"
        return self._process

    def start(self, *words: str) -> "Service":
        """Start it, with these words for `up`, and wait until it says that it is ready."""
        self.lines.clear()
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(self.port), *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(
            lambda: f"ready {self.url}" in self.lines or self.process.poll() is not None,
            START_SECONDS,
            f"up to say ready; it said:\n{self.output}",
        )
        assert self.process.poll() is None, f"up ended:\n{self.output}"
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Stop it as Ctrl-C or a service manager does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(STOP_SECONDS)

    def remove(self) -> None:
        """Stop it if it runs, and delete its data."""
        if self._process is not None:
            self.stop()
        servers = self.data_dir / "servers"
        if servers.is_symlink():
            shutil.rmtree(servers.resolve(), ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def manage(self, *words: str) -> str:
        """The standard output of a `manage.py` command on this service's data."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create_project(self, name: str) -> Project:
        return Project(**json.loads(self.manage("create_project", name, "--json")))

    def processes(self, role: str) -> list[psutil.Process]:
        """The processes of a role, the one that `up` started first, its children behind it."""
        mark = ROLES[role]
        found = []
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if mark in " ".join(process.cmdline()) + " ":
                    found += [process, *process.children(recursive=True)]
        return found

    @property
    def home(self) -> Path:
        """Where the embedded servers keep their data and sockets."""
        servers = self.data_dir / "servers"
        return servers.resolve() if servers.is_symlink() else self.data_dir

    def secret(self, name: str) -> str:
        """One of the instance's secrets."""
        found: str = json.loads((self.data_dir / "secrets.json").read_text())[name]
        return found

    def database(self) -> contextlib.AbstractContextManager[psycopg.Connection[Any]]:
        """A connection as the application's role, in autocommit."""
        return self._connected("telemetry_app", "app_password")

    def superuser(self) -> contextlib.AbstractContextManager[psycopg.Connection[Any]]:
        """A connection that may do anything, in autocommit."""
        return self._connected("postgres", "postgres_password")

    @contextlib.contextmanager
    def _connected(self, user: str, password: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(
            host=str(self.home / "run"),
            dbname="telemetry",
            user=user,
            password=self.secret(password),
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            yield connection

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """One HTTP request on a connection of its own; behind a proxy, from a client of its own."""
        headers = dict(headers or {})
        if self.environment.get("TELEMETRY_TRUSTED_PROXIES"):
            headers.setdefault("X-Forwarded-For", str(IPv4Address(random.randrange(1, 2**32))))
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return _answer(response.status, response)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error)


@contextlib.contextmanager
def demonstrated() -> Iterator[Service]:
    """A service, with the limits it has out of the box, whose demo has come to its end."""
    service = Service()
    for name in RAISED:
        del service.environment[name]
    try:
        service.start("--demo")
        wait_for(lambda: "until Ctrl-C" in service.output, DEMO_SECONDS, "the demo's last line")
        yield service
    finally:
        service.remove()


def _answer(status: int, response: Any) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    content = response.read()
    return Answer(status, headers, content.decode(errors="replace"), content)
