"""Properties of the native decoder: whatever is sent, it answers, and what it takes can be kept."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.formats.events import decode
from ingest.payloads import pack, unpack
from ingest.records import (
    CATEGORIES,
    EPOCH,
    DecodedBatch,
    Envelope,
    MalformedBatch,
    Record,
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
DEPTH = 16
NAME_LENGTH = 200

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
any_moment = st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat)
GOOD = {"event": "x", "timestamp": "2026-11-20T10:30:00Z", "user_id": "u"}
# Each of these bodies has no more brackets than one of flat events might have.
deep: Any = []
for _ in range(20):
    deep = [deep]
too_deep = [1] * 30 + [GOOD | {"a": deep}]
too_long = [GOOD | {"a": {"k" * 201: 1}}]

almost_good_event = st.dictionaries(any_text, any_value, max_size=3).map(lambda odd: GOOD | odd)
any_event = (
    almost_good_event
    | any_value
    | st.fixed_dictionaries(
        {},
        optional={
            "event": any_value | st.just("x"),
            "timestamp": any_value | any_moment,
            "user_id": any_value | st.just("u"),
            "session_id": any_value,
            "category": any_value | st.sampled_from(sorted(CATEGORIES)),
            "level": any_value,
            "message": any_value,
            "properties": any_value,
            "other": any_value,
        },
    )
)
any_batch = st.fixed_dictionaries(
    {"events": st.lists(any_event, max_size=5) | any_value},
    optional={
        "batch_id": any_value | st.uuids().map(str),
        "timestamp": any_value | any_moment,
        "client_version": any_value,
        "user_id": any_value,
        "session_id": any_value,
        "category": any_value,
    },
)
any_body = any_batch | st.lists(any_event, max_size=5) | any_event

# What a good client sends.
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
word = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
good_event = st.fixed_dictionaries(
    {"event": word, "timestamp": st.datetimes(timezones=st.just(UTC)), "user_id": word},
    optional={
        "session_id": word,
        "category": st.sampled_from(sorted(CATEGORIES)),
        "level": word,
        "message": text,
        "properties": st.dictionaries(text, value, max_size=4),
    },
)


def outcome(body: bytes) -> DecodedBatch | None:
    """The batch, or None for a malformed one; anything else raised fails the test."""
    try:
        return decode(body, Envelope(users_optional=True))
    except MalformedBatch as reason:
        check_refusal(reason)
        return None


def check_refusal(reason: MalformedBatch) -> None:
    """It goes to the client as UTF-8, and its code to the database."""
    told = f"{reason.code} {reason.details} {reason.field}"
    assert "\0" not in told.encode().decode()


def check(batch: DecodedBatch) -> None:
    assert batch.received == len(batch.records) + len(batch.rejections)
    places = [record.position for record in batch.records]
    places += [rejection.index for rejection in batch.rejections]
    assert sorted(places) == list(range(batch.received))
    assert batch.sent_at is None or batch.sent_at.tzinfo is not None
    for rejection in batch.rejections:
        shown = json.dumps(rejection.report | {"shape": rejection.shape}, ensure_ascii=False)
        assert "\0" not in shown.encode().decode()
    for record in batch.records:
        check_properties(record.properties)
    stored = [keepable(record) for record in batch.records]
    assert unpack(pack(stored)) == stored


def keepable(record: Record) -> StoredRecord:
    return StoredRecord(
        record.position,
        microseconds(record.occurred_at),
        record.name,
        None if record.user_id is None else record.user_id.encode()[:16],
        None if record.session_id is None else record.session_id.encode()[:16],
        record.category,
        record.level,
        record.scope,
        record.client_version,
        record.message,
        record.properties,
    )


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


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_malformed(body: bytes):
    if (batch := outcome(body)) is not None:
        check(batch)


@fuzz
@given(any_body, st.booleans())
@example(too_deep, True)
@example(too_long, True)
def test_any_json_is_a_batch_or_malformed(content: Any, ascii_only: bool):
    body = json.dumps(content, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    if (batch := outcome(body)) is not None:
        check(batch)


@fuzz
@given(any_body, st.data())
def test_a_body_cut_short_is_malformed(content: Any, data: st.DataObject):
    body = json.dumps(content).encode()
    if body[:1] in b"[{":
        assert outcome(body[: data.draw(st.integers(0, len(body) - 1))]) is None


@fuzz
@given(any_body, st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_damaged_body_is_a_batch_or_malformed(content: Any, at: int, damage: bytes):
    body = json.dumps(content).encode()
    if (batch := outcome(body[:at] + damage + body[at + 1 :])) is not None:
        check(batch)


@fuzz
@given(st.lists(any_event, min_size=1, max_size=5))
def test_every_event_of_a_list_is_accounted_for(content: list[Any]):
    batch = outcome(json.dumps(content).encode())
    assert batch is not None
    assert batch.received == len(content)


@fuzz
@given(st.lists(any_event, min_size=1, max_size=5))
def test_a_list_and_a_batch_of_the_same_events_fare_alike(content: list[Any]):
    bare = outcome(json.dumps(content).encode())
    whole = outcome(json.dumps({"events": content}).encode())
    assert bare == whole


@fuzz
@given(any_event)
@example(too_long[0])
def test_an_event_fares_alike_beside_one_that_is_odd(content: Any):
    """A neighbour that needs the careful path changes nothing for the others."""
    alone = outcome(json.dumps([content, 0]).encode())
    beside = outcome(json.dumps([content, float("nan")]).encode())
    assert alone is not None
    assert beside is not None
    assert alone.records == beside.records
    assert [problem.code for problem in alone.rejections] == [
        problem.code for problem in beside.rejections
    ]


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


def as_sent(record: Record) -> dict[str, Any]:
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
@given(good_event, st.dictionaries(text, value, max_size=4))
def test_other_fields_end_in_the_properties(event: dict[str, Any], other: dict[str, Any]):
    given_properties = event.get("properties", {})
    extra = {f"x-{name}": item for name, item in other.items()}
    inner = {f"p-{name}": item for name, item in given_properties.items()}
    body = json.dumps(event | extra | {"properties": inner}, default=datetime.isoformat)
    (record,) = decode(body.encode(), Envelope()).records
    assert json.loads(record.properties) == extra | inner


@fuzz
@given(st.datetimes(timezones=st.timezones()))
def test_microseconds_of_any_moment_are_exact(moment: datetime):
    # Not by way of UTC, which has no name for the ends of years 1 and 9999 elsewhere.
    offset = moment.utcoffset()
    assert offset is not None
    naive = moment.replace(tzinfo=None) - EPOCH.replace(tzinfo=None)
    assert microseconds(moment) == (naive - offset) // datetime.resolution
