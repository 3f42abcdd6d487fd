"""Privacy rules hold for any JSON: what is listed goes wherever it stands, and nothing fails."""

import json
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from privacy.rules import DOES, MOST_WILD, InvalidRules, Rules
from privacy.subjects import Pseudonyms
from tests.privacy.test_scrubbing import point, record

PSEUDONYMS = Pseudonyms(b"p" * 32, 1)
decode = msgspec.json.decode
often = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

SECRET = "planted7f3a"
names = st.sampled_from(["a", "b", "c", "a.b", "b.c", "message", "é", 'q"', "x" * 40])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
times = st.sampled_from(["2026-11-21T10:00:00Z", "1990-05-17", "0001-01-01T00:00:00+05:00"])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=20) | times
values = st.recursive(
    scalars,
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(names, deeper, max_size=4),
)
objects = st.dictionaries(names, values, max_size=5)
segments = st.sampled_from(["a", "b", "c", "message", "é", 'q"', "x" * 40, "*"])
paths = st.lists(segments, min_size=1, max_size=4).map(".".join)
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "bucketise": [{"edges": [0]}, {"edges": [-1.5, 2, 1e9]}],
    "truncate_time": [{"to": to} for to in ("hour", "day", "month")],
    "generalise": [{"segments": 1, "separator": "a"}, {"groups": {"a": "b"}, "other": "c"}],
}
rules = st.sampled_from(sorted(DOES)).flatmap(
    lambda does: st.builds(
        lambda path, rest: {"property": path, "do": does, **rest},
        paths,
        st.sampled_from(PARAMETERS.get(does, [{}])),
    )
)
entries = rules | st.lists(paths, max_size=4).map(lambda kept: {"keep": kept})
# Names as they may stand in JSON: one by one, in lists, several as one key.
steps = st.sampled_from(["a", "b", "é", 'q"'])


def everything(one: Any) -> str:
    return json.dumps([one.message, one.scope, one.client_version, decode(one.properties)])


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A path, and an object in which something stands there."""
    path: list[str] = []
    value: Any = draw(st.sampled_from([SECRET, [SECRET], {"z": SECRET}, [[{"z": [SECRET]}]]]))
    for _ in range(draw(st.integers(1, 4))):
        if path and draw(st.booleans()):
            value = [draw(values), value]
            # A name goes through the list, a * would be its element.
            if path[0] == "*" or draw(st.booleans()):
                path.insert(0, "*")
        key = draw(st.lists(steps, min_size=1, max_size=3))
        value = {**draw(objects), ".".join(key): value}
        path[:0] = ["*" if draw(st.integers(0, 3)) == 0 else name for name in key]
    assume(path.count("*") <= MOST_WILD)
    return ".".join(path), value


@often
@given(planted(), st.sampled_from(sorted(DOES)))
def test_what_a_rule_names_never_stays_wherever_it_stands(
    plant: tuple[str, dict[str, Any]], does: str
) -> None:
    path, value = plant
    rest = {
        "bucketise": {"edges": [1]},
        "truncate_time": {"to": "day"},
        "generalise": {"groups": {"k": "g"}, "other": "o"},
    }.get(does, {})
    one = record(value)
    Rules.parse([{"property": path, "do": does, **rest}]).apply([one], PSEUDONYMS)
    assert SECRET not in everything(one), (path, value)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Scalars and where they stand; lists count for nothing, a key with dots as several."""
    if isinstance(value, dict):
        return [
            leaf for key, item in value.items() for leaf in leaves(item, (*path, *key.split(".")))
        ]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, path)]
    return [(path, value)]


@often
@given(objects, st.lists(st.lists(steps, min_size=1, max_size=3), max_size=4))
def test_a_keep_list_keeps_what_it_names_and_nothing_else(
    value: dict[str, Any], listed: list[list[str]]
) -> None:
    one = record(value, message="told", scope="page")
    kept = [".".join(path) for path in listed]
    Rules.parse([{"keep": kept}]).apply([one], PSEUDONYMS)
    assert (one.message, one.scope, one.client_version) == (None, None, None)
    for path, _ in leaves(decode(one.properties)):
        assert any(path[: len(names)] == tuple(names) for names in listed)
    # A key with dots is taken as a whole, so what may be longer than what is listed is left out.
    for key, item in value.items():
        if [key] in listed:
            assert decode(one.properties)[key] == decode(msgspec.json.encode(item))


@often
@given(st.lists(entries, max_size=8), st.lists(objects, min_size=1, max_size=4), st.text())
def test_rules_fail_on_no_json_and_leave_json(
    content: list[Any], bodies: list[dict[str, Any]], text: str
) -> None:
    found = Rules.parse(content)
    records: list[Any] = [record(body, message=text) for body in bodies]
    records += [point(body) for body in bodies]
    found.apply(records, PSEUDONYMS)
    for one in records:
        assert isinstance(decode(getattr(one, "properties", None) or one.tags), dict)


@often
@given(st.recursive(scalars, lambda deeper: st.lists(deeper) | st.dictionaries(
    st.sampled_from(["property", "do", "keep", "event", "edges", "to", "groups", "x"]),
    deeper | st.sampled_from([*DOES, "a.b"]),
)))  # fmt: skip
def test_anything_is_a_rule_or_is_refused_as_one(content: Any) -> None:
    with suppress(InvalidRules):
        Rules.parse(content).apply([record({"a": {"b": 1}})], PSEUDONYMS)
