"""Pseudonyms: keyed hashes that stand for a person or a session. Pure: no Django, no database."""

import hmac
import secrets
from functools import cached_property
from hashlib import blake2b


class Pseudonyms:
    """Turns raw ids of one project into 16-byte keyed hashes.

    The pepper is not in the database, so that a stolen dump can't be matched with known ids; the
    project is part of the key, so that two projects can't be joined over a person.
    """

    def __init__(self, pepper: bytes, project_id: int) -> None:
        self._key = blake2b(pepper, digest_size=64, person=b"subjects").digest()
        self._salt = project_id.to_bytes(16, "big")

    def subject(self, user_id: str) -> bytes:
        """The pseudonym of a person."""
        return self._hash(user_id, b"subject")

    def session(self, session_id: str) -> bytes:
        """The pseudonym of a session; never equal to a person's, whatever the ids."""
        return self._hash(session_id, b"session")

    def mention(self, kind: str, raw_id: str) -> bytes:
        """What stands for an id where a record mentions it (16 bytes).

        The same for as long as this object lives, which is a batch; its key is kept nowhere, so
        that nothing leads from a mention to the person afterwards, nor to another one.
        """
        person = kind.encode()
        return blake2b(raw_id.encode(), digest_size=16, key=self._fleeting, person=person).digest()

    @cached_property
    def _fleeting(self) -> bytes:
        return secrets.token_bytes(32)

    def digest(self, content: bytes) -> bytes:
        """A keyed digest (16 bytes) of a batch's content: a rebuilt batch has the same."""
        return hmac.digest(self._key, self._salt + content, "sha256")[:16]

    def _hash(self, text: str, person: bytes) -> bytes:
        return blake2b(
            text.encode(), digest_size=16, key=self._key, salt=self._salt, person=person
        ).digest()
