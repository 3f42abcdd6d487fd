"""Properties of every decoder: whatever is sent, it answers, and what it takes can be kept."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.formats import FORMATS
from ingest.formats.events import decode
from ingest.payloads import pack, unpack
from ingest.records import (
    CATEGORIES,
    EPOCH,
    KINDS,
    DecodedBatch,
    Envelope,
    MalformedBatch,
    Point,
    Record,
    StoredPoint,
    StoredRecord,
    microseconds,
)

fuzz = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
every_format = pytest.mark.parametrize("name", sorted(FORMATS))
# Those whose bodies hold many items, and what these are called in a batch.
ITEMS = {"events": "events", "submit": "events", "client_telemetry": "events", "metrics": "metrics"}
every_batch_format = pytest.mark.parametrize("name", ITEMS)

DEPTH = 16
NAME_LENGTH = 200
TIME = "2026-11-20T10:30:00Z"

# Anything JSON can say, and some of what Python's encoder says beyond it.
any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text | st.just("k" * 201), inner, max_size=4)
        | inner.map(lambda value: [[[[[[[[value]]]]]]]])
    ),
    max_leaves=10,
)
any_moment = (
    st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat)
    | st.integers(10**11, 253_402_300_799_999)
    | any_value
)
any_word = any_value | st.sampled_from(["x", "", "u" * 200])
any_number = st.integers() | st.floats() | any_value
any_summary = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("count", "sum", "min", "max", "avg"), any_number)
)

# Of each format a good item, and what may be in the place of its fields.
GOOD: dict[str, dict[str, Any]] = {
    "events": {"event": "x", "timestamp": TIME, "user_id": "u"},
    "submit": {"eventType": "x", "timestamp": 1_795_170_600_123, "sessionId": 7},
    "client_telemetry": {
        "level": "info",
        "scope": "x",
        "sessionId": "s",
        "message": "m",
        "timestamp": TIME,
    },
    "metrics": {"name": "x", "type": "gauge", "value": 1, "tags": {"a": 1}},
    "snapshot": {"node_id": "n", "timestamp": TIME, "cpu_percent": 45.2, "fans": 3},
}
native_fields = {
    "event": any_word,
    "timestamp": any_moment,
    "user_id": any_word,
    "session_id": any_word,
    "category": any_value | st.sampled_from(sorted(CATEGORIES)),
    "level": any_word,
    "message": any_word,
    "properties": any_value,
    "other": any_value,
}
FIELDS: dict[str, dict[str, Any]] = {
    "events": native_fields,
    "submit": native_fields
    | {"eventType": any_word, "sessionId": any_word, "userId": any_word, "eventData": any_value},
    "client_telemetry": {
        "level": any_value | st.sampled_from(["info", "warn", "error"]),
        "scope": any_word,
        "sessionId": any_word,
        "message": any_word,
        "timestamp": any_moment,
        "requestId": any_word,
        "userId": any_word,
        "context": any_value | st.fixed_dictionaries({}, optional={"userId": any_word}),
        "other": any_value,
    },
    "metrics": {
        "name": any_word,
        "type": any_value | st.sampled_from(sorted(KINDS)),
        "value": any_number | st.lists(any_number, max_size=3) | any_summary,
        "timestamp": any_moment,
        "tags": any_value | st.dictionaries(any_text, any_value, max_size=3),
        "node_id": any_word,
        "user_id": any_word,
        "temporality": any_value | st.sampled_from(["delta", "cumulative"]),
        "other": any_value,
    },
    "snapshot": {
        "node_id": any_word,
        "timestamp": any_moment,
        "cpu_percent": any_number,
        "other": any_value,
        "batch_id": any_value,
    },
}
ENVELOPE: dict[str, Any] = {
    "batch_id": any_value | st.uuids().map(str),
    "timestamp": any_moment,
    "client_version": any_value,
    "user_id": any_word,
    "session_id": any_word,
    "node_id": any_word,
    "category": any_value,
    "temporality": any_value | st.sampled_from(["delta", "cumulative"]),
}

# Each of these bodies has no more brackets than one of flat items might have.
deep: Any = []
for _ in range(20):
    deep = [deep]


def any_item(name: str) -> st.SearchStrategy[Any]:
    """Of a format: items that are good but for a field, of fields that are anything, anything."""
    fields = FIELDS[name]
    almost_good = st.fixed_dictionaries({}, optional=fields) | st.dictionaries(
        any_text, any_value, max_size=3
    )
    return (
        almost_good.map(lambda odd: GOOD[name] | odd)
        | st.fixed_dictionaries({}, optional=fields)
        | any_value
    )


def any_body(name: str) -> st.SearchStrategy[Any]:
    """Of a format: batches, lists and single items; of snapshots these alone make sense."""
    items = st.lists(any_item(name), max_size=5)
    batch = st.fixed_dictionaries({ITEMS.get(name, "events"): items | any_value}, optional=ENVELOPE)
    return (batch | items | any_item(name)) if name in ITEMS else any_item(name) | items


# What a good client sends.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
moment = st.datetimes(timezones=st.just(UTC))
good_event = st.fixed_dictionaries(
    {"event": word, "timestamp": moment, "user_id": word},
    optional={
        "session_id": word,
        "category": st.sampled_from(sorted(CATEGORIES)),
        "level": word,
        "message": text,
        "properties": st.dictionaries(text, value, max_size=4),
    },
)
extremes = st.tuples(finite, finite).map(sorted)
good_summary = st.tuples(st.integers(1, 2**63 - 1), finite, extremes).map(
    lambda parts: {"count": parts[0], "sum": parts[1], "min": parts[2][0], "max": parts[2][1]}
)
good_measure = st.one_of(
    st.tuples(st.just("counter"), st.floats(0, 1e300)),
    st.tuples(st.sampled_from(["gauge", "meter"]), finite),
    st.tuples(st.just("histogram"), st.lists(finite, min_size=1, max_size=5)),
    st.tuples(st.just("summary"), good_summary),
)
good_metric = st.tuples(
    good_measure,
    st.fixed_dictionaries(
        {"name": word},
        optional={
            "timestamp": moment,
            "tags": st.dictionaries(text, st.booleans() | finite | text, max_size=4),
            "node_id": word,
            "user_id": word,
        },
    ),
).map(lambda pair: pair[1] | {"type": pair[0][0], "value": pair[0][1]})


def outcome(name: str, body: bytes) -> DecodedBatch | None:
    """The batch, or None for a malformed one; anything else raised fails the test."""
    try:
        return FORMATS[name](body, Envelope(users_optional=True))
    except MalformedBatch as reason:
        check_refusal(reason)
        return None


def check_refusal(reason: MalformedBatch) -> None:
    """It goes to the client as UTF-8, and its code to the database."""
    told = f"{reason.code} {reason.details} {reason.field}"
    assert "\0" not in told.encode().decode()


def check(batch: DecodedBatch) -> None:
    """Every item is a record, some points or a rejection, and all of it can be kept."""
    places = {record.position for record in batch.records}
    refused = [rejection.index for rejection in batch.rejections]
    assert sorted([*places, *refused]) == list(range(batch.received))
    keys = {(record.position, getattr(record, "part", 0)) for record in batch.records}
    assert len(keys) == len(batch.records)
    assert batch.sent_at is None or batch.sent_at.tzinfo is not None
    for told in (batch.user_id, batch.node):
        assert told is None or 0 < len(told) <= NAME_LENGTH
    for rejection in batch.rejections:
        shown = json.dumps(rejection.report | {"shape": rejection.shape}, ensure_ascii=False)
        assert "\0" not in shown.encode().decode()
    stored = [keepable(record) for record in batch.records]
    assert unpack(pack(stored)) == stored


def keepable(record: Record | Point) -> StoredRecord | StoredPoint:
    subject = None if record.user_id is None else record.user_id.encode()[:16]
    if isinstance(record, Point):
        check_point(record)
        return StoredPoint(
            record.position,
            record.part,
            0 if record.occurred_at is None else microseconds(record.occurred_at),
            record.name,
            record.kind,
            subject,
            record.node,
            record.tags,
            record.cumulative,
            record.value,
            record.samples,
            record.count,
            record.sum,
            record.min,
            record.max,
            record.weights,
            None if record.started_at is None else microseconds(record.started_at),
        )
    check_properties(record.properties)
    return StoredRecord(
        record.position,
        microseconds(record.occurred_at),
        record.name,
        subject,
        None if record.session_id is None else record.session_id.encode()[:16],
        record.category,
        record.level,
        record.scope,
        record.client_version,
        record.message,
        record.properties,
    )


def check_point(point: Point) -> None:
    """What its kind measures is there, finite and of one type, and nothing else is."""
    check_properties(point.tags)
    assert 0 < len(point.name) <= NAME_LENGTH
    summed = (point.count, point.sum, point.min, point.max)
    if point.kind == "summary":
        assert point.value is None
        assert point.samples is None
        assert type(point.count) is int
        assert 0 <= point.count < 2**63
        floats = [point.sum] if point.count == 0 else [point.sum, point.min, point.max]
    elif point.kind == "histogram":
        assert (point.value, summed) == (None, (None,) * 4)
        assert point.samples
        floats = point.samples
    else:
        assert (point.samples, summed) == (None, (None,) * 4)
        floats = [point.value]
    assert all(type(number) is float and math.isfinite(number) for number in floats)
    assert point.kind == "counter" or not point.cumulative


def check_properties(properties: bytes) -> None:
    """Strict JSON that PostgreSQL takes as jsonb and that keeps the bounds."""
    found = json.loads(
        properties.decode("utf-8"), object_pairs_hook=without_repeats, parse_constant=no_constant
    )
    assert isinstance(found, dict)
    check_value(found, DEPTH)


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


def no_constant(name: str) -> None:
    raise AssertionError(name)


def check_value(found: Any, levels: int) -> None:
    if isinstance(found, str):
        assert "\0" not in found.encode().decode()
    elif isinstance(found, dict):
        assert levels > 0
        for name, inner in found.items():
            assert len(name) <= NAME_LENGTH
            check_value(name, 0)
            check_value(inner, levels - 1)
    elif isinstance(found, list):
        assert levels > 0
        for inner in found:
            check_value(inner, levels - 1)
    elif isinstance(found, int):
        assert -(2**63) <= found < 2**64


def encoded(content: Any, ascii_only: bool = True) -> bytes:
    return json.dumps(content, ensure_ascii=ascii_only).encode(errors="surrogatepass")


@every_format
@fuzz
@given(body=st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_malformed(name: str, body: bytes):
    if (batch := outcome(name, body)) is not None:
        check(batch)


@every_format
@fuzz
@given(data=st.data(), ascii_only=st.booleans())
def test_any_json_is_a_batch_or_malformed(name: str, data: st.DataObject, ascii_only: bool):
    if (batch := outcome(name, encoded(data.draw(any_body(name)), ascii_only))) is not None:
        check(batch)


@every_batch_format
@pytest.mark.parametrize("odd", [{"a": deep}, {"a": {"k" * 201: 1}}], ids=["deep", "a long name"])
def test_bounds_are_kept_beside_what_is_no_object(name: str, odd: dict[str, Any]):
    batch = outcome(name, encoded([1] * 30 + [GOOD[name] | odd]))
    assert batch is not None
    assert batch.records == []


@every_format
@fuzz
@given(data=st.data())
def test_a_body_cut_short_is_malformed(name: str, data: st.DataObject):
    body = encoded(data.draw(any_body(name)))
    if body[:1] in b"[{":
        assert outcome(name, body[: data.draw(st.integers(0, len(body) - 1))]) is None


@every_format
@fuzz
@given(data=st.data(), at=st.integers(0, 400), damage=st.binary(min_size=1, max_size=4))
def test_a_damaged_body_is_a_batch_or_malformed(
    name: str, data: st.DataObject, at: int, damage: bytes
):
    body = encoded(data.draw(any_body(name)))
    if (batch := outcome(name, body[:at] + damage + body[at + 1 :])) is not None:
        check(batch)


@every_batch_format
@fuzz
@given(data=st.data())
def test_every_item_of_a_list_is_accounted_for(name: str, data: st.DataObject):
    content = data.draw(st.lists(any_item(name), min_size=1, max_size=5))
    batch = outcome(name, encoded(content))
    assert batch is not None
    assert batch.received == len(content)


@every_batch_format
@fuzz
@given(data=st.data())
def test_a_list_and_a_batch_of_the_same_items_fare_alike(name: str, data: st.DataObject):
    content = data.draw(st.lists(any_item(name), min_size=1, max_size=5))
    assert outcome(name, encoded(content)) == outcome(name, encoded({ITEMS[name]: content}))


@every_batch_format
@fuzz
@given(data=st.data())
def test_an_item_fares_alike_beside_one_that_is_odd(name: str, data: st.DataObject):
    """A neighbour that needs the careful path changes nothing for the others."""
    content = data.draw(any_item(name))
    alone = outcome(name, encoded([content, 0]))
    beside = outcome(name, encoded([content, math.nan]))
    assert alone is not None
    assert beside is not None
    assert alone.records == beside.records
    assert [problem.code for problem in alone.rejections] == [
        problem.code for problem in beside.rejections
    ]


@every_format
@fuzz
@given(data=st.data())
def test_the_careful_path_gives_what_the_fast_one_does(name: str, data: st.DataObject):
    """An escaped colon makes any body one that has to be looked at item by item."""
    content = data.draw(any_item(name))
    whole = {ITEMS[name]: [content]} if name in ITEMS else content
    if isinstance(whole, dict):
        careful = encoded(whole | {"extra": "colon"}).replace(b'"colon"', b'"\\u003a"')
        assert outcome(name, encoded(whole | {"extra": ":"})) == outcome(name, careful)


# What may be anything, but often is what can be decoded directly.
almost_flat = st.dictionaries(
    any_text | st.just("k" * 201), any_value | st.integers() | st.just(2**63), max_size=4
)


@fuzz
@given(
    st.lists(good_event | any_item("events"), max_size=3),
    st.lists(good_event, min_size=1, max_size=2),
    almost_flat,
    st.fixed_dictionaries({}, optional={name: st.just("") | ENVELOPE[name] for name in ENVELOPE}),
    st.booleans(),
)
def test_a_body_fares_alike_whether_it_is_decoded_directly(
    items: list[Any],
    good: list[Any],
    properties: dict[str, Any],
    batch: dict[str, Any],
    optional: bool,
):
    """One that has a field of no batch isn't."""
    good[0]["properties"] = properties
    whole = batch | {"events": items + good}
    direct, loaded = (
        _decoded(json.dumps(body, default=datetime.isoformat).encode(), optional)
        for body in (whole, whole | {"extra": 1})
    )
    assert direct == loaded


def _decoded(body: bytes, users_optional: bool) -> Any:
    try:
        return decode(body, Envelope(users_optional=users_optional))
    except MalformedBatch as reason:
        return reason.args


@fuzz
@given(st.lists(good_event, min_size=1, max_size=5), st.uuids(), word, st.booleans())
def test_a_good_batch_decodes_to_what_was_sent(
    sent: list[dict[str, Any]], batch_id: Any, version: str, ascii_only: bool
):
    content = {"batch_id": str(batch_id), "client_version": version, "events": sent}
    body = json.dumps(content, ensure_ascii=ascii_only, default=datetime.isoformat).encode()
    batch = decode(body, Envelope())
    assert batch.batch_id == batch_id
    assert batch.rejections == []
    assert [record.client_version for record in batch.records] == [version] * len(sent)
    assert [as_sent(record) for record in batch.records] == [
        {"session_id": None, "category": "application", "level": None, "message": None}
        | {"properties": {}}
        | event
        for event in sent
    ]
    check(batch)


def as_sent(record: Any) -> dict[str, Any]:
    return {
        "event": record.name,
        "timestamp": record.occurred_at,
        "user_id": record.user_id,
        "session_id": record.session_id,
        "category": record.category,
        "level": record.level,
        "message": record.message,
        "properties": json.loads(record.properties),
    }


@fuzz
@given(st.lists(good_metric, min_size=1, max_size=5))
def test_good_metrics_decode_to_what_was_sent(sent: list[dict[str, Any]]):
    body = json.dumps({"metrics": sent}, default=datetime.isoformat).encode()
    batch = FORMATS["metrics"](body, Envelope())
    assert batch.rejections == []
    assert [as_measured(point) for point in batch.records] == [
        {"timestamp": None, "tags": {}, "node_id": None, "user_id": None} | metric
        for metric in sent
    ]
    check(batch)


def as_measured(point: Any) -> dict[str, Any]:
    summed = {"count": point.count, "sum": point.sum, "min": point.min, "max": point.max}
    value = {"histogram": point.samples, "summary": summed}.get(point.kind, point.value)
    return {
        "name": point.name,
        "type": point.kind,
        "value": value,
        "timestamp": point.occurred_at,
        "tags": json.loads(point.tags),
        "node_id": point.node,
        "user_id": point.user_id,
    }


@fuzz
@given(good_event, st.dictionaries(text, value, max_size=4))
def test_other_fields_end_in_the_properties(event: dict[str, Any], other: dict[str, Any]):
    given_properties = event.get("properties", {})
    extra = {f"x-{name}": item for name, item in other.items()}
    inner = {f"p-{name}": item for name, item in given_properties.items()}
    body = json.dumps(event | extra | {"properties": inner}, default=datetime.isoformat)
    (record,) = decode(body.encode(), Envelope()).records
    assert isinstance(record, Record)
    assert json.loads(record.properties) == extra | inner


@fuzz
@given(st.datetimes(timezones=st.timezones()))
def test_microseconds_of_any_moment_are_exact(moment: datetime):
    # Not by way of UTC, which has no name for the ends of years 1 and 9999 elsewhere.
    offset = moment.utcoffset()
    assert offset is not None
    naive = moment.replace(tzinfo=None) - EPOCH.replace(tzinfo=None)
    assert microseconds(moment) == (naive - offset) // datetime.resolution
