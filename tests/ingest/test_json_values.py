"""Strict, bounded JSON: what breaks a rule on text or numbers, and whom that costs."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest
from django.db import connection as django_connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.formats import FORMATS
from ingest.formats.events import decode
from ingest.records import DecodedBatch, Envelope, MalformedBatch, Point
from tests.harness import Service

TIME = "2026-11-20T10:30:00Z"
GOOD = b'{"event": "x", "timestamp": "%s", "user_id": "u"}' % TIME.encode()
EVENT = b'{"event": "x", "timestamp": "%s", "user_id": "u", %%s}' % TIME.encode()
# Makes any batch one that has to be looked at event by event.
ODD = EVENT % b'"odd": NaN'
# An item of each format, open at its end for something odd.
ITEMS = {
    "events": EVENT,
    "submit": EVENT,
    "client_telemetry": b"""{"level": "info", "scope": "x", "sessionId": "s", "message": "m",
        "timestamp": "%s", "user_id": "u", %%s}"""
    % TIME.encode(),
    "metrics": b'{"name": "x", "type": "gauge", "value": 1, "user_id": "u", %s}',
}

fuzz = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def decoded(*events: bytes) -> DecodedBatch:
    return decode(b"[" + b", ".join(events) + b"]", Envelope())


# What stands in an event -> its code, or None where it is taken.
VALUES = {
    "a key twice": (b'"a": 1, "a": 2', "duplicate_key"),
    "a key twice, the same value": (b'"a": 1, "a": 1', "duplicate_key"),
    "a key twice, once escaped": (b'"a": 1, "\\u0061": 2', "duplicate_key"),
    "a key twice below": (b'"a": [{"b": 1, "b": 2}]', "duplicate_key"),
    "a known key twice": (b'"user_id": "v"', "duplicate_key"),
    "a key twice beside an escaped colon": (b'"a": 1, "a": "\\u003a"', "duplicate_key"),
    "a key twice beside another escaped colon": (
        b'"a": 1, "a": 1, "b": "\\u003A"',
        "duplicate_key",
    ),
    "a key twice that holds an escaped colon": (b'"\\u003a": 1, "\\u003a": 1', "duplicate_key"),
    "an escaped colon": (b'"a": "\\u003a"', None),
    "colons": (b'"a:b": ":::"', None),
    "NUL": (b'"a": "\\u0000"', "invalid_character"),
    "NUL within": (b'"a": "before\\u0000after"', "invalid_character"),
    "NUL in a key": (b'"a\\u0000": 1', "invalid_character"),
    "NUL below": (b'"a": [[{"b": "\\u0000"}]]', "invalid_character"),
    "NUL in a known field": (b'"session_id": "\\u0000"', "invalid_character"),
    "an escaped backslash before u0000": (b'"a": "\\\\u0000"', None),
    "a high surrogate alone": (b'"a": "\\ud800"', "invalid_character"),
    "a low surrogate alone": (b'"a": "\\udc00"', "invalid_character"),
    "surrogates the wrong way round": (b'"a": "\\udc00\\ud800"', "invalid_character"),
    "a lone surrogate in a key": (b'"\\ud800": 1', "invalid_character"),
    "a pair of surrogates": (b'"a": "\\ud83d\\ude00"', None),
    "no UTF-8": (b'"a": "\xff"', "invalid_character"),
    "no UTF-8 in a key": (b'"\xc3": 1', "invalid_character"),
    "a surrogate in UTF-8": (b'"a": "\xed\xa0\x80"', "invalid_character"),
    "an overlong slash": (b'"a": "\xc0\xaf"', "invalid_character"),
    "UTF-8 cut short": (b'"a": "\xf0\x9f\x98"', "invalid_character"),
    "UTF-8": ('"a": "ä😀\ufeff\U0010ffff"'.encode(), None),
    "NaN": (b'"a": NaN', "number_out_of_range"),
    "Infinity": (b'"a": Infinity', "number_out_of_range"),
    "minus Infinity": (b'"a": [-Infinity]', "number_out_of_range"),
    "a float too large": (b'"a": 1e400', "number_out_of_range"),
    "a float too small": (b'"a": -1e400', "number_out_of_range"),
    "a float next to nothing": (b'"a": 1e-400', None),
    "the largest float": (b'"a": 1.7976931348623157e308', None),
    "the largest integer": (b'"a": 9223372036854775807', None),
    "the least integer": (b'"a": -9223372036854775808', None),
    "an integer of 65 bits": (b'"a": 18446744073709551616', "number_out_of_range"),
    "a negative integer of 65 bits": (b'"a": -9223372036854775809', "number_out_of_range"),
    "an integer of 25 digits": (b'"a": ' + b"9" * 25, "number_out_of_range"),
    "an integer of 5,000 digits": (b'"a": ' + b"9" * 5_000, "number_out_of_range"),
    "a negative integer of 5,000 digits": (b'"a": [-' + b"9" * 5_000 + b"]", "number_out_of_range"),
    "17 levels": (b'"a": ' + b"[" * 16 + b"]" * 16, "too_deep"),
    "17 levels of objects": (b'"a": ' + b'{"b":' * 15 + b"{}" + b"}" * 15, "too_deep"),
    "16 levels": (b'"a": ' + b"[" * 15 + b"]" * 15, None),
    "brackets in a text": (b'"a": "' + b"[" * 100 + b'"', None),
    "a long key": (b'"%s": 1' % (b"k" * 201), "name_too_long"),
    "a long key below": (b'"a": {"%s": 1}' % (b"k" * 201), "name_too_long"),
    "a key of 200 characters": (
        b'"%s": {"%s": 1}' % (("ä" * 200).encode(), ("😀" * 200).encode()),
        None,
    ),
}


@pytest.mark.parametrize(("inside", "code"), VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("odd", ["", '"odd": NaN'], ids=["beside a good one", "beside an odd one"])
@pytest.mark.parametrize("name", ITEMS)
def test_odd_value_costs_its_own_item_alone(
    name: str, inside: bytes, code: str | None, odd: str
) -> None:
    """And an item's verdict is the same whatever its neighbours are."""
    item = ITEMS[name]
    good = item % b'"good": 1'
    neighbour = item % odd.encode() if odd else good
    batch = FORMATS[name](b"[%s]" % b", ".join([good, item % inside, neighbour, good]), Envelope())
    codes = {found.index: found.code for found in batch.rejections}
    assert codes.pop(2, None) == ("number_out_of_range" if odd else None)
    assert codes == ({} if code is None else {1: code})
    assert batch.received == 4


@pytest.mark.parametrize(
    "name",
    ["NUL", "a lone surrogate in a key", "no UTF-8", "NaN", "a key twice", "a key twice below"],
)
@pytest.mark.parametrize("within", [b"%s", b'"extra": {%s}'], ids=["beside", "below"])
@pytest.mark.parametrize("wire", ITEMS)
def test_odd_value_in_the_envelope_refuses_the_batch(wire: str, within: bytes, name: str) -> None:
    inside, code = VALUES[name]
    items = b"metrics" if wire == "metrics" else b"events"
    body = b'{%s, "%s": [%s]}' % (within % inside, items, ITEMS[wire] % b'"good": 1')
    with pytest.raises(MalformedBatch) as caught:
        FORMATS[wire](body, Envelope())
    assert caught.value.code == code


@pytest.mark.parametrize(
    "envelope",
    [
        b'"user_id": "a", "user_id": "b", "events": [%s]',
        b'"events": [%s], "extra": 1, "extra": 1',
        b'"events": [], "events": [%s]',
        # Taken, these events would be gone without a word.
        b'"events": [{"event": "gone"}], "events": [%s]',
        b'"events": [%s], "\\u0065vents": []',
    ],
)
def test_envelope_with_a_key_twice_refuses_the_batch(envelope: bytes) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(b"{" + envelope % GOOD + b"}", Envelope())
    assert caught.value.code == "duplicate_key"


@pytest.mark.parametrize(
    "extra",
    [b'"%s": 1' % (b"k" * 201), b'"extra": %s' % (b"[" * 20 + b"]" * 20)],
    ids=["a long name", "nested deeply"],
)
def test_what_the_envelope_may_hold_does_not_depend_on_its_events(extra: bytes) -> None:
    def code(*events: bytes) -> str | None:
        try:
            decode(b'{%s, "events": [%s]}' % (extra, b",".join(events)), Envelope())
        except MalformedBatch as refused:
            return refused.code
        return None

    assert code(GOOD) == code(GOOD, ODD)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1, " * 40 + EVENT % (b'"a": ' + b"[" * 30 + b"]" * 30) + b"]",
        b'{"events": [' + b"1, " * 40 + EVENT % (b'"a": ' + b"[" * 30 + b"]" * 30) + b"]}",
        EVENT % (b'"a": ' + b"[" * 30 + b"]" * 30),
    ],
    ids=["list", "batch", "event"],
)
def test_depth_is_bounded_beside_what_is_no_object(body: bytes) -> None:
    batch = decode(body, Envelope())
    assert batch.records == []
    assert batch.rejections[-1].code == "too_deep"


@pytest.mark.parametrize("body", [b"", b" ", b"\n\t \r\n"])
def test_empty_body_says_that_it_is_empty(body: bytes) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(body, Envelope())
    assert caught.value.code == "empty_body"


@pytest.mark.parametrize(
    "body",
    [
        GOOD + b"x",
        GOOD + GOOD,
        GOOD + b"\n" + GOOD,
        GOOD + b"\0",
        GOOD + b"\xff",
        GOOD[:-1],
        GOOD[:1],
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD,
        b"\xff\xfe",
        b"\0",
        b"[%s,]" % GOOD,
        EVENT % b'"a": "\0"',
        EVENT % b'"a": "\n"',
        EVENT % b"\"a\": 'x'",
        EVENT % b'"a": "\\x"',
        EVENT % b'"a": "\\u12"',
        EVENT % b'"a": 01',
        EVENT % b'"a": 1.',
        EVENT % b'"a": +1',
        EVENT % b'"a": 0x1',
        EVENT % b'"a": undefined',
        EVENT % b"a: 1",
        EVENT % b"1: 1",
        EVENT % b'"a": 1 /* x */',
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(body, Envelope())
    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_beyond_all_measure_is_too_deep(opening: bytes) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(opening * 50_000, Envelope())
    assert caught.value.code == "too_deep"


def test_byte_order_mark_is_no_mistake() -> None:
    assert len(decode(b"\xef\xbb\xbf[" + GOOD + b"]", Envelope()).records) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(GOOD.decode().encode(encoding), Envelope())
    assert caught.value.code == "malformed_json"


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 50_000 + b"{}]",
        b"[" + b"[]," * 50_000 + b"[]]",
        b'{"events": [' + b"1," * 100_000 + b"1]}",
        b'{"a": "' + b"," * 100_001 + b'"}',
    ],
    ids=["objects", "lists", "numbers", "in a text"],
)
def test_body_of_too_many_values_is_refused_before_it_is_decoded(body: bytes) -> None:
    with pytest.raises(MalformedBatch) as caught:
        decode(body, Envelope())
    assert caught.value.code == "too_complex"


# --- what is accepted can be kept (test_decoder_properties has the rest) ---

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "event",
        "timestamp",
        "user_id",
        "session_id",
        "category",
        "level",
        "message",
        "properties",
        "a",
    ]
)
moments = st.datetimes(timezones=st.timezones() | st.just(UTC)).map(datetime.isoformat)
events = st.one_of(
    json_values,
    st.dictionaries(fields, json_values | moments, max_size=9),
    st.dictionaries(fields, json_values, max_size=4).map(
        lambda odd: {"event": "x", "timestamp": TIME, "user_id": "u"} | odd
    ),
)


@fuzz
@given(content=st.lists(events, min_size=1, max_size=5))
def test_postgresql_takes_every_accepted_record(service: Service, content: list[Any]) -> None:
    batch = decoded(*(json.dumps(event).encode() for event in content))
    with connection(service).cursor() as cursor:
        for found in batch.records:
            cursor.execute(
                "SELECT %s::jsonb, %s::text, %s::text",
                [found.properties.decode(), found.name, found.message],
            )
        for refused in batch.rejections:
            cursor.execute("SELECT %s::jsonb", [msgspec.json.encode(refused.shape).decode()])


@fuzz
@given(
    measured=st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values, min_size=1),
    kind=st.sampled_from(["gauge", "histogram", "summary"]),
    value=st.integers() | st.floats() | st.lists(st.floats(), max_size=3),
    tags=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
def test_postgresql_takes_every_accepted_point(
    service: Service, measured: dict[str, Any], kind: str, value: Any, tags: dict[str, Any]
) -> None:
    summary = {"count": value, "sum": 1, "min": value, "max": 1e308}
    metric = {"name": "x", "type": kind, "tags": tags}
    points: list[Any] = []
    for wire, body in (
        ("metrics", [metric | {"value": summary if kind == "summary" else value}]),
        ("snapshot", measured | {"node_id": "n", "timestamp": TIME}),
    ):
        try:
            points += FORMATS[wire](json.dumps(body).encode(), Envelope()).records
        except MalformedBatch:
            continue
    with connection(service).cursor() as cursor:
        for found in points:
            assert isinstance(found, Point)
            cursor.execute(
                "SELECT %s::jsonb, %s::float8, %s::float8[], %s::bigint, %s::float8",
                [found.tags.decode(), found.value, found.samples, found.count, found.min],
            )


def connection(service: Service) -> psycopg.Connection[Any]:
    django_connection.ensure_connection()
    found: psycopg.Connection[Any] = django_connection.connection
    return found
