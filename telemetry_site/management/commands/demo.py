"""`manage.py demo URL`: lets a simulated fleet send to the service, and tells what became of it.

`manage.py up --demo` runs it.
"""

import random
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from aggregation.models import Dimension
from ingest import violations
from ingest.models import ApiKey, Batch, Project
from telemetry_site.demo import report, traffic
from telemetry_site.demo.sending import Answered, Credentials, Sender

NAME = "Demo"
SEED = 4
SECONDS = 15.0
PROGRESS_SECONDS = 2.0
SETTLE_SECONDS = 60.0
MISTAKE = "demo_mistake"
TRIES = 20
# As many as there are late batches of.
DAYS = 14

# By what its events are counted besides their names.
DIMENSIONS = {
    "version": {"path": "client_version"},
    "plugin": {"path": "properties.plugin"},
}

# Title, and the name of the page's URL.
PAGES = (
    ("how everything is", "index"),
    ("queues and workers", "telemetry_site_queue_changelist"),
    ("what arrives", "ingest_event_changelist"),
    ("what is counted", "aggregation_dashboard"),
    ("the malformed ones", "ingest_rejectedevent_changelist"),
    ("the dead: replay them", "ingest_deadbatch_changelist"),
    ("who was limited: lift it", "ingest_ratelimitviolation_changelist"),
)


class Command(BaseCommand):
    help = "Let a simulated fleet of all kinds of client send to a running service."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="where the service answers, as `up` says: http://…")

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        """Send, wait until all is stored, report. Raises CommandError where sums don't agree."""
        project, keys = _project()
        sender = Sender(url, Credentials(keys["ingest"], _token(project)))
        started = timezone.now()
        fleet = traffic.Fleet(random.Random(SEED), started)  # noqa: S311 it makes no secret
        path = "/v1/query/accounting?" + urlencode({"from": started.isoformat()})
        self._say(f"project “{project.name}”, its ingest key for this run: {keys['ingest']}")
        answers = self._make_dead(project, sender, fleet)
        self._say("plug-ins, tools, web pages and nodes send now, well and badly behaved:")
        answers += self._send(sender, fleet.day())
        _wait(lambda: _is_settled(sender.get(path, keys["secret"])), "everything to be stored")
        # A schedule does it every half minute; who looks now needn't wait for it.
        violations.flush()
        self._report(answers, sender.get(path, keys["secret"]))
        self._show_numbers(project, started, lambda path: sender.get(path, keys["secret"]))
        self._point_at_pages(url)

    def _make_dead(self, project: Project, sender: Sender, fleet: traffic.Fleet) -> list[Answered]:
        """Some batches that can't be stored for a reason that is gone when they are replayed."""
        batches = fleet.unstorable()
        dead = Batch.objects.filter(project=project, state=Batch.State.DEAD)
        expected = dead.count() + len(batches)
        self._say("for a moment, by mistake, a constraint refuses some events: they will be dead.")
        with _mistake():
            answers = sender.send_all(batches, 0.5)
            _wait(lambda: dead.count() >= expected, "the refused events to be dead")
        return answers

    def _send(self, sender: Sender, sendings: list[traffic.Sending]) -> list[Answered]:
        told = time.monotonic()

        def progress(done: int) -> None:
            nonlocal told
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                share = done / len(sendings)
                bar = "#" * round(share * 30)
                self._say(f"[{bar:<30}] {share:>4.0%}  {done:,} of {len(sendings):,} batches")

        return sender.send_all(sendings, SECONDS, progress)

    def _report(self, answers: list[Answered], accounting: dict[str, Any]) -> None:
        told, kept = report.told(answers), report.accounted(accounting)
        for line in ("", *report.table(told, kept), ""):
            self._say(line)
        if found := report.differences(told, kept):
            raise CommandError("\n".join(["NOT ACCOUNTED FOR", *found]))
        self._say("The accounting agrees with what the clients were answered.")
        self._say("Limited are events here; the admin's violations count requests.")

    def _show_numbers(
        self, project: Project, now: datetime, ask: Callable[[str], dict[str, Any]]
    ) -> None:
        """Roll up what is stored, which a schedule does every minute, and ask for some of it."""
        self._say("")
        self._say("Counting it by hours, days and months, as schedules do:")
        call_command("rollup", project=project.slug, stdout=self.stdout)
        first = now.date() - timedelta(days=DAYS - 1)
        for path, lines in (
            (f"/v1/query/daily?from={first}", report.days),
            ("/v1/query/nodes", report.nodes),
        ):
            self._say("")
            self._say(f"GET {path}, asked with the project's secret key:")
            for line in lines(ask(path)):
                self._say(line)

    def _point_at_pages(self, url: str) -> None:
        self._say("")
        self._say("Look around as the administrator whose password the first start has shown:")
        for title, name in PAGES:
            self._say(f"    {title:<34}{url}{reverse(f'admin:{name}')}")
        self._say("")
        self._say("The service goes on until Ctrl-C.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _project() -> tuple[Project, dict[str, str]]:
    """The demo's project, and keys of its own for this run."""
    project = Project.objects.filter(slug=slugify(NAME)).first()
    if project is None:
        project, keys = Project.objects.create_with_keys(NAME)
    else:
        keys = {
            scope.value: ApiKey.objects.issue(project, scope, label="demo")[1]
            for scope in ApiKey.Scope
        }
    if traffic.PAGE not in project.origins:
        project.origins = [*project.origins, traffic.PAGE]
        project.save(update_fields=["origins"])
    for name, dimension in DIMENSIONS.items():
        Dimension.objects.get_or_create(project=project, name=name, defaults=dimension)
    return project, keys


def _token(project: Project) -> str:
    """What the project's nodes sign for themselves."""
    return jwt.encode({"aud": project.slug, "scope": "ingest"}, project.signing_secret)


@contextmanager
def _mistake() -> Iterator[None]:
    """Meanwhile PostgreSQL refuses to store some events."""
    _alter(f"DROP CONSTRAINT IF EXISTS {MISTAKE}")  # a killed demo's
    _alter(f"ADD CONSTRAINT {MISTAKE} CHECK (name <> '{traffic.UNSTORABLE}') NOT VALID")
    try:
        yield
    finally:
        _alter(f"DROP CONSTRAINT {MISTAKE}")


def _alter(change: str) -> None:
    """Change the table of events, without making storing wait for long."""
    for attempt in range(TRIES):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '1s'")
                cursor.execute(f"ALTER TABLE ingest_event {change}")
        except OperationalError:
            if attempt == TRIES - 1:
                raise
        else:
            return


def _is_settled(accounting: dict[str, Any]) -> bool:
    return not any(row["waiting"] for row in accounting["formats"])


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise CommandError(f"Gave up after {SETTLE_SECONDS:.0f} s of waiting for {what}.")
        time.sleep(0.2)
