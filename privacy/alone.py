"""One worker at a time at a request: a lock of the database session, which dies with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection


@contextmanager
def alone_at(kind: int, request_id: UUID) -> Iterator[bool]:
    """Whether nobody else works at this request; nobody does until the end then.

    `kind` tells advisory locks of different requests apart.
    """
    key = [kind, int.from_bytes(request_id.bytes[:4], "big", signed=True)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        (alone,) = cursor.fetchone()
    try:
        yield alone
    finally:
        if alone and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)
