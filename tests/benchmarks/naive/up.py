"""Runs the naive stack on servers of its own, started as the service starts its own."""

import os
import secrets
import socket
import sys
from argparse import ArgumentParser
from pathlib import Path

import django

from telemetry_site import embedded, servers
from telemetry_site.console import Console
from telemetry_site.supervisor import Program, StopRequested, Supervisor

ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    """Start everything, print the key and `ready URL`, and run until told to stop."""
    parser = ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pool", default="prefork")
    arguments = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.naive.settings"
    supervisor = Supervisor(Console(sys.stdout))
    supervisor.listen_for_signals()
    try:
        _start(supervisor, arguments.port, arguments.pool)
        while True:
            supervisor.turn()
    except StopRequested:
        supervisor.say("stopping")
    finally:
        for name in ("web", "ingest", "redis", "postgres"):
            supervisor.stop(name)


def _start(supervisor: Supervisor, port: int, pool: str) -> None:
    django.setup()
    from django.conf import settings

    embedded.prepare(settings.EMBEDDED, supervisor.say)
    servers.start_postgres(settings.EMBEDDED, settings.SECRETS, supervisor)
    servers.start_redis(settings.EMBEDDED, settings.SECRETS, supervisor)
    supervisor.run(_program("migrate", "django", "migrate", "--run-syncdb", "-v", "0"))
    key = _make_key()
    supervisor.start(_web(port))
    supervisor.start(_worker(pool))
    if not supervisor.wait(60, lambda: _listens(port)):
        raise RuntimeError("the web server doesn't answer")
    supervisor.console.plain(f"key {key}")
    supervisor.console.plain(f"ready http://127.0.0.1:{port}")


def _make_key() -> str:
    from django.db import connections

    from tests.benchmarks.naive.models import ApiKey
    from tests.benchmarks.naive.requests import digest_of

    key = secrets.token_urlsafe(32)
    ApiKey.objects.create(project_id=1, digest=digest_of(key))
    connections.close_all()
    return key


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _web(port: int) -> Program:
    """Granian, as `telemetry_site.programs` runs it."""
    return _program(
        *("web", "granian", "tests.benchmarks.naive.wsgi:application", "--interface", "wsgi"),
        *("--host", "127.0.0.1", "--port", str(port), "--http", "1", "--no-ws"),
        *("--workers", "1", "--blocking-threads", "8"),
        *("--log-level", "error", "--no-access-log"),
    )


def _worker(pool: str) -> Program:
    """Celery, as `telemetry_site.programs` runs it, without heartbeats on top."""
    return _program(
        *("ingest", "celery", "--quiet", "-A", "tests.benchmarks.naive", "worker"),
        *("-Q", "ingest", "-c", "1", "--pool", pool),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
    )


def _program(name: str, module: str, *arguments: str) -> Program:
    return Program(
        name=name,
        argv=[sys.executable, "-m", module, *arguments],
        environment={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"},
        folder=ROOT,
        grace=15.0,
    )


if __name__ == "__main__":
    main()
