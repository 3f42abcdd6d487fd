"""Whatever comes in whichever order, each level is what counting everything again would say."""

from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from aggregation import definitions, marks, rollups
from aggregation.models import Dimension, DirtyMark, Kind, Level
from ingest import erasing
from ingest.erasing import Person
from ingest.models import Event
from privacy import restrictions
from tests.aggregation.expiring import Kept
from tests.aggregation.rolling import counts, event, hashed, hour, roll_up, rolling, store
from tests.harness import Project
from tests.ingest.traces import project_id

PEOPLE = some.one_of(some.none(), some.integers(1, 4))
EVENTS = some.builds(
    lambda ago, name, person, session, version: event(
        name,
        hour(ago),
        subject=person and hashed(person),
        session=session and hashed(session + 100),
        client_version=version,
    ),
    some.integers(1, 60),
    some.sampled_from("abc"),
    PEOPLE,
    PEOPLE,
    some.sampled_from([None, "1", "2"]),
)
STEPS = some.one_of(
    some.tuples(some.just("store"), some.lists(EVENTS, min_size=1, max_size=8)),
    some.tuples(some.just("suppress"), some.integers(1, 4)),
    some.tuples(some.just("unsuppress"), some.integers(1, 4)),
    some.tuples(some.just("erase"), some.integers(1, 4)),
    some.tuples(some.just("roll up"), some.sampled_from([*Level])),
    some.tuples(some.just("die"), some.sampled_from([*Level])),
    some.tuples(some.just("keep"), some.integers(0, 2)),
    some.tuples(some.just("die while keeping"), some.integers(0, 2)),
)


@pytest.mark.usefixtures("service")
@given(steps=some.lists(STEPS, max_size=12))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_level_is_what_counting_again_says(
    project: Project, steps: list[tuple[str, Any]]
) -> None:
    with rolling():
        pk, kept = project_id(project), Kept(project, Kind.EVENTS)
        Dimension.objects.create(project_id=pk, name="version", path="client_version", event="a")
        for step, what in steps:
            take(project, kept, step, what)
        roll_up()
        assert not DirtyMark.objects.filter(project_id=pk).exists()
        # Whatever a worker that died has left of it.
        kept.expire(40)
        for level in Level:
            table = definitions.TABLES[Kind.EVENTS, level]
            # Hours go with their events.
            expected = counted_again(kept.rows(gone=level > Level.HOUR), level)
            assert {
                start: counts(project, table, bucket=start)
                for start in table.objects.filter(project_id=pk).values_list("bucket", flat=True)
            } == expected


def take(project: Project, kept: Kept, step: str, what: Any) -> None:
    pk = project_id(project)
    if step == "store":
        store(project, *what)
    elif step == "suppress":
        restrictions.suppress(pk, hashed(what))
    elif step == "unsuppress":
        restrictions.unsuppress(pk, hashed(what))
    elif step == "erase":
        restrictions.suppress(pk, hashed(what))
        for _ in erasing.erase_records(Person(pk, hashed(what)), lambda table, rows: None):
            pass
    elif step == "roll up":
        roll_up(what)
    elif step == "keep":
        kept.expire(what)
    elif step == "die while keeping":
        kept.expire(what, die=True)
    else:
        die_while_rolling_up(what)


class Death(Exception):
    """What ends a worker in the middle."""


def die_while_rolling_up(level: Level) -> None:
    """A bucket's rows are replaced, and its worker dies before that is committed."""

    def die(*_: Any) -> None:
        raise Death

    with pytest.MonkeyPatch.context() as patched, suppress(Death), transaction.atomic():
        patched.setattr(marks, "settle", die)
        rollups.roll_up([level], 60)


def counted_again(rows: list[Any], level: Level) -> dict[datetime, Any]:
    """Count, people and sessions by bucket, dimension and value, of what was stored."""
    found: Any = defaultdict(lambda: defaultdict(lambda: (0, set(), set())))
    for one in rows:
        bucket = found[definitions.starting(level, one.occurred_at)]
        for key in keys(one):
            count, people, sessions = bucket[key]
            bucket[key] = (
                count + 1,
                people | {bytes(who) for who in (one.subject or one.session,) if who},
                sessions | {bytes(who) for who in (one.session,) if who},
            )
    return {
        start: {key: (count, len(people), len(sessions)) for key, (count, people, sessions) in
                bucket.items()}
        for start, bucket in found.items()
    }  # fmt: skip


def keys(one: Event) -> list[tuple[str, str]]:
    keys = [("", ""), ("event", one.name)]
    if one.name == "a":
        keys.append(("version", one.client_version or "(none)"))
    return keys
