"""`manage.py dead list|replay|discard`: the batches that failed after all tries."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ingest import storage
from ingest.models import Batch

_SHOWN = 100


class Command(BaseCommand):
    help = "List the dead batches, let them be stored once more, or give them up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("list", help=f"show dead batches and why, the latest {_SHOWN}")
        for action, help_text in (
            ("replay", "let them be stored once more"),
            ("discard", "delete what they hold, for good; their events stay counted as dead"),
        ):
            parser = actions.add_parser(action, help=help_text)
            parser.add_argument("ids", nargs="*", type=int, help="ledger ids, as `list` shows them")
            parser.add_argument("--all", action="store_true", help="all dead batches")

    def handle(self, *args: Any, **options: Any) -> None:
        dead = Batch.objects.filter(state=Batch.State.DEAD).order_by("-day", "-id")
        if options["action"] == "list":
            self._list(dead.select_related("project").defer("payload")[:_SHOWN])
            return
        if options["all"] == bool(options["ids"]):
            raise CommandError(f"Give the ids of the batches to {options['action']}, or --all.")
        if options["ids"]:
            dead = dead.filter(id__in=options["ids"])
        keys = dead.values_list("day", "id")
        if options["action"] == "replay":
            count = storage.replay(keys)
            self.stdout.write(f"{count} batches wait to be stored, within ten seconds.")
        else:
            self.stdout.write(f"{storage.discard(keys)} batches are discarded.")

    def _list(self, batches: Any) -> None:
        if not batches:
            self.stdout.write("No batch is dead.")
            return
        self.stdout.write(f"{'id':>12}  {'received':<17}{'project':<20}{'events':>6}  error")
        for batch in batches:
            self.stdout.write(
                f"{batch.id:>12}  {batch.received_at:%Y-%m-%d %H:%M} {batch.project.slug[:19]:<20}"
                f"{batch.dead:>6}  {batch.error}"
            )
