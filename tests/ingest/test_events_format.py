"""The native batch: what `POST /v1/events` takes, and what it says of what it doesn't."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingest.formats import FORMATS
from ingest.formats.events import decode
from ingest.records import CATEGORIES, Envelope, Limits, MalformedBatch, Record
from tests.ingest.decoding import WireFormat, properties

TIME = "2026-11-20T10:30:00Z"
MOMENT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"
OTHER_ID = UUID("11111111-2222-4333-8444-555555555555")


NATIVE = WireFormat("events", {"event": "plugin_loaded", "timestamp": TIME, "user_id": "u-1"})
event, batch = NATIVE.item, NATIVE.batch
decoded, only, refused, malformed = NATIVE.decoded, NATIVE.only, NATIVE.refused, NATIVE.malformed


def test_the_format_is_registered():
    assert FORMATS["events"] is decode


# What a body may be


def test_the_batch_of_the_contract():
    body = {
        "batch_id": BATCH_ID,
        "timestamp": "2026-11-20T10:31:00Z",
        "client_version": "1.2.3",
        "user_id": "a7f3c8e9d2b1",
        "session_id": "s-1",
        "category": "business",
        "events": [
            {"event": "plugin_loaded", "timestamp": TIME, "plugin": "Compressor", "load_ms": 41.5}
        ],
    }
    result = decoded(body)
    assert (result.batch_id, result.received) == (UUID(BATCH_ID), 1)
    assert result.sent_at == MOMENT + timedelta(minutes=1)
    assert result.records == [
        Record(
            position=0,
            occurred_at=MOMENT,
            name="plugin_loaded",
            user_id="a7f3c8e9d2b1",
            session_id="s-1",
            category="business",
            level=None,
            scope=None,
            client_version="1.2.3",
            message=None,
            properties=b'{"plugin":"Compressor","load_ms":41.5}',
        )
    ]


@pytest.mark.parametrize(
    "body", [batch(event()), [event()], event()], ids=["batch", "list", "event"]
)
def test_the_three_shapes_of_a_body_give_the_same_record(body: Any):
    assert only(body) == only(batch(event()))


def test_a_bare_list_keeps_its_order():
    names = ["first", "second", "third"]
    result = decoded([event(event=name) for name in names])
    assert [(record.position, record.name) for record in result.records] == [*enumerate(names)]


def test_a_bare_bad_event_is_rejected_as_a_batch_of_one():
    result = decoded(event(timestamp=...))
    assert (result.records, result.received) == ([], 1)
    assert result.rejections[0].code == "missing_field"


def test_a_batch_whose_extra_field_is_called_event_is_still_a_batch():
    assert only(batch(event(event="inner"), event="outer")).name == "inner"


def test_unknown_fields_of_the_batch_are_ignored():
    assert properties(only(batch(event(), sdk={"name": "x"}))) == {}


def test_a_minimal_event_has_defaults():
    record = only(event())
    assert (record.category, record.properties) == ("application", b"{}")
    assert [record.session_id, record.level, record.scope, record.message] == [None] * 4
    assert record.client_version is None


# The batch as source 000 prints it, with comments where its event data would stand

PRINTED = """{
  "batch_id": "b9e4f7a2-...",
  "timestamp": "2025-01-15T10:30:00Z",
  "client_version": "1.2.3",
  "events": [
    {
      "event": "plugin_loaded",
      "timestamp": "2025-01-15T10:30:00Z",
      // ... event data
    },
    {
      "event": "feature_used",
      "timestamp": "2025-01-15T10:35:00Z",
      // ... event data
    }
  ]
}"""
SENT = PRINTED.replace("// ... event data", '"plugin": "Compressor"')


def code_of(body: str) -> tuple[str, str | None]:
    with pytest.raises(MalformedBatch) as caught:
        decode(body.encode(), Envelope(user_id="u-1"))
    return caught.value.code, caught.value.field


def test_the_printed_batch_is_no_json_for_its_comments():
    assert code_of(PRINTED) == ("malformed_json", None)


def test_the_printed_batch_id_is_abridged_and_so_no_uuid():
    assert code_of(SENT) == ("invalid_batch_id", "batch_id")


def test_the_printed_batch_with_a_whole_id_is_taken():
    body = SENT.replace("b9e4f7a2-...", BATCH_ID).encode()
    result = decode(body, Envelope(user_id="u-1"))
    assert (result.batch_id, result.received) == (UUID(BATCH_ID), 2)
    assert result.sent_at == datetime(2025, 1, 15, 10, 30, tzinfo=UTC)
    assert [(record.name, properties(record)) for record in result.records] == [
        ("plugin_loaded", {"plugin": "Compressor"}),
        ("feature_used", {"plugin": "Compressor"}),
    ]


def test_the_printed_batch_needs_a_user_from_somewhere():
    body = SENT.replace("b9e4f7a2-...", BATCH_ID).encode()
    result = decode(body, Envelope())
    assert [problem.sentence("events") for problem in result.rejections] == [
        "events[0]: Missing required field: user_id",
        "events[1]: Missing required field: user_id",
    ]


# Who wins: the event, then the batch, then the header


@pytest.mark.parametrize(
    ("own", "of_batch", "header", "expected"),
    [
        ("event", "batch", "header", "event"),
        (..., "batch", "header", "batch"),
        (None, "batch", "header", "batch"),
        ("", "batch", "header", "batch"),
        (..., None, "header", "header"),
        (..., "", "header", "header"),
        ("event", None, None, "event"),
    ],
)
def test_user_id_of_event_then_batch_then_header(own, of_batch, header, expected):
    body = batch(event(user_id=own), user_id=of_batch)
    assert only(body, user_id=header).user_id == expected


@pytest.mark.parametrize(
    ("own", "of_batch", "expected"),
    [
        ("event", "batch", "event"),
        (..., "batch", "batch"),
        ("", "batch", "batch"),
        (..., None, None),
    ],
)
def test_session_id_of_event_then_batch(own, of_batch, expected):
    assert only(batch(event(session_id=own), session_id=of_batch)).session_id == expected


@pytest.mark.parametrize(
    ("own", "of_batch", "expected"),
    [
        ("system", "network", "system"),
        (..., "network", "network"),
        (None, "network", "network"),
        (..., None, "application"),
    ],
)
def test_category_of_event_then_batch_then_default(own, of_batch, expected):
    assert only(batch(event(category=own), category=of_batch)).category == expected


@pytest.mark.parametrize(
    ("of_batch", "header", "expected"),
    [("2.0", "1.0", "2.0"), (None, "1.0", "1.0"), ("", "1.0", "1.0"), (None, None, None)],
)
def test_client_version_of_batch_then_header(of_batch, header, expected):
    body = batch(event(), client_version=of_batch)
    assert only(body, client_version=header).client_version == expected


@pytest.mark.parametrize(
    ("of_batch", "header", "expected"),
    [
        (BATCH_ID, OTHER_ID, UUID(BATCH_ID)),
        (None, OTHER_ID, OTHER_ID),
        ("", OTHER_ID, OTHER_ID),
        (None, None, None),
    ],
)
def test_batch_id_of_batch_then_header(of_batch, header, expected):
    assert decoded(batch(event(), batch_id=of_batch), batch_id=header).batch_id == expected


@pytest.mark.parametrize("body", [[event()], event()], ids=["list", "event"])
def test_headers_serve_bodies_without_an_envelope(body: Any):
    result = decoded(body, batch_id=OTHER_ID, client_version="9")
    assert (result.batch_id, result.records[0].client_version) == (OTHER_ID, "9")
    assert result.sent_at is None


def test_one_batch_may_name_several_users():
    body = batch(event(user_id="a"), event(user_id=...), user_id="b")
    assert [record.user_id for record in decoded(body).records] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (batch(event(), user_id="b"), "b"),
        (batch(event(), user_id=""), None),
        (batch(event()), None),
        ([event()], None),
        (event(user_id="own"), "own"),
        (event(user_id=...), None),
    ],
    ids=["batch", "batch of an empty one", "its events alone", "list", "event", "event of none"],
)
def test_a_batch_is_from_the_user_it_names_itself(body: Any, expected: str | None):
    """For the limits that count by user; what the header says is known to who reads it."""
    assert decoded(body, user_id="header").user_id == expected


def test_a_single_event_that_is_refused_is_from_nobody():
    assert decoded(event(user_id=["u"])).user_id is None


def test_users_are_needed_unless_the_project_says_they_are_optional():
    nobody = event(user_id=...)
    rejection = decoded(nobody).rejections[0]
    assert (rejection.code, rejection.field) == ("missing_field", "user_id")
    assert only(nobody, users_optional=True).user_id is None


# Known fields, and the rest


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_is_taken(category: str):
    assert only(event(category=category)).category == category


def test_level_and_message_are_fields_of_their_own():
    record = only(event(level="warn", message="Disk\nnearly full"))
    assert (record.level, record.message) == ("warn", "Disk\nnearly full")
    assert properties(record) == {}


def test_other_fields_join_the_properties():
    record = only(event(plugin="EQ", properties={"load_ms": 4, "tags": ["a", {"b": None}]}))
    assert properties(record) == {"plugin": "EQ", "load_ms": 4, "tags": ["a", {"b": None}]}


def test_properties_keep_their_order():
    """The digest that recognises a rebuilt batch is taken of them, in whichever process."""
    outer, inner = {f"o{n}": n for n in range(9)}, {f"p{n}": n for n in range(9)}
    record = only(event(**outer, properties=inner))
    assert list(properties(record).items()) == [*outer.items(), *inner.items()]
    assert list(properties(only(event(**outer)))) == [*outer]


@pytest.mark.parametrize("given", [None, {}])
def test_empty_properties_are_an_empty_object(given: Any):
    assert only(event(properties=given)).properties == b"{}"


@pytest.mark.parametrize("name", ["event", "timestamp", "user_id", "level", "properties"])
def test_a_property_may_bear_the_name_of_a_known_field(name: str):
    record = only(event(properties={name: "inner"}))
    assert properties(record) == {name: "inner"}
    assert (record.name, record.user_id, record.level) == ("plugin_loaded", "u-1", None)


@pytest.mark.parametrize(
    "value", ["ü 😀", '"\\/', 0, -1, 1.5, -0.0, 1e300, 2**63 - 1, -(2**63), True, None, [], {}]
)
def test_values_of_properties_are_kept(value: Any):
    kept = properties(only(event(value=value)))["value"]
    assert repr(kept) == repr(value)


# Moments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T10:30:00Z", MOMENT),
        ("2026-11-20t10:30:00z", MOMENT),
        ("2026-11-20 10:30:00Z", MOMENT),
        ("2026-11-20T10:30:00", MOMENT),
        ("2026-11-20T10:30:00-00:00", MOMENT),
        ("2026-11-20T12:30:00+02:00", MOMENT),
        ("2026-11-20T00:30:00-10:00", MOMENT),
        ("2026-11-20T10:30:00.25Z", MOMENT + timedelta(milliseconds=250)),
        ("2026-11-20T10:30:00.123456Z", MOMENT + timedelta(microseconds=123_456)),
        ("2026-11-20T10:30:00.123456499Z", MOMENT + timedelta(microseconds=123_456)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_moments_are_aware(text: str, expected: datetime):
    occurred_at = only(event(timestamp=text)).occurred_at
    assert occurred_at == expected
    assert occurred_at.tzinfo is not None
    assert decoded(batch(event(), timestamp=text)).sent_at == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2026-11-20",
        "10:30:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T10:30Z",
        "2026-11-20T10:30:00+24:00",
        "2026-11-20T10:30:00 UTC",
        "0000-01-01T00:00:00Z",
        "12026-11-20T10:30:00Z",
        "1763634600",
        "２026-11-20T10:30:00Z",
        1763634600,
        1763634600.5,
        True,
        [TIME],
        {"": TIME},
    ],
    ids=repr,
)
def test_what_is_no_moment_is_rejected(value: Any):
    rejection = refused(event(timestamp=value))
    assert (rejection.code, rejection.field) == ("invalid_timestamp", "timestamp")


# Rules for one event


TOO_LONG = "x" * 201


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (event(event=...), "missing_field", "event"),
        (event(event=None), "missing_field", "event"),
        (event(event=""), "missing_field", "event"),
        (event(timestamp=...), "missing_field", "timestamp"),
        (event(timestamp=None), "missing_field", "timestamp"),
        (event(user_id=...), "missing_field", "user_id"),
        (event(user_id=""), "missing_field", "user_id"),
        (event(event=7), "invalid_type", "event"),
        (event(event=False), "invalid_type", "event"),
        (event(event=["x"]), "invalid_type", "event"),
        (event(user_id=7), "invalid_type", "user_id"),
        (event(user_id=0), "invalid_type", "user_id"),
        (event(session_id={}), "invalid_type", "session_id"),
        (event(level=3), "invalid_type", "level"),
        (event(message=3), "invalid_type", "message"),
        (event(message=["x"]), "invalid_type", "message"),
        (event(properties=[]), "invalid_type", "properties"),
        (event(properties="{}"), "invalid_type", "properties"),
        (event(properties=False), "invalid_type", "properties"),
        (event(event=TOO_LONG), "too_long", "event"),
        (event(user_id=TOO_LONG), "too_long", "user_id"),
        (event(session_id=TOO_LONG), "too_long", "session_id"),
        (event(level=TOO_LONG), "too_long", "level"),
        (event(category="other"), "invalid_category", "category"),
        (event(category=""), "invalid_category", "category"),
        (event(category="System"), "invalid_category", "category"),
        (event(category=1), "invalid_category", "category"),
        (event(category=["system"]), "invalid_category", "category"),
        (event(a=1, properties={"a": 1}), "duplicate_key", None),
        (event(a=1, properties={"b": 1, "a": None}), "duplicate_key", None),
        (event(**{TOO_LONG: 1}), "name_too_long", None),
        (event(properties={TOO_LONG: 1}), "name_too_long", None),
        (event(a=[{"b": {TOO_LONG: 1}}]), "name_too_long", None),
        (event(a="x" * 33_000), "event_too_large", None),
        (event(message="x" * 33_000), "event_too_large", None),
        (event(a="x" * 17_000, message="x" * 17_000), "event_too_large", None),
    ],
)
def test_a_bad_event_is_rejected_with_its_code_and_field(bad: Any, code: str, field: str | None):
    rejection = refused(bad)
    assert (rejection.code, rejection.field) == (code, field)


@pytest.mark.parametrize("bad", [None, 1, 1.5, True, "event", [], [event()]], ids=repr)
def test_what_is_no_object_is_no_event(bad: Any):
    assert refused(bad).code == "invalid_type"


@pytest.mark.parametrize("field", ["event", "user_id", "session_id", "level"])
def test_200_characters_are_not_too_long(field: str):
    assert refused(event(**{field: "😀" * 201})).code == "too_long"
    only(event(**{field: "😀" * 200}))


def test_a_name_of_200_characters_is_not_too_long():
    assert properties(only(event(**{"n" * 200: 1}))) == {"n" * 200: 1}


@pytest.mark.parametrize(
    "body",
    [[event(a={TOO_LONG: 1})], event(a={TOO_LONG: 1}), batch(1, event(a={TOO_LONG: 1}))],
    ids=["list", "event", "beside what is no event"],
)
def test_nested_names_are_bounded_in_every_shape_of_body(body: Any):
    assert [rejection.code for rejection in decoded(body).rejections][-1:] == ["name_too_long"]


@pytest.mark.parametrize("field", ["a", "message"])
@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
def test_the_size_of_an_event_is_in_bytes(field: str, letter: str):
    limits = Limits(event_bytes=1000)
    within = letter * (900 // len(letter.encode()))
    beyond = letter * (1100 // len(letter.encode()))
    only(event(**{field: within}), limits=limits)
    assert refused(event(**{field: beyond}), limits=limits).code == "event_too_large"


def test_a_bad_event_does_not_fail_its_batch():
    bad = [event(event=...), 1, event(timestamp="now"), event(level=[])]
    result = decoded(batch(event(), *bad, event()))
    assert [record.position for record in result.records] == [0, 5]
    assert [(problem.index, problem.code) for problem in result.rejections] == [
        (1, "missing_field"),
        (2, "invalid_type"),
        (3, "invalid_timestamp"),
        (4, "invalid_type"),
    ]
    assert result.received == 6


def test_a_batch_of_bad_events_alone_is_no_malformed_batch():
    result = decoded(batch({}, None))
    assert (result.records, len(result.rejections)) == ([], 2)


def test_a_rejection_tells_the_client_place_code_field_and_message():
    rejection = refused(event(user_id=...))
    assert rejection.sentence("events") == "events[1]: Missing required field: user_id"
    assert rejection.report == {
        "index": 1,
        "code": "missing_field",
        "field": "user_id",
        "message": "Missing required field: user_id",
    }


def test_a_rejection_without_a_field_names_none():
    assert refused(1).report == {
        "index": 1,
        "code": "invalid_type",
        "message": "An event must be an object",
    }


# Rules for the batch


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (1, "invalid_type", None),
        ("events", "invalid_type", None),
        (None, "invalid_type", None),
        ({}, "missing_field", "events"),
        ({"events": None}, "missing_field", "events"),
        ({"Events": [event()]}, "missing_field", "events"),
        ({"events": {}}, "invalid_type", "events"),
        ({"events": "x"}, "invalid_type", "events"),
        ({"events": 0}, "invalid_type", "events"),
        ({"events": []}, "no_events", "events"),
        ([], "no_events", "events"),
        (batch(batch_id="b9e4f7a2-..."), "invalid_batch_id", "batch_id"),
        (batch(batch_id=7), "invalid_batch_id", "batch_id"),
        (batch(batch_id=[BATCH_ID]), "invalid_batch_id", "batch_id"),
        (batch(batch_id=2**60), "invalid_batch_id", "batch_id"),
        (batch(timestamp="now"), "invalid_timestamp", "timestamp"),
        (batch(timestamp=1763634600), "invalid_timestamp", "timestamp"),
        (batch(user_id=7), "invalid_type", "user_id"),
        (batch(session_id=[]), "invalid_type", "session_id"),
        (batch(client_version=1.2), "invalid_type", "client_version"),
        (batch(user_id=TOO_LONG), "too_long", "user_id"),
        (batch(session_id=TOO_LONG), "too_long", "session_id"),
        (batch(client_version=TOO_LONG), "too_long", "client_version"),
        (batch(category="other"), "invalid_category", "category"),
    ],
)
def test_a_malformed_batch_has_a_code_and_a_field(body: Any, code: str, field: str | None):
    reason = malformed(body)
    assert (reason.code, reason.field) == (code, field)


def test_as_many_events_as_the_limit_says():
    limits = Limits(batch_events=3)
    assert decoded([event()] * 3, limits=limits).received == 3
    reason = malformed([event()] * 4, limits=limits)
    assert (reason.code, reason.field) == ("too_many_events", "events")
    assert malformed([1] * 4, limits=limits).code == "too_many_events"


@pytest.mark.parametrize("batch_id", [BATCH_ID, BATCH_ID.upper(), BATCH_ID.replace("-", "")])
def test_a_batch_id_is_a_uuid_however_it_is_written(batch_id: str):
    assert decoded(batch(event(), batch_id=batch_id)).batch_id == UUID(BATCH_ID)


# What the operator sees of what was refused


SECRET = "hunter2"


def test_a_shape_holds_names_and_types():
    bad = event(
        level=7,
        text=SECRET,
        whole=1,
        real=1.5,
        yes=True,
        nothing=None,
        many=[SECRET],
        some={SECRET: SECRET},
    )
    assert refused(bad).shape == {
        "event": "string",
        "timestamp": "string",
        "user_id": "string",
        "level": "number",
        "text": "string",
        "whole": "number",
        "real": "number",
        "yes": "boolean",
        "nothing": "null",
        "many": "array",
        "some": "object",
    }


@pytest.mark.parametrize(
    ("bad", "kind"), [(1, "number"), ("x", "string"), ([], "array"), (None, "null")]
)
def test_the_shape_of_what_is_no_object_is_its_type(bad: Any, kind: str):
    assert refused(bad).shape == {"": kind}


@pytest.mark.parametrize(
    "bad",
    [
        event(event=[SECRET]),
        event(timestamp=SECRET),
        event(user_id=[SECRET]),
        event(user_id=SECRET * 50),
        event(category=SECRET),
        event(message=[SECRET]),
        event(properties=SECRET),
        event(a=SECRET, properties={"a": SECRET}),
        event(a=f"\0{SECRET}"),
        event(a=[SECRET, float("nan")]),
        event(a=SECRET * 10_000),
        event(a=[[[[[[[[[[[[[[[[[[[SECRET]]]]]]]]]]]]]]]]]]]),
        SECRET,
        [SECRET],
    ],
)
def test_a_rejection_never_holds_a_value(bad: Any):
    rejection = refused(bad)
    assert SECRET not in repr(rejection)
    assert SECRET not in rejection.sentence("events")


@pytest.mark.parametrize(
    "body",
    [
        batch(batch_id=SECRET),
        batch(timestamp=SECRET),
        batch(user_id=[SECRET]),
        batch(category=SECRET),
        {"events": SECRET},
        {SECRET: SECRET},
    ],
)
def test_a_malformed_batch_never_tells_a_value(body: Any):
    reason = malformed(body)
    assert SECRET not in f"{reason} {reason.details} {reason.field}"


def test_a_shape_is_bounded():
    bad = event(event=...) | {f"{number}-{'n' * 300}": 1 for number in range(100)}
    kept = refused(bad).shape
    assert len(kept) == 50
    assert max(map(len, kept)) == 200


def test_a_shape_can_be_stored_as_jsonb():
    bad = event(**{"nul\0": 1, "lone\ud800": 1})
    names = list(refused(bad).shape)
    assert "nul\ufffd" in names
    assert all("\0" not in name and name.encode() for name in names)
