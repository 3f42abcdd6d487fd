"""`manage.py up`: the whole service in the foreground, until Ctrl-C.

Starts what it needs (its own PostgreSQL and Redis unless told of others), brings the database up to
date, runs the web server, the workers and beat, restarts what dies, and stops it all in order.
"""

import contextlib
import fcntl
import http.client
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, IntegrityError, OperationalError, connections

from telemetry_site import embedded, programs, servers
from telemetry_site.backlog import BacklogWatch
from telemetry_site.console import Console
from telemetry_site.supervisor import StopRequested, Supervisor

EXTERNAL_SECONDS = 30.0  # how long to wait for a database of somebody else's
PREDECESSOR_SECONDS = 20.0  # how long the processes of a killed run may hold its port
READY_SECONDS = 60.0
RESTART_GRACE = 10.0
ADMIN = "admin"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


class Command(BaseCommand):
    """Run the service."""

    help = "Run the service: databases, web server, workers and beat, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", default=8000, type=int, help="port to listen on")
        parser.add_argument("--demo", action="store_true", help="let a simulated fleet send")

    def handle(self, *args: object, host: str, port: int, demo: bool, **options: object) -> None:
        """Run until told to stop. Raises CommandError with a sentence when it can't start."""
        with _locked(settings.DATA_DIR / "up.lock") as predecessor_was_killed:
            _check_port(host, port, PREDECESSOR_SECONDS if predecessor_was_killed else 0.0)
            log_format = _log_format()
            os.environ["TELEMETRY_LOG_FORMAT"] = log_format  # our children write to us
            supervisor = Supervisor(Console(sys.stdout, json=log_format == "json"))
            supervisor.listen_for_signals()
            try:
                _start(supervisor, host, port)
                supervisor.console.plain(f"ready {_url(host, port)}")
                if demo:
                    url = _url(ANY_ADDRESS.get(host, host), port)
                    supervisor.start(programs.demo(url), keep=False)
                _serve(supervisor)
            except StopRequested:
                supervisor.say("stopping; once more to hurry.")
            except embedded.EmbeddedError as error:
                raise CommandError(str(error)) from None
            finally:
                _stop(supervisor)


# --- before anything is started ---


def _log_format() -> str:
    """Plain for a terminal to show, JSON for whatever else reads our output."""
    if os.environ.get("TELEMETRY_LOG_FORMAT", "auto") != "auto":
        return settings.LOG_FORMAT
    return "plain" if sys.stdout.isatty() else "json"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the data folder. True if its last holder was killed: it left its number behind."""
    try:
        file = path.open("a+")
    except OSError as error:
        raise CommandError(f"The data folder can't be written: {error}.") from None
    with file:
        file.seek(0)
        holder = file.read().strip()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"The service already runs on {path.parent} (process {holder or 'unknown'}). "
                "Stop that one first, or choose another TELEMETRY_DATA_DIR."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield bool(holder)
        file.truncate(0)


def _check_port(host: str, port: int, patience: float) -> None:
    """Refuse to start where the web server couldn't listen."""
    if not 1 <= port <= 65535:
        raise CommandError(f"--port must be from 1 to 65535, not {port}.")
    deadline = time.monotonic() + patience
    while True:
        try:
            _listen_for_a_moment(host, port)
        except socket.gaierror:
            raise CommandError(f"--host {host!r} is no address of this machine.") from None
        except OSError as error:
            if time.monotonic() >= deadline:
                raise CommandError(
                    f"Can't listen on {host} port {port}: {error.strerror}. "
                    "Choose another with --port (make run PORT=8123)."
                ) from None
        else:
            return
        time.sleep(0.2)


def _listen_for_a_moment(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)


# --- start ---


def _start(supervisor: Supervisor, host: str, port: int) -> None:
    _empty_metrics()
    _start_databases(supervisor)
    if supervisor.run(programs.migrate()):
        raise CommandError("The database couldn't be brought up to date; see above.")
    with supervisor.interruptible():
        _set_up()
        password = _create_first_admin()
    if password:
        _show_admin(supervisor, _url(host, port), password)
    supervisor.start(programs.web(host, port))
    for queue in programs.WORKERS:
        supervisor.start(programs.worker(queue))
    supervisor.start(programs.beat())
    _wait_for_web(supervisor, host, port)


def _empty_metrics() -> None:
    """What was counted before is over: to Prometheus a counter may start anew."""
    try:
        shutil.rmtree(settings.METRICS_DIR, ignore_errors=True)
        settings.METRICS_DIR.mkdir()
    except OSError as error:
        raise CommandError(f"The folder of the metrics can't be made: {error}.") from None


def _start_databases(supervisor: Supervisor) -> None:
    if settings.EMBEDDED_POSTGRES or settings.EMBEDDED_REDIS:
        embedded.prepare(settings.EMBEDDED, supervisor.say)
    if settings.EMBEDDED_POSTGRES:
        servers.start_postgres(settings.EMBEDDED, settings.SECRETS, supervisor)
    else:
        _wait_for_database(supervisor)
    if settings.EMBEDDED_REDIS:
        servers.start_redis(settings.EMBEDDED, settings.SECRETS, supervisor)
    elif complaint := _redis_complaint():
        # Not a reason to refuse what comes in: nothing that was accepted rides on Redis.
        supervisor.say(f"Redis can't be reached ({complaint}).")
        supervisor.say("Batches are accepted all the same, and stored when it is back.")


def _wait_for_database(supervisor: Supervisor) -> None:
    """Wait for a PostgreSQL of somebody else's."""
    if complaint := _database_complaint():
        supervisor.say(f"waiting for PostgreSQL: {complaint}")
        if not supervisor.wait(EXTERNAL_SECONDS, lambda: not _database_complaint(), pause=1.0):
            raise CommandError(f"PostgreSQL can't be used: {_database_complaint()}")


def _database_complaint() -> str:
    """What is wrong with the databases, in a line; empty when nothing is."""
    for connection in connections.all():
        try:
            connection.ensure_connection()
        except OperationalError as error:
            complaint = " ".join(str(error).split())
            if "authentication failed" in complaint or "does not exist" in complaint:
                # Waiting won't mend that.
                raise CommandError(f"PostgreSQL can't be used: {complaint}") from None
            return complaint
    return ""


def _redis_complaint() -> str:
    """What is wrong with Redis, in a line; empty when nothing is."""
    where = urlsplit(settings.REDIS)
    client = redis.Redis.from_url(settings.REDIS, socket_timeout=2, socket_connect_timeout=2)
    with contextlib.closing(client):
        try:
            client.ping()
        except redis.AuthenticationError as error:
            raise CommandError(f"Redis can't be used: {error}") from None
        except redis.RedisError as error:
            return f"{where.hostname or where.path}: {error}"
    return ""


def _set_up() -> None:
    """What the tables and the static files need before the first request."""
    from ingest import partitions

    try:
        partitions.maintain()
        call_command("collectstatic", interactive=False, verbosity=0)
    except (DatabaseError, OSError) as error:
        raise CommandError(f"Setting up failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    # The further lines of a database's complaint quote what is stored.
    return str(error).strip().partition("\n")[0]


def _create_first_admin() -> str:
    """The password of the administrator who was made now, if nobody was there yet."""
    users = get_user_model()._default_manager
    if users.exists():
        return ""
    password = secrets.token_urlsafe(15)
    try:
        users.create_superuser(ADMIN, "", password)
    except IntegrityError:
        return ""  # another machine's first start was quicker
    return password


def _show_admin(supervisor: Supervisor, url: str, password: str) -> None:
    for line in (
        "the first administrator, shown this once:",
        f"    address   {url}/admin/",
        f"    user      {ADMIN}",
        f"    password  {password}",
    ):
        supervisor.console.announce("up", line)


def _wait_for_web(supervisor: Supervisor, host: str, port: int) -> None:
    def settled() -> bool:
        return _healthy(host, port) or supervisor.deaths(programs.WEB) > 0

    if not supervisor.wait(READY_SECONDS, settled):
        raise CommandError(f"The web server doesn't answer on {_url(host, port)}.")
    if supervisor.deaths(programs.WEB):
        raise CommandError("The web server doesn't start; see above.")


def _healthy(host: str, port: int) -> bool:
    client = http.client.HTTPConnection(ANY_ADDRESS.get(host, host), port, timeout=1)
    with contextlib.closing(client):
        try:
            client.request("GET", "/healthz")
            return client.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# --- run, and stop ---


def _serve(supervisor: Supervisor) -> None:
    """Until StopRequested."""
    watch = BacklogWatch()
    while True:
        supervisor.turn()
        if watch.is_stuck():
            supervisor.say("batches wait and the ingest worker takes none; restarting it.")
            supervisor.restart("ingest", RESTART_GRACE)


def _stop(supervisor: Supervisor) -> None:
    """From the front to the back, so that each finds what it needs to finish its work."""
    connections.close_all()
    supervisor.stop(programs.DEMO)
    supervisor.stop(programs.WEB)
    supervisor.stop(programs.BEAT)
    supervisor.stop(*programs.WORKERS)
    supervisor.stop("redis")
    supervisor.stop("postgres")
    supervisor.stop_everything()
