"""Stored events as OpenTelemetry's log records: source 002's mapping, and nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.semconv._incubating.attributes import session_attributes, user_attributes
from opentelemetry.semconv.attributes import service_attributes, telemetry_attributes

from ingest.formats import FORMATS
from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.logs import logs
from ingest.records import Envelope, MalformedBatch, Record
from tests.ingest.rendering import (
    OBSERVED,
    OCCURRED,
    as_attribute,
    event,
    event_of,
    log_record,
    log_records,
    read,
    same,
)
from tests.ingest.test_decoder_properties import ENVELOPE, any_item, encoded, fuzz, value

SUBJECT = bytes(range(16))
SESSION = bytes(range(16, 32))
# Names that mean something to one side or the other.
OURS = ("user.id", "enduser.id", "session.id", "event.category", "requestId", "request.id",
        "sent.user.id", "trace_id", "span_id", "body", "resource", "")  # fmt: skip


def attributes(**properties: Any) -> dict[str, Any]:
    """The attributes of an event with these properties, but for its category."""
    found = read(log_record(properties=json.dumps(properties)).attributes)
    assert found.pop("event.category") == "application"
    return found


def test_an_event_is_sent_as_the_source_prints_it():
    """Its example, but that ids are pseudonyms and whole numbers of 64 bits are strings."""
    row = event(
        scope="component-name",
        session=SESSION,
        level="info",
        message="User action description",
        properties=b'{"requestId": "request-xyz789", "action": "button_click"}',
    )
    body, content_type = encode(logs("demo-web-client", [row]), "json")
    assert content_type == "application/json"
    assert json.loads(body) == {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": "demo-web-client"}},
                        {"key": "telemetry.sdk.name", "value": {"stringValue": "client-telemetry"}},
                    ]
                },
                "scopeLogs": [
                    {
                        "scope": {"name": "component-name"},
                        "logRecords": [
                            {
                                "timeUnixNano": str(OCCURRED * 1000),
                                "observedTimeUnixNano": str(OBSERVED * 1000),
                                "severityNumber": 9,
                                "severityText": "INFO",
                                "body": {"stringValue": "User action description"},
                                "attributes": [
                                    {"key": "session.id", "value": {"stringValue": SESSION.hex()}},
                                    {
                                        "key": "event.category",
                                        "value": {"stringValue": "application"},
                                    },
                                    {"key": "action", "value": {"stringValue": "button_click"}},
                                    {
                                        "key": "request.id",
                                        "value": {"stringValue": "request-xyz789"},
                                    },
                                ],
                                "eventName": "log",
                            }
                        ],
                    }
                ],
            }
        ]
    }


def test_names_are_those_of_the_semantic_conventions():
    (found,) = log_records(event(subject=SUBJECT, session=SESSION, client_version="1.2.3"))
    assert found.resource == {
        service_attributes.SERVICE_NAME: "shop",
        service_attributes.SERVICE_VERSION: "1.2.3",
        telemetry_attributes.TELEMETRY_SDK_NAME: "client-telemetry",
    }
    assert found.attributes == {
        user_attributes.USER_ID: SUBJECT.hex(),
        session_attributes.SESSION_ID: SESSION.hex(),
        "event.category": "application",
    }


@pytest.mark.parametrize(
    ("level", "text", "number"),
    [
        ("trace", "TRACE", 1),
        ("debug", "DEBUG", 5),
        ("info", "INFO", 9),
        ("notice", "NOTICE", 10),
        ("warn", "WARN", 13),
        ("warning", "WARNING", 13),
        ("error", "ERROR", 17),
        ("critical", "CRITICAL", 18),
        ("alert", "ALERT", 19),
        ("fatal", "FATAL", 21),
        ("emergency", "EMERGENCY", 21),
        ("Warn", "Warn", 13),
        ("chatty", "chatty", 0),
    ],
)
def test_a_level_is_a_severity(level: str, text: str, number: int):
    record = log_record(level=level)
    assert (record.severity_text, record.severity_number) == (text, number)


def test_an_event_without_level_and_message_says_nothing_of_them():
    record = log_record()
    assert (record.severity_text, record.severity_number) == ("", 0)
    assert not record.HasField("body")


def test_an_empty_message_is_one():
    assert log_record(message="").body.WhichOneof("value") == "string_value"


def test_each_client_version_is_a_resource_and_each_scope_of_it_a_scope():
    rows = [
        event(client_version=version, scope=scope, name=f"{version} {scope}")
        for version in ("1", "2", None)
        for scope in ("cart", None, "cart")
    ]
    request = ExportLogsServiceRequest.FromString(encode(logs("shop", rows), "protobuf")[0])
    assert [
        (read(group.resource.attributes).get("service.version"), scope.scope.name, names)
        for group in request.resource_logs
        for scope in group.scope_logs
        if (names := [record.event_name for record in scope.log_records])
    ] == [
        ("1", "cart", ["1 cart"] * 2),
        ("1", "", ["1 None"]),
        ("2", "cart", ["2 cart"] * 2),
        ("2", "", ["2 None"]),
        (None, "cart", ["None cart"] * 2),
        (None, "", ["None None"]),
    ]


def test_nothing_to_send_is_nothing():
    assert encode(logs("shop", []), "protobuf")[0] == b""


@pytest.mark.parametrize(
    ("stored", "kind", "value"),
    [
        ("9223372036854775807", "int_value", 2**63 - 1),
        ("-9223372036854775808", "int_value", -(2**63)),
        # The specification's way with those that are larger.
        ("9223372036854775808", "string_value", "9223372036854775808"),
        ("18446744073709551615", "string_value", "18446744073709551615"),
        # What came as 1e300 stands in PostgreSQL with all of its digits.
        (f"1{'0' * 300}", "double_value", 1e300),
        (f"-1{'0' * 20}", "double_value", -1e20),
        ("1.0", "double_value", 1.0),
        ("true", "bool_value", True),
        ('""', "string_value", ""),
        ("null", None, None),
    ],
)
def test_a_value_has_its_type(stored: str, kind: str | None, value: Any):
    (_, attribute) = log_record(properties=f'{{"a": {stored}}}').attributes
    assert attribute.HasField("value")
    assert attribute.value.WhichOneof("value") == kind
    assert kind is None or getattr(attribute.value, kind) == value


def test_what_is_nested_stays_nested():
    nested = {"list": [1, [2.5, None], {"deep": {}}], "object": {"a": {"b": True}, "empty": []}}
    assert same(attributes(**nested), nested)


@pytest.mark.parametrize("name", ["user.id", "enduser.id", "session.id", "event.category", ""])
def test_a_property_never_poses_as_what_we_say(name: str):
    properties = json.dumps({name: "theirs", f"sent.{name}": "theirs too"})
    row = {"subject": SUBJECT, "session": SESSION, "properties": properties}
    assert read(log_record(**row).attributes) == {
        "user.id": SUBJECT.hex(),
        "session.id": SESSION.hex(),
        "event.category": "application",
        f"sent.{name}": "theirs too",
        f"sent.sent.{name}": "theirs",
    }


def test_a_request_id_that_is_there_already_is_left_alone():
    both = {"requestId": "a", "request.id": "b"}
    assert attributes(**both) == both


TRACE_ID, SPAN_ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def test_a_trace_and_its_span_are_the_records():
    properties = json.dumps({"trace_id": TRACE_ID, "span_id": SPAN_ID})
    record = log_record(properties=properties)
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert read(record.attributes) == {"event.category": "application"}


@pytest.mark.parametrize("odd", [TRACE_ID.upper(), TRACE_ID[1:], "0" * 32, "x" * 32, 5, None])
def test_what_is_no_trace_stays_an_attribute(odd: Any):
    properties = {"trace_id": odd, "span_id": SPAN_ID}
    assert attributes(**properties) == properties


def test_a_body_that_is_no_text_is_the_records():
    row = {"properties": b'{"body": {"a": [1]}, "b": 2}'}
    record = log_record(**row)
    assert read(record.body.kvlist_value.values) == {"a": [1]}
    assert read(record.attributes) == {"event.category": "application", "b": 2}
    # Where there is a message, that is it.
    record = log_record(**row, message="said")
    assert record.body.string_value == "said"
    assert read(record.attributes)["body"] == {"a": [1]}


@fuzz
@given(properties=st.dictionaries(st.sampled_from(OURS) | st.text(max_size=5), value, max_size=8))
def test_every_property_is_in_the_record_once(properties: dict[str, Any]):
    record = log_record(properties=json.dumps(properties, allow_nan=False))
    found = read(record.attributes)
    kept = len(found) - 1 + bool(record.trace_id) + bool(record.span_id) + record.HasField("body")
    assert kept == len(properties)
    assert found["event.category"] == "application"
    ordinary = properties.keys() - set(OURS)
    assert same(
        {name: found[name] for name in ordinary}, {name: properties[name] for name in ordinary}
    )


@pytest.mark.parametrize("name", ["events", "submit", "client_telemetry"])
@fuzz
@given(data=st.data())
def test_every_event_that_a_decoder_takes_is_rendered_with_all_it_says(
    name: str, data: st.DataObject
):
    items = data.draw(st.lists(any_item(name), min_size=1, max_size=3))
    batch = data.draw(st.fixed_dictionaries({"events": st.just(items)}, optional=ENVELOPE))
    try:
        decoded = FORMATS[name](encoded(batch), Envelope(users_optional=True))
    except MalformedBatch:
        return
    for record in decoded.records:
        assert isinstance(record, Record)
        check(record)


def check(record: Record) -> None:
    row = event_of(record)
    (found,) = log_records(row)
    sent = found.item
    assert sent.time_unix_nano == row.occurred_at * 1000
    assert sent.observed_time_unix_nano == row.observed_at * 1000
    assert sent.event_name == record.name
    assert sent.severity_text.lower() == (record.level or "").lower()
    assert found.scope == (record.scope or "")
    assert found.resource.get("service.version") == record.client_version
    if record.message is not None:
        assert sent.body.string_value == record.message
    ours = {"event.category": record.category}
    if row.subject:
        ours["user.id"] = row.subject.hex()
    if row.session:
        ours["session.id"] = row.session.hex()
    properties = as_attribute(json.loads(record.properties))
    if "requestId" in properties:
        properties["request.id"] = properties.pop("requestId")
    if "" in properties:
        properties["sent."] = properties.pop("")
    assert same(found.attributes, properties | ours)
