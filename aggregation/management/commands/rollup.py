"""`manage.py rollup [--from DATE --to DATE] [--project SLUG]`: count anew, now."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aggregation import rebuilding
from aggregation.models import Level
from aggregation.rebuilding import Scope
from ingest.models import Project

_WIDTH = 40
_NAMES = {Level.HOUR: "hours", Level.DAY: "days", Level.MONTH: "months"}
# Between two lines where there is no terminal.
_LINE_SECONDS = 10.0


class Command(BaseCommand):
    help = (
        "Count hours, days and months anew: whatever there is from one day until before another "
        "(UTC), or without dates what is dirty now. May run beside the workers."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=_day, metavar="DATE", help="the first day")
        parser.add_argument(
            "--to", dest="behind", type=_day, metavar="DATE", help="the day behind the last"
        )
        parser.add_argument("--project", metavar="SLUG", help="of this project alone")

    def handle(
        self,
        *args: Any,
        first: date | None,
        behind: date | None,
        project: str | None,
        **options: Any,
    ) -> None:
        if (first is None) != (behind is None):
            raise CommandError("Give both --from and --to, or neither.")
        projects = _projects(project)
        scope = Scope.of_always(projects)
        try:
            if first is not None and behind is not None:
                scope = self._mark(projects, first, behind)
            made = rebuilding.make(scope, Progress(self.stdout))
        except KeyboardInterrupt:
            if self.stdout.isatty():
                self.stdout.write()  # ends the bar's line
            raise CommandError(
                "Stopped. What isn't made stays dirty: a worker makes it.", returncode=130
            ) from None
        told = ", ".join(f"{made[level]:,} {name}" for level, name in _NAMES.items())
        self.stdout.write(f"Made {told}.")

    def _mark(self, projects: list[int], first: date, behind: date) -> Scope:
        if first >= behind:
            raise CommandError("--from must lie before --to, which is the day behind the last.")
        scope = Scope.of_days(projects, first, behind)
        marked = rebuilding.mark(scope)
        if not (marked.dirty or marked.sealed):
            raise CommandError(f"There is nothing from {first} until before {behind}.")
        if marked.sealed:
            self.stdout.write(
                f"{marked.sealed:,} hours are sealed, their raw data is gone: they stay as they "
                "are."
            )
        return scope


class Progress:
    """A bar that grows on a terminal; elsewhere a line now and then."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._told = time.monotonic()

    def __call__(self, level: Level, done: int, total: int) -> None:
        words = f"{_NAMES[level]:<6} {done:>7,} of {total:,}"
        if self._is_terminal:
            bar = "#" * (_WIDTH * done // total)
            self._stream.write(f"\r[{bar:<{_WIDTH}}] {words}", ending="\n" * (done == total))
            self._stream.flush()
        elif done == total or time.monotonic() - self._told > _LINE_SECONDS:
            self._told = time.monotonic()
            self._stream.write(words)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day such as 2026-11-20") from None


def _projects(slug: str | None) -> list[int]:
    """The numbers of the projects that are meant."""
    found = Project.objects.all() if slug is None else Project.objects.filter(slug=slug)
    if slug is not None and not found:
        raise CommandError(f"There is no project {slug!r}.")
    return list(found.values_list("pk", flat=True))
