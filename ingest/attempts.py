"""What a storing worker is about to do, written down where its death can't take it back."""

import contextlib
from collections.abc import Iterator

import psycopg
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# What is nobody's fault: the database's troubles, and being told to stop.
FORGIVEN = (DatabaseError, InterfaceError, psycopg.Error, SoftTimeLimitExceeded)


class Attempts:
    """Notes of attempts, committed at once on a connection of their own. One a process.

    The worker holds its batches' rows locked while its note exists. So a note about rows that
    somebody else could lock was left by a process that died there.
    """

    def __init__(self) -> None:
        self._connection: BaseDatabaseWrapper | None = None
        # Notes of this process that it couldn't take back because the database was away.
        self._owed: set[int] = set()

    def open(self) -> None:
        """Have a connection that works; called before a run of groups."""
        if self._connection is None:
            self._connection = connections.create_connection("default")
        self._connection.close_if_unusable_or_obsolete()
        if self._owed:
            self._forget(self._owed)
            self._owed.clear()

    @contextlib.contextmanager
    def noted(self, batches: list[int]) -> Iterator[None]:
        """Around work on `batches`, inside its transaction.

        Work that succeeds takes the note away with its commit; work that fails for a reason that is
        nobody's fault has it taken back; any other failure leaves it, as a death would.
        """
        note = self._note(batches)
        try:
            yield
        except BaseException as error:
            # Taken back before the locks are released: nobody may take it for a death. Only what
            # nobody foresaw is as good as one, or it would come again for ever.
            if isinstance(error, FORGIVEN) or not isinstance(error, Exception):
                self._take_back(note)
            raise
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM ingest_attempt WHERE id = %s", [note])
        # A commit that fails leaves the note, and was no death either.
        self._owed.add(note)
        transaction.on_commit(lambda: self._owed.discard(note))

    @staticmethod
    def left_by_the_dead(locked: list[int]) -> dict[int, int]:
        """Of the batches this worker has just locked, those with a note left: batch -> note."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, batches FROM ingest_attempt WHERE batches && %s::bigint[]", [locked]
            )
            notes = cursor.fetchall()
        return {batch: note for note, batches in notes for batch in set(batches) & set(locked)}

    @staticmethod
    def settle(left: dict[int, int]) -> None:
        """Take away the notes that `left_by_the_dead` found, in the caller's transaction."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM ingest_attempt WHERE id = ANY(%s)", [[*left.values()]])

    def _note(self, batches: list[int]) -> int:
        assert self._connection is not None, "open() comes first"
        with self._connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ingest_attempt (batches, started_at) VALUES (%s, now()) RETURNING id",
                [batches],
            )
            (note,) = cursor.fetchone()
        return int(note)

    def _take_back(self, note: int) -> None:
        try:
            self._forget({note})
        except (DatabaseError, InterfaceError):
            self._owed.add(note)

    def _forget(self, notes: set[int]) -> None:
        assert self._connection is not None, "open() comes first"
        with self._connection.cursor() as cursor:
            cursor.execute("DELETE FROM ingest_attempt WHERE id = ANY(%s)", [[*notes]])


attempts = Attempts()
