"""The submission client's batch: the native format, and the words and numbers it sends instead."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingest.formats import FORMATS
from ingest.formats.submit import decode
from ingest.records import EPOCH, Limits, Record
from tests.ingest.decoding import WireFormat, properties

TIME = "2026-11-20T10:30:00Z"
MOMENT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
NOW = 1_795_170_600_123  # Date.now() a moment after
BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"

SUBMIT = WireFormat("submit", {"event": "command_executed", "timestamp": TIME})
event, batch = SUBMIT.item, SUBMIT.batch
decoded, only, refused, malformed = SUBMIT.decoded, SUBMIT.only, SUBMIT.refused, SUBMIT.malformed

THEIRS = WireFormat(
    "submit",
    {
        "sessionId": "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11",
        "eventType": "command_executed",
        "eventData": {"command": "run", "duration": 120, "exitCode": 0},
        "timestamp": NOW,
    },
)
NATIVE = WireFormat("events", {"event": "command_executed", "timestamp": TIME})
# An event as the client's own type has it.
client_event = THEIRS.item


def test_the_format_is_registered():
    assert FORMATS["submit"] is decode


# As the native format


@pytest.mark.parametrize(
    "body", [batch(event()), [event()], event()], ids=["batch", "list", "event"]
)
def test_the_three_shapes_of_a_body_give_the_same_record(body: Any):
    assert only(body) == only(batch(event()))


@pytest.mark.parametrize(
    "body",
    [
        batch(
            event(user_id="u", session_id="s", category="business", level="warn", message="m"),
            event(plugin="x", properties={"a": [1, {"b": None}]}),
            batch_id=BATCH_ID,
            timestamp=TIME,
            client_version="2.0",
            user_id="b",
            session_id="t",
            category="system",
        ),
        batch(event(), 1, event(event=""), event(level=3), event(message=4), None),
        [event(a=1, properties={"a": 2}), event(), event(timestamp="now")],
        event(**{"n" * 201: 1}),
    ],
    ids=["everything", "bad ones", "list", "event"],
)
def test_a_native_body_gives_what_it_gives_there(body: Any):
    assert decoded(body) == NATIVE.decoded(body, users_optional=True)


@pytest.mark.parametrize("users_optional", [True, False])
def test_users_are_optional_whatever_the_project_says(users_optional: bool):
    assert only(event(), users_optional=users_optional).user_id is None


@pytest.mark.parametrize(
    ("own", "of_batch", "header", "expected"),
    [
        ("event", "batch", "header", "event"),
        (7, 8, "header", "7"),
        (..., 8, "header", "8"),
        (None, None, "header", "header"),
        (..., None, None, None),
    ],
)
def test_user_id_of_event_then_batch_then_header(own, of_batch, header, expected):
    body = batch(event(user_id=own), user_id=of_batch)
    assert only(body, user_id=header).user_id == expected


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (1, "invalid_type", None),
        ({}, "missing_field", "events"),
        ({"events": {}}, "invalid_type", "events"),
        ({"events": []}, "no_events", "events"),
        ([], "no_events", "events"),
        (batch(batch_id="b9e4f7a2-..."), "invalid_batch_id", "batch_id"),
        (batch(batch_id=7), "invalid_batch_id", "batch_id"),
        (batch(timestamp="now"), "invalid_timestamp", "timestamp"),
        (batch(user_id=[]), "invalid_type", "user_id"),
        (batch(user_id=True), "invalid_type", "user_id"),
        (batch(client_version=1.2), "invalid_type", "client_version"),
        (batch(category="other"), "invalid_category", "category"),
        ([1] * 1001, "too_many_events", "events"),
    ],
)
def test_a_malformed_batch_has_a_code_and_a_field(body: Any, code: str, field: str | None):
    reason = malformed(body)
    assert (reason.code, reason.field) == (code, field)


def test_a_refusal_reads_as_the_client_lists_it():
    told = refused(event(event=...)).sentence("events")
    assert told == "events[1]: Missing required field: event"


# Numbers where the native format has texts


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (NOW, MOMENT + timedelta(milliseconds=123)),
        (1_000_000_000_000, datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        (10**11, EPOCH + timedelta(milliseconds=10**11)),
        (253_402_300_799_999, datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    ],
)
def test_a_whole_number_is_milliseconds_since_1970(milliseconds: int, expected: datetime):
    assert only(event(timestamp=milliseconds)).occurred_at == expected
    assert decoded(batch(event(), timestamp=milliseconds)).sent_at == expected


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        1_795_170_600,  # seconds
        10**11 - 1,
        253_402_300_800_000,
        1_795_170_600_123_456,  # microseconds
        2**63 - 1,
        1_795_170_600_123.5,
        1.795e12,
        True,
        str(NOW),
        [NOW],
        None,
        "",
    ],
    ids=repr,
)
def test_what_is_no_moment_is_rejected(value: Any):
    rejection = refused(event(timestamp=value))
    code = "missing_field" if value is None else "invalid_timestamp"
    assert (rejection.code, rejection.field) == (code, "timestamp")


def test_a_batch_that_counts_seconds_is_malformed():
    assert malformed(batch(timestamp=1_795_170_600)).code == "invalid_timestamp"


@pytest.mark.parametrize("field", ["user_id", "session_id"])
@pytest.mark.parametrize("number", [0, 7, -7, 2**53, 2**63, -(2**63)])
def test_a_whole_number_as_id_is_its_digits(field: str, number: int):
    assert getattr(only(event(**{field: number})), field) == str(number)
    assert getattr(only(batch(event(), **{field: number})), field) == str(number)


@pytest.mark.parametrize("field", ["user_id", "session_id"])
@pytest.mark.parametrize("value", [1.5, True, [7], {"id": 7}], ids=repr)
def test_what_is_neither_text_nor_whole_number_is_no_id(field: str, value: Any):
    rejection = refused(event(**{field: value}))
    assert (rejection.code, rejection.field) == ("invalid_type", field)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**19 * 2, 10**40])
def test_an_id_of_more_than_64_bits_is_out_of_range(number: int):
    assert refused(event(user_id=number)).code == "number_out_of_range"


@pytest.mark.parametrize("field", ["event", "level", "message", "category"])
def test_other_texts_are_not_made_of_numbers(field: str):
    assert refused(event(**{field: 7})).field == field


@pytest.mark.parametrize("name", ["count", "created_at", "sessions"])
def test_numbers_among_the_properties_stay_numbers(name: str):
    assert properties(only(event(**{name: NOW}))) == {name: NOW}


@pytest.mark.parametrize(
    "odd", [event(timestamp=NOW, user_id=7), client_event()], ids=["numbers", "words"]
)
def test_the_native_format_stays_strict(odd: dict[str, Any]):
    assert NATIVE.decoded([odd], users_optional=True).records == []


# The client's own words


def test_an_event_as_the_client_has_it():
    assert only({"events": [client_event()]}) == Record(
        position=0,
        occurred_at=MOMENT + timedelta(milliseconds=123),
        name="command_executed",
        user_id=None,
        session_id="0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11",
        category="application",
        level=None,
        scope=None,
        client_version=None,
        message=None,
        properties=b'{"command":"run","duration":120,"exitCode":0}',
    )


def test_the_clients_words_and_the_native_ones_give_the_same_record():
    native = event(
        event="feature_used", timestamp=NOW, session_id="s", user_id="u", properties={"a": 1}
    )
    theirs = {
        "eventType": "feature_used",
        "timestamp": NOW,
        "sessionId": "s",
        "userId": "u",
        "eventData": {"a": 1},
    }
    assert only([theirs]) == only([native])
    assert only(theirs) == only(native)


def test_the_batch_may_use_the_clients_words():
    record = only(batch(event(), sessionId=5, userId="u"))
    assert (record.session_id, record.user_id) == ("5", "u")


@pytest.mark.parametrize("empty", [None, ...])
def test_the_clients_word_stands_in_where_the_native_field_is_absent(empty: Any):
    record = only(event(session_id=empty, sessionId="theirs"))
    assert (record.session_id, properties(record)) == ("theirs", {})


def test_beside_the_native_field_the_clients_word_is_a_property():
    record = only(event(event="native", eventType="theirs"))
    assert (record.name, properties(record)) == ("native", {"eventType": "theirs"})


def test_data_and_other_fields_join_the_properties():
    record = only(event(eventData={"a": 1}, b=2))
    assert properties(record) == {"a": 1, "b": 2}


@pytest.mark.parametrize("data", ['{"a": 1}', [1], 7], ids=repr)
def test_data_that_is_no_object_is_rejected(data: Any):
    rejection = refused(event(eventData=data))
    assert (rejection.code, rejection.field) == ("invalid_type", "properties")


# What a rebuilt batch has in common with the first try


def test_a_rebuilt_batch_gives_the_same_records():
    """Without a batch id: it is by its records that a retry is recognised."""
    events = [client_event(timestamp=NOW + n) for n in range(3)]
    first, again = decoded({"events": events}), decoded({"events": events})
    assert first.batch_id is None
    assert first.records == again.records


@pytest.mark.parametrize("of_batch", [BATCH_ID, None])
def test_batch_id_of_batch_then_header(of_batch: str | None):
    header = UUID("11111111-2222-4333-8444-555555555555")
    expected = UUID(of_batch) if of_batch else header
    assert decoded(batch(event(), batch_id=of_batch), batch_id=header).batch_id == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (batch(event(), user_id=7), "7"),
        (batch(event(user_id=7)), None),
        ([event(user_id=7)], None),
        (event(user_id=7), "7"),
        (client_event(userId="u"), "u"),
        (event(), None),
    ],
)
def test_a_batch_is_from_the_user_it_names_itself(body: Any, expected: str | None):
    assert decoded(body, user_id="header").user_id == expected


# A bad event costs itself alone


def test_a_bad_event_does_not_fail_its_batch():
    bad = [client_event(eventType=...), 1, client_event(timestamp="now"), event(level=[])]
    result = decoded(batch(client_event(), *bad, event()))
    assert [record.position for record in result.records] == [0, 5]
    assert [(problem.index, problem.code) for problem in result.rejections] == [
        (1, "missing_field"),
        (2, "invalid_type"),
        (3, "invalid_timestamp"),
        (4, "invalid_type"),
    ]
    assert result.received == 6


def test_the_size_of_an_event_is_bounded():
    limits = Limits(event_bytes=1000)
    assert refused(client_event(eventData={"a": "x" * 1000}), limits=limits).code == (
        "event_too_large"
    )


SECRET = "hunter2"


@pytest.mark.parametrize(
    "bad",
    [
        client_event(timestamp=SECRET),
        client_event(sessionId=[SECRET]),
        client_event(eventType={SECRET: 1}),
        client_event(eventData=SECRET),
        client_event(userId=SECRET * 50),
    ],
)
def test_a_rejection_never_holds_a_value(bad: dict[str, Any]):
    assert SECRET not in repr(refused(bad))
