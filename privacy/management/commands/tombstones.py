"""`manage.py tombstones export` and `replay`: who must not come back with a restored backup."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from privacy import deletions, tombstones


class Command(BaseCommand):
    help = (
        "export: print when this list is made, then who is erased or is going to be, a line of "
        "keyed hashes each. replay: read such lists, one after the other, from the standard input, "
        "and have these persons erased again; who was still going to be is taken from the newest."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["export", "replay"])

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "export":
            for line in tombstones.export():
                self.stdout.write(line)
        else:
            self._replay()

    def _replay(self) -> None:
        """All that the lists name, or nobody where a line can't be read."""
        try:
            found = tombstones.read(sys.stdin)
        except tombstones.BrokenList as error:
            raise CommandError(f"{error}; nothing was done.") from None
        asked = sum(map(tombstones.replay, found))
        deletions.nudge()
        self.stderr.write(f"{asked:,} persons are going to be erased again.")
        if missing := len(found) - asked:
            self.stderr.write(f"{missing:,} are of projects that this database doesn't have.")
