"""`manage.py verify_audit`: is every entry of the audit log what was written, and none missing?"""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from privacy.audit import BrokenChain, Head, verify


class Command(BaseCommand):
    help = (
        "Check the chain of the audit log and print its head. Keep heads elsewhere, and give one "
        "with --head to see that nothing before it was changed or cut off since."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--head", type=_head, help="one that an earlier run has printed")

    def handle(self, *args: Any, head: Head | None, **options: Any) -> None:
        try:
            found = verify(head)
        except BrokenChain as error:
            raise CommandError(f"The audit log was tampered with: {error}.") from None
        self.stderr.write(f"{found.entries:,} entries, each as it was written.")
        self.stdout.write(str(found))


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError:
        raise ArgumentTypeError("a head is a number, a colon and 64 hexadecimal digits") from None
