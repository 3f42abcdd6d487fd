"""`manage.py tombstones export` and `replay`: who must not come back with a restored backup."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from privacy import deletions, tombstones
from privacy.tombstones import Tombstone


class Command(BaseCommand):
    help = (
        "export: print who is erased or is going to be, a line of keyed hashes each. "
        "replay: read such lines from the standard input, and have these persons erased again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["export", "replay"])

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "export":
            for tombstone in tombstones.export():
                self.stdout.write(str(tombstone))
        else:
            self._replay([line for line in sys.stdin if line.strip()])

    def _replay(self, lines: list[str]) -> None:
        """All of them, or none where one can't be read."""
        found: list[Tombstone] = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(Tombstone.parse(line))
            except ValueError:
                raise CommandError(f"Line {number} is no tombstone; nothing was done.") from None
        asked = sum(map(tombstones.replay, found))
        deletions.nudge()
        self.stderr.write(f"{asked:,} persons are going to be erased again.")
        if missing := len(found) - asked:
            self.stderr.write(f"{missing:,} are of projects that this database doesn't have.")
