"""Differencing attacks, by name: what is withheld against each, and that no more is."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from aggregation.disclosure import OTHER, Grid, Protected, protect
from tests.aggregation.differencing import TOTAL, Attacker, Table, bucket, released

FIRST = datetime(2026, 1, 29, tzinfo=UTC)
NAMES = ("{0} {1:%b}", "{0} {1:%d}", "{0} {1:%d}:{1:%H}")


def table(groups: dict[str, str]) -> Table:
    """Of each group the people of each hour, all of them different; a dot is an empty hour.

    Days begin at January 29 and are parted by bars: "53|..7" is five people at midnight of the
    29th, three an hour later, and seven at two o'clock on the 30th.
    """
    fresh = count()
    people = {
        (group, FIRST + timedelta(days=day, hours=hour)): frozenset(
            next(fresh) for _ in range(int(number))
        )
        for group, days in groups.items()
        for day, hours in enumerate(days.split("|"))
        for hour, number in enumerate(hours)
        if number != "."
    }
    return Table(people, tuple(groups), ((TOTAL, "".join(groups)),))


def named(depth: int, group: str, at: datetime) -> str:
    """A cell as `a Jan`, `a 29` or `a 29:00`, by its depth."""
    return NAMES[depth].format(group or "all", at)


def withheld(attacker: Attacker) -> set[str]:
    return {named(*cell) for cell in attacker.withheld}


@dataclass(frozen=True)
class Attack:
    """A table, and all that is withheld of it, of the cells where something happened."""

    name: str
    people: dict[str, str]
    withheld: str


# k is 3.
ATTACKS = [
    Attack(
        "total_minus_the_others",
        {"a": "9", "b": "6", "c": "2"},
        "b Jan, c Jan, b 29, c 29, b 29:00, c 29:00",
    ),
    Attack(
        "day_minus_hours",
        {"a": "9942"},
        "all 29:02, all 29:03, a 29:02, a 29:03",
    ),
    Attack(
        "month_minus_days",
        {"a": "9|7|9", "b": "9|2|4"},
        "a 30, a 31, b 30, b 31, a 30:00, a 31:00, b 30:00, b 31:00",
    ),
    Attack(
        "row_and_column_cross_in_a_bridge",
        {"a": "999", "b": "929", "c": "992"},
        "b 29:01, b 29:02, c 29:01, c 29:02",
    ),
    Attack(
        "two_small_ones_add_up_to_too_few",
        {"a": "99", "b": "14", "c": "14"},
        "a 29:00, a 29:01, b 29:00, b 29:01, c 29:00, c 29:01",
    ),
    Attack(
        "a_range_minus_one_that_overlaps",
        {"a": "99|79|99", "b": "99|24|99"},
        "a 30:00, a 30:01, b 30:00, b 30:01",
    ),
    Attack(
        "groups_add_up_to_a_withheld_hour",
        {"a": "5911.", "b": "69..1"},
        "all 29:00, all 29:02, all 29:03, all 29:04, a 29:00, a 29:02, a 29:03, b 29:00, b 29:04",
    ),
    Attack(
        "groups_add_up_to_a_withheld_day",
        {"a": "99|4|1.", "b": "99|5|.1"},
        "all 30, all 31, a 30, a 31, b 30, b 31, all 30:00, all 31:00, all 31:01, a 30:00, "
        "a 31:00, b 30:00, b 31:01",
    ),
    Attack(
        "hours_add_up_to_a_withheld_day",
        {"a": "99|99|99", "b": "11|44|99"},
        "a 29, a 30, b 29, b 30, a 29:00, a 29:01, a 30:00, a 30:01, b 29:00, b 29:01, b 30:00, "
        "b 30:01",
    ),
    Attack(
        "one_group",
        {"a": "92|99"},
        "all 29:00, all 29:01, a 29:00, a 29:01",
    ),
    Attack(
        "all_groups_small",
        {"a": "2", "b": "2", "c": "2"},
        "a Jan, b Jan, c Jan, a 29, b 29, c 29, a 29:00, b 29:00, c 29:00",
    ),
    Attack(
        "all_hours_small",
        {"a": "1111", "b": "5555", "c": "9999"},
        "a 29:00, a 29:01, a 29:02, a 29:03, b 29:00, b 29:01, b 29:02, b 29:03",
    ),
    Attack(
        "a_group_in_one_hour_alone",
        {"a": "9.", "b": "29"},
        "a 29:00, b 29:00, b 29:01",
    ),
    Attack(
        "a_group_in_few_hours_alone",
        {"a": "22..", "b": "1.22", "c": ".122"},
        "a 29:00, a 29:01, b 29:00, b 29:02, b 29:03, c 29:01, c 29:02, c 29:03",
    ),
    Attack(
        "nobody_in_a_group",
        {"a": "99", "b": "00", "c": "44"},
        "b Jan, c Jan, b 29, c 29, b 29:00, b 29:01, c 29:00, c 29:01",
    ),
    Attack(
        "nothing_small",
        {"a": "99|99", "b": "53|35"},
        "",
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_nothing_and_no_more_is_withheld(attack: Attack) -> None:
    attacker = Attacker(table(attack.people), 3)
    assert attacker.exposed() == []
    assert attacker.exposed_few() == []
    assert withheld(attacker) == set(filter(None, attack.withheld.split(", ")))


def masks(attacked: Table, k: int) -> tuple[Protected, Protected]:
    """The total and the groups of a table, protected."""
    total = protect(attacked.grids(TOTAL), k)
    return total, protect(attacked.grids(attacked.tables[0][1]), k, total.series(TOTAL))


def test_a_threshold_of_one_withholds_nothing() -> None:
    for protected in masks(table({"a": "92|10", "b": "1.|01"}), 1):
        assert all(mask.all() for mask in protected.released)


def test_what_is_empty_is_told_where_it_gives_nothing_away() -> None:
    tells = released(masks(table({"a": "99.9", "b": "2499", "c": "9999"}), 3)[1])
    assert tells[2, "a", FIRST + timedelta(hours=2)]


def test_events_that_are_as_many_as_their_hours_are_not_one_in_each() -> None:
    _, groups = masks(table({"a": "1.1.1", "b": "99999", "c": "88888"}), 3)
    assert not any(released(groups)[2, "a", FIRST + timedelta(hours=hour)] for hour in range(5))
    alone = table({"a": "1.1.1|99999"})
    tells = released(protect(alone.grids(TOTAL), 3))
    assert not any(tells[2, TOTAL, FIRST + timedelta(hours=hour)] for hour in range(5))


def test_what_is_empty_is_not_told_where_that_gives_something_away() -> None:
    # Whoever knew that "a" has nothing at one o'clock would have it at midnight from its day, and
    # from that and the total the two people.
    tells = released(masks(table({"a": "9.", "b": "29"}), 3)[1])
    assert not tells[2, "a", FIRST + timedelta(hours=1)]


def test_a_group_withheld_for_a_day_is_withheld_in_all_its_hours() -> None:
    attacked = table({"a": "9999|9999", "b": "1...|8888", "c": "4444|9999"})
    _, groups = masks(attacked, 3)
    tells = released(groups)
    for hour in range(4):
        assert not tells[2, "b", FIRST + timedelta(hours=hour)]


def test_a_day_is_decided_the_same_whatever_else_is_asked_for() -> None:
    attacked = table({"a": "929|299|999", "b": "943|444|1.1", "c": ".12|555|999"})
    total, whole = masks(attacked, 3)
    for day in range(3):
        start = FIRST + timedelta(days=day)
        months, days, hours = attacked.grids("abc")
        columns = [at for at, hour in enumerate(hours.buckets) if bucket(1, hour) == start]
        part = Grid(hours.groups, hours.buckets[columns[0] :][:3], hours.people[:, columns])
        asked = protect([months, days, part], 3, _only(total, start))
        assert released(asked).items() <= released(whole).items()


def _only(total: Protected, day: datetime) -> Protected:
    """A total of which only this day's hours were asked for."""
    months, days, hours = total.grids
    columns = [at for at, hour in enumerate(hours.buckets) if bucket(1, hour) == day]
    buckets = tuple(hours.buckets[column] for column in columns)
    grids = (months, days, Grid(hours.groups, buckets, hours.people[:, columns]))
    return Protected(grids, (*total.released[:2], total.released[2][:, columns]))


def test_hours_of_a_day_that_is_not_rolled_up_yet_are_protected_as_if_it_were_released() -> None:
    attacked = table({"a": "999", "b": "244", "c": "1.1"})
    total_grids, grids = attacked.grids(TOTAL), attacked.grids("abc")
    nothing = Grid.of([])
    total = protect([total_grids[0], nothing, total_grids[2]], 3)
    tells = released(protect([grids[0], nothing, grids[2]], 3, total))
    told = {named(*cell) for cell in tells if tells[cell] and cell[0] == 2 and attacked.seen(cell)}
    assert told == {"a 29:01", "b 29:01"}


def test_values_that_a_day_folds_into_the_others_are_withheld_with_the_others() -> None:
    hours = [FIRST + timedelta(hours=hour) for hour in range(2)]
    rows = [(at, group, 9) for at in hours for group in ("a", "rare", OTHER)]
    days = [(FIRST, "a", 18), (FIRST, OTHER, 36)]
    month = FIRST.replace(day=1)
    total = protect(
        [
            Grid.of([(month, TOTAL, 54)]),
            Grid.of([(FIRST, TOTAL, 54)]),
            Grid.of([(at, TOTAL, 27) for at in hours]),
        ],
        3,
    )
    months = Grid.of([(month, "a", 18), (month, OTHER, 36)])
    tells = released(protect([months, Grid.of(days), Grid.of(rows)], 3, total))
    assert {(group, tell) for (depth, group, _), tell in tells.items() if depth == 2} == {
        ("a", True),
        ("rare", False),
        (OTHER, False),
    }
