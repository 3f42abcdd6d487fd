"""`manage.py retention [--dry-run]`: what is past its time goes now, or is told."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from aggregation import retention
from ingest import partitions


class Command(BaseCommand):
    help = (
        "Drop, delete and seal what is past its time, as the schedules do every hour. What is "
        "still to be stored or rolled up stays."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would go, and what keeps the rest"
        )

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        if dry_run:
            self._tell()
            return
        partitions.maintain()
        for done in retention.apply():
            self.stdout.write(done)
        self.stdout.write("What is past its time is gone.")

    def _tell(self) -> None:
        found = list(retention.due())
        for due in found:
            verdict = f"stays: {due.kept_by}" if due.kept_by else "goes"
            self.stdout.write(f"{due.what}: {verdict}")
        if not found:
            self.stdout.write("Nothing is past its time.")
