"""Privacy rules: what each makes of what, where they go, and what is no rule."""

from typing import Any

import msgspec
import pytest

from privacy.rules import MOST_RULES, InvalidRules, Rules
from privacy.subjects import Pseudonyms
from tests.privacy.test_scrubbing import point, record

PSEUDONYMS = Pseudonyms(b"p" * 32, 1)
decode = msgspec.json.decode


def stored(rules: list[Any], value: dict[str, Any], **fields: Any) -> Any:
    """The properties of an event once the rules were applied."""
    one = record(value, **fields)
    Rules.parse(rules).apply([one], PSEUDONYMS)
    return decode(one.properties)


def becomes(value: Any, **rule: Any) -> Any:
    """What becomes of the property that a rule names."""
    return stored([{"property": "it", **rule}], {"it": value}).get("it", "(gone)")


# --- What becomes of a value ----------------------------------------------------------------------

ODD = [None, True, [1], {"a": 1}]


@pytest.mark.parametrize("value", ["text", 1, 1.5, *ODD])
def test_whatever_is_dropped_or_redacted_is_so_as_a_whole(value: Any) -> None:
    assert becomes(value, do="drop") == "(gone)"
    assert becomes(value, do="redact") == "[redacted]"


def test_a_hash_is_the_same_for_the_same_value_of_one_project() -> None:
    one, same, other = (becomes(text, do="hash") for text in ("A-1", "A-1", "A-2"))
    assert one == same != other
    assert len(one) == len("[hash:]") + 16
    assert becomes(17, do="hash") == becomes("17", do="hash")
    assert becomes({"a": 1, "b": 2}, do="hash") == becomes({"b": 2, "a": 1}, do="hash")
    elsewhere = record({"it": "A-1"})
    rules = Rules.parse([{"property": "it", "do": "hash"}])
    rules.apply([elsewhere], Pseudonyms(b"p" * 32, 2))
    assert decode(elsewhere.properties)["it"] != one


@pytest.mark.parametrize(
    ("value", "range_"),
    [
        (-0.1, "<0"), (0, "0-2.5"), (2.499, "0-2.5"), (2.5, "2.5-100"), (99, "2.5-100"),
        (100, "≥100"), (2**63 - 1, "≥100"), (-(2**63), "<0"), (1e300, "≥100"),
        *((odd, "(gone)") for odd in (*ODD, "7", "")),
    ],
)  # fmt: skip
def test_a_number_is_put_in_its_range(value: Any, range_: str) -> None:
    assert becomes(value, do="bucketise", edges=[0, 2.5, 100.0]) == range_


def test_one_edge_makes_two_ranges() -> None:
    assert becomes(17, do="bucketise", edges=[18]) == "<18"
    assert becomes(18, do="bucketise", edges=[18]) == "≥18"


@pytest.mark.parametrize(
    ("value", "hour", "day", "month"),
    [
        ("2026-11-21T10:31:12.5Z", "2026-11-21T10:00:00Z", "2026-11-21T00:00:00Z",
         "2026-11-01T00:00:00Z"),
        ("2026-12-01T01:31:12+02:00", "2026-11-30T23:00:00Z", "2026-11-30T00:00:00Z",
         "2026-11-01T00:00:00Z"),
        ("2026-11-21T10:31:12", "2026-11-21T10:00:00Z", "2026-11-21T00:00:00Z",
         "2026-11-01T00:00:00Z"),
        ("1990-05-17", "1990-05-17", "1990-05-17", "1990-05-01"),
        (1_763_721_072_500, 1_763_719_200_000, 1_763_683_200_000, 1_761_955_200_000),
        (1_763_721_072_500.25, 1_763_719_200_000, 1_763_683_200_000, 1_761_955_200_000),
        *(
            (odd, "(gone)", "(gone)", "(gone)")
            for odd in (*ODD, "", "yesterday", "10:31", "2026-13-01", "0001-01-01T00:00:00+05:00",
                        1_763_721_072, 1_763_721_072_500_000, -1, 1e300)
        ),
    ],
)  # fmt: skip
def test_a_time_loses_what_is_finer(value: Any, hour: Any, day: Any, month: Any) -> None:
    found = [becomes(value, do="truncate_time", to=to) for to in ("hour", "day", "month")]
    assert found == [hour, day, month]


@pytest.mark.parametrize(
    ("value", "parameters", "left"),
    [
        ("1.2.3", {"segments": 2}, "1.2"),
        ("1.2", {"segments": 2}, "1.2"),
        ("1", {"segments": 2}, "1"),
        ("", {"segments": 1}, ""),
        (1.25, {"segments": 1}, "1"),
        ("/srv/app/x/y", {"segments": 2, "separator": "/"}, "/srv/app"),
        ("//srv/app", {"segments": 1, "separator": "/"}, "//srv"),
        ("a -> b -> c", {"segments": 1, "separator": " -> "}, "a"),
        ("DE", {"groups": {"DE": "EU", "FR": "EU"}}, "EU"),
        ("US", {"groups": {"DE": "EU"}}, "(gone)"),
        ("US", {"groups": {"DE": "EU"}, "other": "elsewhere"}, "elsewhere"),
        (404, {"groups": {"404": "missing"}}, "missing"),
        *((odd, {"segments": 1}, "(gone)") for odd in ODD),
        *((odd, {"groups": {"a": "b"}, "other": "c"}, "(gone)") for odd in ODD),
    ],
)
def test_a_text_is_made_more_general(value: Any, parameters: dict[str, Any], left: Any) -> None:
    assert becomes(value, do="generalise", **parameters) == left


# --- Where rules go -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "left"),
    [
        ("a", {"a": 1, "ab": 2}, {"ab": 2}),
        ("a.b", {"a": {"b": 1, "c": 2}, "b": 3}, {"a": {"c": 2}, "b": 3}),
        ("a.b", {"a": "b"}, {"a": "b"}),
        ("a.b", {"a": [{"b": 1}, [{"b": 2}], 3]}, {"a": [{}, [{}], 3]}),
        ("a.b.c", {"a": [{"b": {"c": 1}}, {"b.c": 2}]}, {"a": [{"b": {}}, {}]}),
        ("a.*", {"a": [1, {"b": 2}]}, {"a": []}),
        ("a.*", {"a": {"b": 1, "c": {}}}, {"a": {}}),
        ("*.b", {"a": {"b": 1}, "c": [{"b": 2, "d": 3}]}, {"a": {}, "c": [{"d": 3}]}),
        ("a.*.b", {"a": [{"b": 1, "c": 2}]}, {"a": [{"c": 2}]}),
        ("*", {"a": 1, "b": [2]}, {}),
        ("http.url", {"http.url": 1, "http": {"url": 2, "code": 3}}, {"http": {"code": 3}}),
        ("a.b.c", {"a.b": {"c": 1}, "a": {"b.c": 2}, "a.b.c": 3}, {"a.b": {}, "a": {}}),
        ("http.*", {"http.url": 1, "http.url.path": 2, "http": {"x": 3}},
         {"http.url.path": 2, "http": {}}),
        ("*.url", {"http.url": 1, "http.x": 2}, {"http.x": 2}),
        ("http", {"http.url": 1}, {"http.url": 1}),
        ("é\"\\", {"é\"\\": 1, "b": 2}, {"b": 2}),
        ("a", {"a": {"a": 1}}, {}),
        ("a.a", {"a": {"a": 1, "a.a": 2}}, {"a": {"a.a": 2}}),
    ],
)  # fmt: skip
def test_a_path_names_these(path: str, value: dict[str, Any], left: Any) -> None:
    assert stored([{"property": path, "do": "drop"}], value) == left


@pytest.mark.parametrize(
    ("paths", "value", "left"),
    [
        ([], {"a": 1}, {}),
        (["a"], {"a": {"b": [1]}, "c": 2}, {"a": {"b": [1]}}),
        (["a.b"], {"a": {"b": 1, "c": 2}, "b": 3}, {"a": {"b": 1}}),
        (["a.b"], {"a": "b"}, {}),
        (["a.b"], {"a": [{"b": 1, "c": 2}, 3, {"c": 4}]}, {"a": [{"b": 1}]}),
        (["a.*.b"], {"a": [{"b": 1, "c": 2}], "d": {"b": 3}}, {"a": [{"b": 1}]}),
        (["a.*"], {"a": [1, 2], "b": [3]}, {"a": [1, 2]}),
        (["*.id"], {"a": {"id": 1, "x": 2}, "id": 3}, {"a": {"id": 1}}),
        (["a.b", "a.c"], {"a": {"b": 1, "c": 2, "d": 3}}, {"a": {"b": 1, "c": 2}}),
        (["http.url"], {"http.url": 1, "http.x": 2}, {"http.url": 1}),
    ],
)
def test_a_keep_list_keeps_these(paths: list[str], value: dict[str, Any], left: Any) -> None:
    assert stored([{"keep": paths}], value) == left


def test_a_keep_list_is_for_the_events_own_texts_too() -> None:
    one = record({"a": 1}, message="told", scope="page", client_version="2.1")
    Rules.parse([{"keep": ["scope"]}]).apply([one], PSEUDONYMS)
    assert (one.message, one.scope, one.client_version) == (None, "page", None)
    assert one.properties == b"{}"


def test_what_any_of_several_keep_lists_names_stays() -> None:
    rules = [{"keep": ["a"]}, {"event": "opened", "keep": ["b"]}]
    value = {"a": 1, "b": 2, "c": 3}
    assert stored(rules, value) == {"a": 1, "b": 2}
    assert stored(rules, value, name="closed") == {"a": 1}
    assert stored(rules[1:], value, name="closed") == value


def test_keep_lists_come_before_the_rules_wherever_they_stand() -> None:
    rules = [{"property": "a", "do": "redact"}, {"keep": ["a.b"]}]
    assert stored(rules, {"a": {"b": 1, "c": 2}}) == {"a": "[redacted]"}
    assert stored(rules, {"a": {"c": 2}}) == {}


def test_rules_for_one_property_are_applied_in_their_order() -> None:
    to_segments = {"property": "v", "do": "generalise", "segments": 1}
    to_group = {"property": "v", "do": "generalise", "groups": {"2": "new"}, "other": "old"}
    assert stored([to_segments, to_group], {"v": "2.1"}) == {"v": "new"}
    assert stored([to_group, to_segments], {"v": "2.1"}) == {"v": "old"}


def test_a_rule_may_be_for_one_event_only() -> None:
    rules = [{"event": "opened", "property": "a", "do": "drop"}, {"property": "b", "do": "drop"}]
    assert stored(rules, {"a": 1, "b": 2}) == {}
    assert stored(rules, {"a": 1, "b": 2}, name="closed") == {"a": 1}
    together = [record({"a": 1}), record({"a": 1}, name="closed")]
    Rules.parse(rules).apply(together, PSEUDONYMS)
    assert [decode(one.properties) for one in together] == [{}, {"a": 1}]


@pytest.mark.parametrize("path", ["message", "*"])
def test_an_events_own_texts_are_named_like_properties(path: str) -> None:
    one = record({"message": "inside"}, message="told", scope=None)
    Rules.parse([{"property": path, "do": "redact"}]).apply([one], PSEUDONYMS)
    assert (one.message, one.scope) == ("[redacted]", None)
    assert decode(one.properties) == {"message": "[redacted]"}
    Rules.parse([{"property": path, "do": "bucketise", "edges": [1]}]).apply([one], PSEUDONYMS)
    assert one.message is None


def test_what_an_event_is_counted_by_is_no_property() -> None:
    one = record({"level": "x"}, name="opened", level="info")
    Rules.parse([{"property": "*", "do": "drop"}, {"keep": []}]).apply([one], PSEUDONYMS)
    assert (one.name, one.level, one.category) == ("opened", "info", "application")
    assert one.user_id
    assert one.session_id


def test_tags_are_the_properties_of_a_measurement() -> None:
    one = point({"region": "eu-1", "host": "h"}, node="n1")
    rules = [{"property": "host", "do": "drop"}, {"property": "region", "do": "redact"}]
    Rules.parse(rules).apply([one], PSEUDONYMS)
    assert decode(one.tags) == {"region": "[redacted]"}
    assert one.node == "n1"
    Rules.parse([{"keep": []}]).apply([one], PSEUDONYMS)
    assert one.tags == b"{}"


def test_a_record_that_no_rule_hits_is_left_as_it_is() -> None:
    one = record({"a": {"b": 1}})
    before = one.properties
    Rules.parse([{"property": "c", "do": "drop"}]).apply([one], PSEUDONYMS)
    assert one.properties is before
    assert not Rules()
    assert not Rules.parse([])


# --- What is no rule ------------------------------------------------------------------------------

GOOD = {"property": "a", "do": "drop"}
WRONG: list[tuple[Any, str]] = [
    ({}, "must be a list"),
    (None, "must be a list"),
    ([GOOD] * (MOST_RULES + 1), "101 rules; at most 100"),
    ([GOOD, "drop"], "Rule 2 must be an object"),
    ([{"property": "a"}], "Rule 1, do: must be one of drop, redact, hash,"),
    ([{"property": "a", "do": ["drop"]}], "Rule 1, do:"),
    ([{"do": "drop"}], "Rule 1, property: is missing."),
    ([GOOD, {"property": "a..b", "do": "drop"}], "Rule 2, property: must be names with dots"),
    ([{"property": "", "do": "drop"}], "Rule 1, property: must have 1 to 200 characters"),
    ([{"property": "a\0", "do": "drop"}], "Rule 1, property: must be a text without control"),
    ([{"property": "\ud800", "do": "drop"}], "Rule 1, property: must be a text without control"),
    ([{"property": 1, "do": "drop"}], "Rule 1, property: must be a text"),
    ([{"property": ".".join("a" * 17), "do": "drop"}], "Rule 1, property: has 17 names;"),
    ([{"property": "*.*.*.*.*", "do": "drop"}], "Rule 1, property: may have 4 * at most"),
    ([{**GOOD, "edges": [1]}], "Rule 1, 'edges': there is no such field here; there are property"),
    ([{**GOOD, "x" * 1000: 1}], "Rule 1, 'xxx"),
    ([{**GOOD, "event": ""}], "Rule 1, event: must have 1 to 200"),
    ([{**GOOD, "event": None}], "Rule 1, event: is missing"),
    ([{"keep": "a"}], "Rule 1, keep: must be a list of properties"),
    ([{"keep": ["a", 2]}], "Rule 1, keep: must be a text"),
    ([{"keep": ["a"] * 101}], "Rule 1, keep: lists 101; at most 100"),
    ([{"keep": ["a"], "do": "drop"}], "Rule 1, 'do': there is no such field here"),
    *(
        ([{"property": "a", "do": "bucketise", "edges": edges}], f"Rule 1, edges: {why}")
        for edges, why in (
            (None, "must be a list of numbers"), ("1", "must be a list of numbers"),
            ([1, "2"], "must be a list of numbers"), ([True], "must be a list of numbers"),
            ([float("nan")], "must be a list of numbers"), ([10**400], "must be a list of numbers"),
            ([float("inf")], "must be a list of numbers"), ([], "must have 1 to 100"),
            ([*range(101)], "must have 1 to 100"), ([1, 1], "must ascend"), ([2, 1], "must ascend"),
        )
    ),
    *(
        ([{"property": "a", "do": "truncate_time", "to": to}], "Rule 1, to: must be one of hour,")
        for to in (None, "minute", ["day"], 1)
    ),
    *(
        ([{"property": "a", "do": "generalise", **rest}], f"Rule 1, {why}")
        for rest, why in (
            ({}, "segments: generalise takes either"),
            ({"segments": 1, "groups": {"a": "b"}}, "segments: generalise takes either"),
            ({"segments": 0}, "segments: must be a whole number from 1 to 16"),
            ({"segments": True}, "segments: must be a whole number"),
            ({"segments": 1, "other": "x"}, "other: goes with groups"),
            ({"segments": 1, "separator": ""}, "separator: must have 1 to"),
            ({"groups": {"a": "b"}, "separator": "/"}, "separator: goes with segments"),
            ({"groups": {}}, "groups: must be an object"),
            ({"groups": ["a"]}, "groups: must be an object"),
            ({"groups": {str(n): "x" for n in range(101)}}, "groups: must be an object of 1 to"),
            ({"groups": {"a": 1}}, "groups: must be a text"),
            ({"groups": {"a": "b"}, "other": None}, "other: is missing"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "why"), WRONG)
def test_what_is_wrong_is_said_with_the_rules_number_and_the_field(content: Any, why: str) -> None:
    with pytest.raises(InvalidRules) as wrong:
        Rules.parse(content)
    assert why in str(wrong.value)
    assert len(str(wrong.value)) < 300
