"""Prepared statements on Django's connection, for the data path.

Django's own cursors bind parameters on the client's side, and so never prepare: PostgreSQL would
parse and plan each statement each time, with the payload as text in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections


def execute(
    statement: LiteralString, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> psycopg.Cursor[Any]:
    """Run a statement in Django's transaction if there is one; raises psycopg's own errors."""
    connection.ensure_connection()
    return cursor().execute(statement, parameters, prepare=True)


def cursor(using: str = DEFAULT_DB_ALIAS) -> psycopg.Cursor[Any]:
    """A cursor of psycopg's own on Django's connection to a database, which must be open."""
    return psycopg.Cursor(connections[using].connection)
