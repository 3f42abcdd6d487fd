"""The browser's batch: a page's log lines, one record each, and what is refused of them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingest.formats import FORMATS
from ingest.formats.client_telemetry import decode
from ingest.records import Envelope, Limits, Record
from tests.ingest.decoding import WireFormat, properties

TIME = "2026-11-20T10:30:00.123Z"
MOMENT = datetime(2026, 11, 20, 10, 30, 0, 123_000, tzinfo=UTC)
NOW = 1_795_170_600_123  # the same moment, as Date.now() has it
BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"
OTHER_ID = UUID("11111111-2222-4333-8444-555555555555")

BROWSER = WireFormat(
    "client_telemetry",
    {"level": "info", "scope": "cart", "sessionId": "s-1", "message": "added", "timestamp": TIME},
)
event, batch = BROWSER.item, BROWSER.batch
decoded, only, refused, malformed = (
    BROWSER.decoded,
    BROWSER.only,
    BROWSER.refused,
    BROWSER.malformed,
)


def test_the_format_is_registered():
    assert FORMATS["client_telemetry"] is decode


# What a body may be

# As source 002 prints it, but for its comments and its choice of levels.
PRINTED = b"""{
  "events": [
    {
      "level": "info",
      "scope": "component-name",
      "sessionId": "component-session-abc123",
      "message": "User action description",
      "timestamp": "2025-01-15T10:30:45.123Z",
      "requestId": "request-xyz789",
      "context": {
        "action": "button_click",
        "userId": "user-123"
      }
    }
  ]
}"""


def test_the_batch_that_the_source_prints():
    assert decode(PRINTED, Envelope()).records == [
        Record(
            position=0,
            occurred_at=datetime(2025, 1, 15, 10, 30, 45, 123_000, tzinfo=UTC),
            name="log",
            user_id="user-123",
            session_id="component-session-abc123",
            category="application",
            level="info",
            scope="component-name",
            client_version=None,
            message="User action description",
            properties=b'{"action":"button_click","requestId":"request-xyz789"}',
        )
    ]


def test_the_printed_event_by_itself_is_the_legacy_form():
    whole = json.loads(PRINTED)
    assert only(whole["events"][0]) == only(whole)


def test_the_choice_of_levels_as_printed_is_no_level():
    bad = {"level": "info | warn | error"}
    assert refused(event(**bad)).code == "invalid_level"


@pytest.mark.parametrize(
    "body", [batch(event()), [event()], event()], ids=["batch", "list", "event"]
)
def test_the_three_shapes_of_a_body_give_the_same_record(body: Any):
    assert only(body) == only(batch(event()))


@pytest.mark.parametrize("missing", ["level", "scope", "sessionId", "message", "timestamp"])
def test_a_legacy_event_that_lacks_a_field_is_rejected_as_a_batch_of_one(missing: str):
    result = decoded(event(**{missing: ...}))
    assert (result.records, result.received) == ([], 1)
    assert result.rejections[0].field == missing


def test_a_minimal_event_has_defaults():
    record = only(event())
    assert (record.name, record.category, record.properties) == ("log", "application", b"{}")
    assert (record.user_id, record.client_version) == (None, None)


def test_the_version_is_that_of_the_header():
    assert only(event(), client_version="1.2").client_version == "1.2"


@pytest.mark.parametrize(
    ("of_batch", "expected"), [(BATCH_ID, UUID(BATCH_ID)), (None, OTHER_ID), ("", OTHER_ID)]
)
def test_batch_id_of_batch_then_header(of_batch: str | None, expected: UUID):
    assert decoded(batch(event(), batch_id=of_batch), batch_id=OTHER_ID).batch_id == expected


@pytest.mark.parametrize("value", [TIME, NOW])
def test_a_batch_may_say_when_it_was_sent(value: Any):
    assert decoded(batch(event(), timestamp=value)).sent_at == MOMENT
    assert decoded(batch(event())).sent_at is None


def test_a_batch_is_from_no_user_as_a_whole():
    result = decoded(event(context={"userId": "u"}), user_id="header")
    assert (result.user_id, result.node) == (None, None)


# Whose event it is


@pytest.mark.parametrize(
    ("context", "own", "header", "expected"),
    [
        ({"userId": "context"}, "own", "header", "context"),
        ({"userId": 7}, "own", "header", "7"),
        ({"userId": None}, "own", "header", "own"),
        ({"userId": ""}, 8, "header", "8"),
        ({}, ..., "header", "header"),
        (..., ..., "header", "header"),
        (None, None, "header", "header"),
        ({}, ..., None, None),
    ],
)
def test_user_of_context_then_event_then_header(context, own, header, expected):
    record = only(event(context=context, userId=own), user_id=header)
    assert record.user_id == expected
    assert properties(record) == {}


@pytest.mark.parametrize("users_optional", [True, False])
def test_users_are_optional_whatever_the_project_says(users_optional: bool):
    assert only(event(), users_optional=users_optional).user_id is None


@pytest.mark.parametrize("value", [1.5, True, ["u"], {"id": 7}], ids=repr)
@pytest.mark.parametrize("within", [True, False])
def test_what_is_neither_text_nor_whole_number_is_no_user(value: Any, within: bool):
    bad = event(context={"userId": value}) if within else event(userId=value)
    rejection = refused(bad)
    field = "context.userId" if within else "userId"
    assert (rejection.code, rejection.field) == ("invalid_type", field)


@pytest.mark.parametrize("session", [0, 7, 2**53])
def test_a_whole_number_as_session_is_its_digits(session: int):
    assert only(event(sessionId=session)).session_id == str(session)


# What becomes properties


def test_context_request_id_and_other_fields_become_properties():
    record = only(event(context={"a": 1, "b": [{}]}, requestId="r", url="/cart"))
    assert properties(record) == {"a": 1, "b": [{}], "requestId": "r", "url": "/cart"}


@pytest.mark.parametrize("context", [None, {}, ...])
@pytest.mark.parametrize("request_id", [None, "", ...])
def test_without_context_and_request_id_there_are_no_properties(context: Any, request_id: Any):
    assert only(event(context=context, requestId=request_id)).properties == b"{}"


def test_a_number_as_request_id_stays_one():
    assert properties(only(event(requestId=7))) == {"requestId": 7}


@pytest.mark.parametrize("name", ["level", "scope", "sessionId", "message", "timestamp", "event"])
def test_a_property_may_bear_the_name_of_a_known_field(name: str):
    record = only(event(context={name: "inner"}))
    assert properties(record) == {name: "inner"}
    assert (record.level, record.scope, record.message) == ("info", "cart", "added")


@pytest.mark.parametrize("name", ["requestId", "url"])
def test_a_field_that_is_repeated_in_the_context_is_kept_once(name: str):
    record = only(event(**{name: "same"}, context={name: "same"}))
    assert properties(record) == {name: "same"}


@pytest.mark.parametrize("name", ["requestId", "url"])
def test_a_field_that_is_another_in_the_context_is_rejected(name: str):
    rejection = refused(event(**{name: "one"}, context={name: "other"}))
    assert (rejection.code, rejection.field) == ("duplicate_key", None)


def test_properties_keep_their_order():
    """The digest that recognises a rebuilt batch is taken of them, in whichever process."""
    outer, inner = {f"o{n}": n for n in range(9)}, {f"p{n}": n for n in range(9)}
    record = only(event(**outer, context=inner))
    assert list(properties(record).items()) == [*inner.items(), *outer.items()]


# Rules for one event


@pytest.mark.parametrize("level", ["info", "warn", "error"])
def test_every_level_is_taken(level: str):
    assert only(event(level=level)).level == level


@pytest.mark.parametrize("value", [TIME, NOW, "2026-11-20T12:30:00.123+02:00"])
def test_moments_are_written_out_or_in_milliseconds(value: Any):
    assert only(event(timestamp=value)).occurred_at == MOMENT


def test_an_empty_message_is_a_message():
    assert only(event(message="")).message == ""


TOO_LONG = "x" * 201


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        *(
            (event(**{field: empty}), "missing_field", field)
            for field in ("level", "scope", "sessionId", "message", "timestamp")
            for empty in (..., None)
        ),
        (event(scope=""), "missing_field", "scope"),
        (event(sessionId=""), "missing_field", "sessionId"),
        (event(level=""), "invalid_level", "level"),
        (event(level="INFO"), "invalid_level", "level"),
        (event(level="debug"), "invalid_level", "level"),
        (event(level=3), "invalid_level", "level"),
        (event(level=["info"]), "invalid_level", "level"),
        (event(scope=3), "invalid_type", "scope"),
        (event(sessionId=1.5), "invalid_type", "sessionId"),
        (event(sessionId=True), "invalid_type", "sessionId"),
        (event(message=3), "invalid_type", "message"),
        (event(message={"text": "m"}), "invalid_type", "message"),
        (event(context=[]), "invalid_type", "context"),
        (event(context="{}"), "invalid_type", "context"),
        (event(context=0), "invalid_type", "context"),
        (event(timestamp="now"), "invalid_timestamp", "timestamp"),
        (event(timestamp=""), "invalid_timestamp", "timestamp"),
        (event(timestamp=1_795_170_600), "invalid_timestamp", "timestamp"),
        (event(timestamp=NOW + 0.5), "invalid_timestamp", "timestamp"),
        (event(timestamp=True), "invalid_timestamp", "timestamp"),
        (event(scope=TOO_LONG), "too_long", "scope"),
        (event(sessionId=TOO_LONG), "too_long", "sessionId"),
        (event(context={"userId": TOO_LONG}), "too_long", "context.userId"),
        (event(**{TOO_LONG: 1}), "name_too_long", None),
        (event(context={TOO_LONG: 1}), "name_too_long", None),
        (event(context={"a": [{TOO_LONG: 1}]}), "name_too_long", None),
        (event(message="x" * 33_000), "event_too_large", None),
        (event(context={"a": "x" * 33_000}), "event_too_large", None),
        (event(context={"a": "x" * 17_000}, message="x" * 17_000), "event_too_large", None),
        (event(context={"a": 2**64}), "number_out_of_range", None),
        (event(context={"a": "\0"}), "invalid_character", None),
        (event(context={"a": "\ud800"}), "invalid_character", None),
        (event(context={"a": float("nan")}), "number_out_of_range", None),
        (1, "invalid_type", None),
        ([event()], "invalid_type", None),
        (None, "invalid_type", None),
    ],
)
def test_a_bad_event_is_rejected_with_its_code_and_field(bad: Any, code: str, field: str | None):
    rejection = refused(bad)
    assert (rejection.code, rejection.field) == (code, field)


def test_an_events_nesting_is_bounded():
    deep: Any = []
    for _ in range(13):
        deep = [deep]
    only(event(context={"a": deep}))
    assert refused(event(context={"a": [deep]})).code == "too_deep"


def test_a_native_event_lacks_a_level():
    native = {"event": "x", "timestamp": TIME, "user_id": "u"}
    assert refused(native).field == "level"


# Rules for the batch


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (1, "invalid_type", None),
        (None, "invalid_type", None),
        ({}, "missing_field", "events"),
        ({"event": "x", "timestamp": TIME}, "missing_field", "events"),
        ({"events": None}, "missing_field", "events"),
        ({"events": event()}, "invalid_type", "events"),
        ({"events": []}, "no_events", "events"),
        ([], "no_events", "events"),
        (batch(batch_id="b9e4f7a2-..."), "invalid_batch_id", "batch_id"),
        (batch(timestamp="now"), "invalid_timestamp", "timestamp"),
        (batch(timestamp=1_795_170_600), "invalid_timestamp", "timestamp"),
        (batch(extra={"n" * 201: 1}), "name_too_long", None),
        (batch(extra="\0"), "invalid_character", None),
        ([event()] * 1001, "too_many_events", "events"),
    ],
)
def test_a_malformed_batch_has_a_code_and_a_field(body: Any, code: str, field: str | None):
    reason = malformed(body)
    assert (reason.code, reason.field) == (code, field)


def test_as_many_events_as_the_limit_says():
    limits = Limits(batch_events=3)
    assert decoded([event()] * 3, limits=limits).received == 3
    assert malformed([event()] * 4, limits=limits).code == "too_many_events"


def test_a_bad_event_does_not_fail_its_batch():
    later = MOMENT + timedelta(seconds=1)
    good = event(timestamp=later.isoformat())
    result = decoded(batch(event(), event(level="loud"), 1, good))
    assert [(record.position, record.occurred_at) for record in result.records] == [
        (0, MOMENT),
        (3, later),
    ]
    assert [(problem.index, problem.code) for problem in result.rejections] == [
        (1, "invalid_level"),
        (2, "invalid_type"),
    ]
    assert result.received == 4


def test_a_batch_of_bad_events_alone_is_no_malformed_batch():
    result = decoded(batch({}, None))
    assert (result.records, len(result.rejections)) == ([], 2)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "bad",
    [
        event(level=SECRET),
        event(scope=[SECRET]),
        event(sessionId=SECRET * 50),
        event(message=[SECRET]),
        event(timestamp=SECRET),
        event(context=SECRET),
        event(context={"userId": [SECRET]}),
        event(url=SECRET, context={"url": 1}),
    ],
)
def test_a_rejection_never_holds_a_value(bad: dict[str, Any]):
    rejection = refused(bad)
    assert SECRET not in f"{rejection!r} {rejection}"
