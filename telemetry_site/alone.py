"""One worker at a time at something: a lock of the database session, which dies with it."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def alone_at(kind: int, what: object) -> Iterator[bool]:
    """Whether nobody else works at this; nobody does until the end then.

    `kind` tells advisory locks of different things apart. Two whose text has the same checksum wait
    for each other, which costs a moment.
    """
    key = [kind, zlib.crc32(str(what).encode()) - 2**31]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        (alone,) = cursor.fetchone()
    try:
        yield alone
    finally:
        if alone and connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)
