"""The audit log: a chain that shows every change, and that the application can't change."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import LiteralString

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.utils import DatabaseError, IntegrityError

from privacy import audit
from tests.harness import Service

pytestmark = pytest.mark.usefixtures("service")


def record(number: int = 0) -> None:
    audit.record("export.made", "system", of="a random id", number=number)


def test_entries_follow_each_other_and_the_chain_is_whole() -> None:
    before = audit.current_head()
    for number in range(3):
        record(number)
    head = audit.verify(before)
    assert head.entries >= before.entries + 3
    assert audit.verify(head).entries >= head.entries


def test_many_at_once_make_one_chain() -> None:
    def one(number: int) -> None:
        record(number)
        connections.close_all()

    before = audit.current_head().entries
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert audit.verify().entries >= before + 40


def test_what_is_rolled_back_leaves_no_gap() -> None:
    before = audit.current_head().entries
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    record()
    assert audit.verify().entries >= before + 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE privacy_auditentry SET actor = 'nobody'",
        "DELETE FROM privacy_auditentry",
        "TRUNCATE privacy_auditentry",
        "ALTER TABLE privacy_auditentry DISABLE TRIGGER append_only",
        "DROP TABLE privacy_auditentry",
    ],
)
def test_the_application_may_only_append(statement: str) -> None:
    record()
    with (
        pytest.raises(DatabaseError) as refused,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert refused.value.__cause__ is not None
    assert getattr(refused.value.__cause__, "sqlstate", "") == "42501"


# What somebody who owns the database might do to an entry.
TAMPERING: dict[str, LiteralString] = {
    "another actor": "UPDATE privacy_auditentry SET actor = 'nobody' WHERE number = %s",
    "another time": "UPDATE privacy_auditentry SET at = at - interval '1 us' WHERE number = %s",
    "another action": "UPDATE privacy_auditentry SET action = 'x' WHERE number = %s",
    "other details": "UPDATE privacy_auditentry SET details = '{}' WHERE number = %s",
    "another project": "UPDATE privacy_auditentry SET project_id = 1 WHERE number = %s",
    "left out": "DELETE FROM privacy_auditentry WHERE number = %s",
    "the end cut off": "DELETE FROM privacy_auditentry WHERE number >= %s",
    "another digest": "UPDATE privacy_auditentry SET digest = sha256('x') WHERE number = %s",
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_whoever_owns_the_database_is_found_out(service: Service, tampering: str) -> None:
    for number in range(3):
        record(number)
    head = audit.verify()
    number = head.entries - 1
    with tampered(service, TAMPERING[tampering], number):
        with pytest.raises(audit.BrokenChain) as broken:
            audit.verify(head)
        assert broken.value.number == number
    assert audit.verify(head) == head


FORGED: LiteralString = """
    INSERT INTO privacy_auditentry
    SELECT %s, at, action, actor, project_id, object, details, digest
      FROM privacy_auditentry WHERE number = 1
"""


@pytest.mark.parametrize("number", [0, -(2**63)])
def test_an_entry_put_before_the_first_is_found(service: Service, number: int) -> None:
    record()
    head = audit.verify()
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(FORGED, [number])
    with put_before_the_first(service, number):
        with pytest.raises(audit.BrokenChain, match="was put in") as broken:
            audit.verify(head)
        assert broken.value.number == number
    assert audit.verify(head).entries >= head.entries


@contextmanager
def put_before_the_first(service: Service, number: int) -> Iterator[None]:
    """Meanwhile there is an entry that only the owner of the database could put in."""
    table: LiteralString = "ALTER TABLE privacy_auditentry"
    with service.superuser() as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute(f"{table} DROP CONSTRAINT audit_begins_at_one")
        owner.execute(FORGED, [number])
        try:
            yield
        finally:
            owner.execute("DELETE FROM privacy_auditentry WHERE number < 1")
            owner.execute(f"{table} ADD CONSTRAINT audit_begins_at_one CHECK (number > 0)")


@contextmanager
def tampered(service: Service, statement: LiteralString, number: int) -> Iterator[None]:
    """Meanwhile a statement has had its way with an entry; what it changed comes back."""
    with service.superuser() as owner:
        # As the owner of the database could: without triggers.
        owner.execute("SET session_replication_role = replica")
        owner.execute(
            "CREATE TEMP TABLE kept AS SELECT * FROM privacy_auditentry WHERE number >= %s",
            [number],
        )
        owner.execute(statement, [number])
        try:
            yield
        finally:
            owner.execute("DELETE FROM privacy_auditentry WHERE number >= %s", [number])
            owner.execute("INSERT INTO privacy_auditentry SELECT * FROM kept")


def test_the_command_prints_the_head_and_finds_an_earlier_one_again(service: Service) -> None:
    record()
    head = service.manage("verify_audit").strip()
    record()
    later = service.manage("verify_audit", "--head", head).strip()
    assert audit.Head.parse(later).entries > audit.Head.parse(head).entries


@pytest.mark.parametrize("head", ["", "7", "x:00", "7:00", "7:" + "0g" * 32])
def test_the_command_says_what_a_head_is(head: str) -> None:
    with pytest.raises(CommandError, match="a head is a number"):
        call_command("verify_audit", "--head", head)


def test_the_command_says_which_entry_was_changed(service: Service) -> None:
    record()
    number = audit.current_head().entries
    with (
        tampered(service, "UPDATE privacy_auditentry SET actor = '' WHERE number = %s", number),
        pytest.raises(CommandError, match=f"entry {number} is not what was written"),
    ):
        call_command("verify_audit")
