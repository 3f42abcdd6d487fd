"""The service's own processes, as `manage.py up` runs them."""

import hashlib
import os
import signal
import sys

from django.conf import settings

from telemetry_site.celery import QUEUES
from telemetry_site.supervisor import Program

WEB = "web"
BEAT = "beat"
DEMO = "demo"
WORKERS = tuple(QUEUES)
# Those that in-flight work of theirs may take: a request, a task.
WEB_GRACE = 15.0
WORKER_GRACE = 60.0
# Celery's remark about root, once a worker and start. Run as root, up does as it was told.
SILENCED = "ignore:You're running the worker with superuser privileges"


def web(host: str, port: int) -> Program:
    """The web server: granian, which also serves the admin's static files."""
    return _python(
        WEB,
        *("granian", "telemetry_site.wsgi:application", "--interface", "wsgi"),
        *("--host", host, "--port", str(port), "--http", "1", "--no-ws"),
        *("--workers", str(settings.WEB_PROCESSES)),
        *("--blocking-threads", str(settings.WEB_THREADS)),
        "--respawn-failed-workers",
        *("--workers-kill-timeout", str(int(WEB_GRACE))),
        *("--static-path-route", settings.STATIC_URL.rstrip("/")),
        *("--static-path-mount", str(settings.STATIC_ROOT)),
        *("--log-level", "error", "--no-access-log"),
        grace=WEB_GRACE + 2,
    )


def worker(queue: str) -> Program:
    """The worker of one queue."""
    return _python(
        queue,
        *("celery", "--quiet", "-A", "telemetry_site", "worker"),
        *("-Q", queue, "-n", f"{queue}-{_instance()}@%h", "-c", str(QUEUES[queue])),
        *("--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
        grace=WORKER_GRACE,
        # When `up` was killed the database goes too: there is nothing left to finish.
        orphan_signal=signal.SIGKILL,
    )


def beat() -> Program:
    """What sends out the scheduled tasks."""
    return _python(
        BEAT,
        *("celery", "--quiet", "-A", "telemetry_site", "beat"),
        *("--pidfile=", "--loglevel", "WARNING"),
    )


def migrate() -> Program:
    """Bring the database's tables up to date."""
    return _python(
        "migrate", str(settings.BASE_DIR / "manage.py"), "migrate", "--no-input", "-v", "0"
    )


def demo(url: str) -> Program:
    """The simulated fleet, which sends to `url` and ends."""
    return _python(DEMO, str(settings.BASE_DIR / "manage.py"), "demo", url, for_people=True)


def _instance() -> str:
    """What tells this `up` from another one on the same machine: its data folder, in six digits."""
    return hashlib.sha256(os.fsencode(settings.DATA_DIR)).hexdigest()[:6]


def _python(
    name: str,
    module: str,
    *arguments: str,
    grace: float = 10.0,
    orphan_signal: signal.Signals = signal.SIGTERM,
    for_people: bool = False,
) -> Program:
    how = [module] if module.endswith(".py") else ["-m", module]
    return Program(
        name=name,
        argv=[sys.executable, *how, *arguments],
        environment={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "telemetry_site.settings",
            "TELEMETRY_DATA_DIR": str(settings.DATA_DIR),  # ours may be relative to another folder
            "PROMETHEUS_MULTIPROC_DIR": str(settings.METRICS_DIR),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), SILENCED])),
        },
        folder=settings.BASE_DIR,
        grace=grace,
        orphan_signal=orphan_signal,
        for_people=for_people,
    )
