"""`manage.py up --demo`: a fleet sends, and every event of it is accounted for."""

import re
from collections.abc import Iterator

import pytest

from tests.harness import Service, demonstrated, wait_for

STORED_SECONDS = 30


@pytest.fixture(scope="module")
def demo() -> Iterator[Service]:
    """A service whose demo has come to its end."""
    with demonstrated() as service:
        yield service


def test_the_accounting_agrees_and_every_end_is_there(demo: Service) -> None:
    assert "The accounting agrees with what the clients were answered." in demo.output
    (head,) = re.findall(r"demo +\| (client .*)", demo.output)
    (row,) = re.findall(r"demo +\| (all .*)", demo.output)
    counts = dict(
        zip(head.split()[1:], [int(n.replace(",", "")) for n in row.split()[1:]], strict=True)
    )
    assert min(counts.values()) > 0, counts
    assert counts["received"] == sum(
        counts[name] for name in ("stored", "duplicate", "rejected", "dead")
    )
    assert counts["events"] == counts["received"] + counts["limited"] + counts["refused"]


def test_what_is_stored_is_counted_by_day_and_by_node(demo: Service) -> None:
    days = re.findall(r"demo +\| \d{4}-\d\d-\d\d +(\S+) +(\S+) +(\S+)\n", demo.output)
    assert len(days) == 14
    # Most was sent moments ago, which is yesterday's just after midnight.
    events, people, size = (int(number.replace(",", "")) for number in max(days, key=_events))
    assert size > events > people > 100
    nodes = re.findall(r"demo +\| node-\S+ +\d\d:\d\d:\d\d +\S+ +\S+ +\S+\n", demo.output)
    assert len(nodes) == 6


def _events(day: tuple[str, ...]) -> int:
    return 0 if day[0] == "withheld" else int(day[0].replace(",", ""))


def test_the_dead_are_stored_when_they_are_replayed(demo: Service) -> None:
    dead = demo.manage("dead", "list")
    assert dead.count("23514") == 4
    demo.manage("dead", "replay", "--all")
    wait_for(
        lambda: "No batch is dead" in demo.manage("dead", "list"), STORED_SECONDS, "their storing"
    )


def test_nothing_that_people_let_slip_is_kept(demo: Service) -> None:
    with demo.database() as connection:
        query = """
            SELECT count(*), bool_or(message LIKE '%%jane%%') FROM ingest_event WHERE message <> ''
        """
        count, jane = connection.execute(query).fetchone() or (0, True)
    assert count > 100
    assert not jane
