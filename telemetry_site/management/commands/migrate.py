"""`manage.py migrate`, as the role that owns the tables, followed by the application's grants."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from telemetry_site import roles

LOCK = 0x7E1E3E7  # any number, as long as nothing else locks it in this database


class Command(migrate.Command):
    """Django's own, with another default database."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Default to the owner's connection where there is one."""
        super().add_arguments(parser)
        parser.set_defaults(database="owner" if "owner" in settings.DATABASES else DEFAULT_DB_ALIAS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, then grant. Raises CommandError with a sentence when the database refuses."""
        connection = connections[options["database"]]
        try:
            with _alone(connection):
                super().handle(*args, **options)
                if not (options["plan"] or options["check_unapplied"]):
                    roles.grant(connection)
        except DatabaseError as error:
            first_line = str(error).strip().partition("\n")[0]  # the others quote what is stored
            raise CommandError(f"Migrating the database failed: {first_line}") from error


@contextlib.contextmanager
def _alone(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """One migration at a time in this database, however many machines start at once."""
    with connection.cursor() as cursor:
        # The limits for the application's statements aren't meant for building an index.
        cursor.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
            cursor.execute("RESET statement_timeout; RESET idle_in_transaction_session_timeout")
