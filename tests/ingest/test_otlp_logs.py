"""Log records of OTLP: what they become, and what is refused of them. Pure."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.formats.otlp import frames
from ingest.formats.otlp.logs import decode
from ingest.records import DecodedBatch, Envelope, Limits, MalformedBatch, Record, Rejection
from tests.ingest.otlp import JSON, PROTOBUF, TIME, log, logs, value, written

every_encoding = pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
GOOD = log("good", time_unix_nano=TIME)


def decoded(body: Any, encoding: str = PROTOBUF, **envelope: Any) -> list[DecodedBatch]:
    """The batches of a request, or of a body."""
    content = body if isinstance(body, bytes) else written(body, encoding)
    return list(decode(content, encoding, Envelope(**envelope)))


def only(request: ExportLogsServiceRequest, encoding: str = PROTOBUF, **envelope: Any) -> Record:
    """The one record of a request in which nothing is wrong."""
    (batch,) = decoded(request, encoding, **envelope)
    assert batch.rejections == []
    (record,) = batch.records
    assert isinstance(record, Record)
    return record


def event(record: LogRecord, encoding: str = PROTOBUF, **envelope: Any) -> Record:
    """What a log record becomes."""
    return only(logs(record), encoding, **envelope)


def properties(record: Record) -> Any:
    return json.loads(record.properties)


def refused(record: LogRecord, encoding: str = PROTOBUF, **envelope: Any) -> Rejection:
    """Why a record is not taken; its neighbours are."""
    (batch,) = decoded(logs(GOOD, record, GOOD), encoding, **envelope)
    assert [good.position for good in batch.records] == [0, 2]
    (rejection,) = batch.rejections
    assert rejection.index == 1
    return rejection


def malformed(body: bytes, encoding: str = PROTOBUF) -> MalformedBatch:
    with pytest.raises(MalformedBatch) as caught:
        decoded(body, encoding)
    return caught.value


# --- the mapping ---


@every_encoding
def test_a_record_becomes_an_event(encoding: str) -> None:
    own = {
        "user.id": "u-1", "session.id": "s-1", "event.category": "business", "request.id": "r-1",
        "http.request.method": "GET", "retries": 3, "ratio": 0.5, "cached": False, "nothing": None,
        "tags": ["a", 1, [True]], "nested": {"a": {"b": "c"}}, "raw": b"\0\xff",
    }  # fmt: skip
    record = log(
        "order placed", own, time_unix_nano=TIME, observed_time_unix_nano=TIME + 10**9,
        severity_number=13, severity_text="WARNING", event_name="order_placed",
        trace_id=bytes(range(16)), span_id=bytes(range(8)),
    )  # fmt: skip
    request = logs(
        record, resource={"service.name": "shop", "service.version": "1.2.3"}, scope="shop.orders"
    )
    found = only(request, encoding)
    assert properties(found) == {
        "http.request.method": "GET", "retries": 3, "ratio": 0.5, "cached": False, "nothing": None,
        "tags": ["a", 1, [True]], "nested": {"a": {"b": "c"}}, "raw": "AP8=",
        "requestId": "r-1", "resource": {"service.name": "shop"},
        "trace_id": "000102030405060708090a0b0c0d0e0f", "span_id": "0001020304050607",
    }  # fmt: skip
    found.properties = b""
    assert found == Record(
        position=0,
        occurred_at=datetime(2026, 11, 20, 10, 30, 0, 123456, UTC),
        name="order_placed",
        user_id="u-1",
        session_id="s-1",
        category="business",
        level="warn",
        scope="shop.orders",
        client_version="1.2.3",
        message="order placed",
        properties=b"",
    )


def test_a_record_of_nothing_is_an_event_without_a_time() -> None:
    found = event(LogRecord())
    assert found == Record(0, None, "log", None, None, "application", None, None, None, None, b"{}")


def test_users_are_optional_and_the_headers_stand_in() -> None:
    found = event(log(), user_id="from-header", client_version="9", users_optional=False)
    assert (found.user_id, found.client_version) == ("from-header", "9")
    own = only(logs(log(), resource={"user.id": "u", "service.version": "1"}), user_id="header")
    assert (own.user_id, own.client_version) == ("u", "1")


@pytest.mark.parametrize(
    ("own", "resource", "user_id"),
    [
        ({"user.id": "a", "enduser.id": "b"}, {"user.id": "c"}, "a"),
        ({"enduser.id": "b"}, {"user.id": "c"}, "b"),
        ({"user.id": ""}, {"enduser.id": "d"}, "d"),
        ({"user.id": 17}, {}, "17"),
        ({}, {}, None),
    ],
)
def test_whom_a_record_is_of_is_not_kept_as_it_is(
    own: dict[str, Any], resource: dict[str, Any], user_id: str | None
) -> None:
    found = only(logs(log(own=own), resource=resource))
    assert found.user_id == user_id
    assert properties(found) == {}


def test_a_session_may_be_the_resources() -> None:
    request = logs(log(), log(own={"session.id": "own"}), resource={"session.id": "shared"})
    (batch,) = decoded(request)
    assert [record.session_id for record in batch.records] == ["shared", "own"]
    assert {record.properties for record in batch.records} == {b"{}"}


@pytest.mark.parametrize(
    ("own", "event_name", "name"),
    [
        ({"event.name": "older"}, "", "older"),
        ({"event.name": "older"}, "newer", "newer"),
        ({"event.name": 5}, "", "log"),
        ({}, "", "log"),
    ],
)
def test_what_an_event_is_called(own: dict[str, Any], event_name: str, name: str) -> None:
    assert event(log(own=own, event_name=event_name)).name == name


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (1, "", "trace"), (4, "", "trace"), (5, "", "debug"), (9, "Information", "info"),
        (12, "", "info"), (16, "", "warn"), (17, "ERROR", "error"), (24, "CRITICAL", "fatal"),
        (0, "INFO", "info"), (0, "Verbose", "Verbose"), (0, "", None), (99, "odd", "odd"),
    ],
)  # fmt: skip
@every_encoding
def test_levels(number: int, text: str, level: str | None, encoding: str) -> None:
    record = LogRecord(severity_text=text)
    record.severity_number = number
    assert event(record, encoding).level == level


@pytest.mark.parametrize(("text", "level"), [("NOTICE", "notice"), ("Odd", "Odd"), ("", "info")])
def test_what_we_export_has_the_level_that_it_had(text: str, level: str) -> None:
    record = log(severity_number=10, severity_text=text)
    ours = logs(record, resource={"telemetry.sdk.name": "client-telemetry"})
    assert only(ours).level == level


@every_encoding
def test_a_body_that_is_no_text_is_a_property(encoding: str) -> None:
    for body in ({"a": [1, 2.5]}, [True, None], 7, 1.5, False, b"\1"):
        found = event(log(body), encoding)
        assert found.message is None
        assert properties(found) == {"body": "AQ==" if isinstance(body, bytes) else body}


def test_no_attribute_is_lost_for_one_of_ours() -> None:
    own = {"trace_id": "theirs", "body": {"a": 1}, "resource": "r", "span_id": "0001020304050607"}
    record = log({"b": 2}, own, trace_id=b"t" * 16, span_id=bytes(range(8)))
    found = only(logs(record, resource={"service.name": "s"}))
    assert properties(found) == {
        "trace_id": "74" * 16, "sent.trace_id": "theirs", "span_id": "0001020304050607",
        "body": {"b": 2}, "sent.body": {"a": 1}, "resource": {"service.name": "s"},
        "sent.resource": "r",
    }  # fmt: skip
    both = event(log(own={"request.id": "a", "requestId": "b"}))
    assert properties(both) == {"request.id": "a", "requestId": "b"}


@pytest.mark.parametrize("trace_id", [b"", b"\0" * 16, b"short", b"x" * 17])
@every_encoding
def test_an_id_that_is_none_is_left_out(trace_id: bytes, encoding: str) -> None:
    assert properties(event(log(trace_id=trace_id, span_id=b"1"), encoding)) == {}


def test_when_it_was_seen_stands_in_for_when_it_happened() -> None:
    assert event(LogRecord(observed_time_unix_nano=TIME)).occurred_at == datetime(
        2026, 11, 20, 10, 30, 0, 123456, UTC
    )
    last = event(LogRecord(time_unix_nano=2**64 - 1)).occurred_at
    assert last is not None
    assert last.year == 2554


def test_the_last_of_two_attributes_of_one_name_holds() -> None:
    record = log()
    for number in (1, 2):
        record.attributes.add(key="a", value=value(number))
    assert properties(event(record)) == {"a": 2}


# --- batches ---


def test_a_large_request_is_split_in_order() -> None:
    request = logs(*(log(f"{number}") for number in range(2500)))
    batches = decoded(request)
    assert [len(batch.records) for batch in batches] == [1000, 1000, 500]
    messages = [record.message for batch in batches for record in batch.records]
    assert messages == [f"{number}" for number in range(2500)]
    assert [record.position for record in batches[1].records] == list(range(1000))
    assert all(batch.named_by_content for batch in batches)
    sizes = [batch.body_bytes or 0 for batch in batches]
    assert 0.8 < sum(sizes) / len(written(request)) < 1


def test_a_batch_holds_several_resources() -> None:
    request = logs(log(), resource={"service.version": "1"})
    request.MergeFrom(logs(log(), resource={"service.version": "2"}))
    (batch,) = decoded(request)
    assert [record.client_version for record in batch.records] == ["1", "2"]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", PROTOBUF), (b"{}", JSON), (b'{"resourceLogs": null, "unknown": [1]}', JSON),
        (b'{"resourceLogs": [{"resource": null, "scopeLogs": [{"logRecords": []}]}]}', JSON),
        (written(logs()), PROTOBUF),
    ],
)  # fmt: skip
def test_a_request_of_nothing_has_no_batch(body: bytes, encoding: str) -> None:
    assert decoded(body, encoding) == []


# --- JSON's own ways ---


def in_json(**record: Any) -> bytes:
    scopes = [{"scope": {"name": "s", "attributes": []}, "logRecords": [record]}]
    return json.dumps({"resourceLogs": [{"scopeLogs": scopes, "schemaUrl": "x"}]}).encode()


def test_json_has_numbers_as_strings_or_as_numbers() -> None:
    for moment in (TIME, str(TIME)):
        for number in (17, "17", "SEVERITY_NUMBER_ERROR"):
            body = in_json(
                timeUnixNano=moment,
                severityNumber=number,
                attributes=[
                    {"key": "a", "value": {"intValue": str(moment)}},
                    {"key": "b", "value": {"doubleValue": "1.5"}},
                    {"key": "c", "value": {}},
                    {"key": "d"},
                ],
                flags=1,
                unknown={"x": 1},
                body=None,
            )
            ((record,),) = (batch.records for batch in decoded(body, JSON))
            assert isinstance(record, Record)
            assert record.level == "error"
            assert record.occurred_at == datetime(2026, 11, 20, 10, 30, 0, 123456, UTC)
            assert properties(record) == {"a": TIME, "b": 1.5, "c": None, "d": None}


@pytest.mark.parametrize(
    "record",
    [
        {"timeUnixNano": "soon"}, {"timeUnixNano": -1}, {"timeUnixNano": 2**64},
        {"timeUnixNano": "1" * 40}, {"timeUnixNano": 1.5}, {"timeUnixNano": []},
        {"severityNumber": "LOUD"}, {"severityNumber": 2**40}, {"severityNumber": []},
        {"traceId": "xyz"}, {"traceId": 5}, {"body": "bare"}, {"body": {"stringValue": 5}},
        {"body": {"bytesValue": "?"}}, {"body": {"arrayValue": {"values": [None]}}},
        {"attributes": {"a": 1}}, {"attributes": ["a"]}, {"attributes": [{"key": 5}]},
        {"body": {"doubleValue": "many"}}, {"body": {"kvlistValue": []}}, {"eventName": 7},
    ],
)  # fmt: skip
def test_a_record_of_other_types_is_refused_alone(record: dict[str, Any]) -> None:
    (batch,) = decoded(in_json(**record), JSON)
    assert [rejection.code for rejection in batch.rejections] == ["invalid_type"]


@pytest.mark.parametrize("record", [b"5", b"[]", b'"x"', b"true"])
def test_what_is_no_record_is_refused_alone(record: bytes) -> None:
    body = b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [%s, {}]}]}]}' % record
    (batch,) = decoded(body, JSON)
    assert [rejection.code for rejection in batch.rejections] == ["invalid_type"]
    assert [good.position for good in batch.records] == [1]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"), (b"{", "malformed_json"), (b"\xff", "malformed_json"),
        (b'{"resourceLogs": 5}', "invalid_type"), (b"[]", "invalid_type"),
        (b'{"resourceLogs": [{"scopeLogs": {}}]}', "invalid_type"),
        (b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "\\ud800"}]}]}]}',
         "malformed_json"),
        (b"[" * 5000, "invalid_type"), (b'{"a": ' + b"[" * 5000, "malformed_json"),
        (b'{"resourceLogs": [%s{}]}' % (b"{}," * 500_000), "too_complex"),
    ],
)  # fmt: skip
def test_json_that_is_no_request(body: bytes, code: str) -> None:
    assert malformed(body, JSON).code == code


# --- what is refused of a record ---


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    whole: Any = "innermost"
    for _ in range(levels):
        whole = wrap(whole)
    return whole


REFUSED = {
    "nul in the message": (log("a\0b"), "invalid_character"),
    "nul in a property": (log(own={"a": {"b": ["\0"]}}), "invalid_character"),
    "nul in a name": (log(own={"a\0": 1}), "invalid_character"),
    "nul in the event's name": (log(event_name="a\0"), "invalid_character"),
    "nul in the level": (LogRecord(severity_text="a\0"), "invalid_character"),
    "not a number": (log(own={"a": math.nan}), "number_out_of_range"),
    "infinite": (log(own={"a": [{"b": -math.inf}]}), "number_out_of_range"),
    "infinite body": (log(math.inf), "number_out_of_range"),
    "long name": (log(own={"k" * 201: 1}), "name_too_long"),
    "long name within": (log(own={"a": {"k" * 201: 1}}), "name_too_long"),
    "long event name": (log(event_name="n" * 201), "too_long"),
    "long user": (log(own={"user.id": "u" * 201}), "too_long"),
    "long session": (log(own={"session.id": "s" * 201}), "too_long"),
    "user of no type": (log(own={"user.id": ["u"]}), "invalid_type"),
    "deep lists": (log(own={"a": nested(16, lambda inner: [inner])}), "too_deep"),
    "deep objects": (log(own={"a": nested(16, lambda inner: {"b": inner})}), "too_deep"),
    "deep body": (log(nested(16, lambda inner: [inner])), "too_deep"),
    "large": (log("m" * 32_769), "event_too_large"),
    "large property": (log(own={"a": "m" * 32_769}), "event_too_large"),
    "very large": (log("m" * 131_073), "event_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
@every_encoding
def test_a_bad_record_is_refused_alone(name: str, encoding: str) -> None:
    record, code = REFUSED[name]
    rejection = refused(record, encoding)
    assert rejection.code == code
    assert rejection.message


@every_encoding
def test_a_backslash_is_no_nul(encoding: str) -> None:
    assert event(log("\\u0000", {"a": "\\u0000"}), encoding).message == "\\u0000"


@every_encoding
def test_as_deep_as_may_be(encoding: str) -> None:
    within = nested(15, lambda inner: [inner])
    assert properties(event(log(own={"a": within}), encoding)) == {"a": within}


def test_deeper_than_protobuf_goes() -> None:
    whole = b""
    for _ in range(120):
        whole = field(5, field(1, whole))  # a list of one value
    (batch,) = decoded(framed(field(2, field(5, whole))))
    assert [rejection.code for rejection in batch.rejections] == ["malformed_protobuf"]
    deep = nested(120, lambda inner: {"arrayValue": {"values": [inner]}})
    (batch,) = decoded(in_json(body=deep), JSON)
    assert [rejection.code for rejection in batch.rejections] == ["too_deep"]


@pytest.mark.parametrize(
    ("resource", "scope", "code"),
    [
        ({"a": "\0"}, "", "invalid_character"),
        ({"a": math.nan}, "", "number_out_of_range"),
        ({"user.id": []}, "", "invalid_type"),
        ({"a": "m" * 131_073}, "", "event_too_large"),
        ({"a": nested(15, lambda inner: [inner])}, "", "too_deep"),
        ({}, "s" * 201, "too_long"),
        ({}, "\0", "invalid_character"),
    ],
)
@every_encoding
def test_what_is_wrong_with_a_resource_is_so_of_its_records(
    resource: dict[str, Any], scope: str, code: str, encoding: str
) -> None:
    request = logs(log(), log(), resource=resource, scope=scope)
    request.MergeFrom(logs(log()))
    (batch,) = decoded(request, encoding)
    assert [rejection.code for rejection in batch.rejections] == [code, code]
    assert [good.position for good in batch.records] == [2]


# --- protobuf that is none, or too much ---


def field(number: int, content: bytes) -> bytes:
    """A field that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def framed(items: bytes) -> bytes:
    """A request of one scope with these fields."""
    return field(1, field(2, items))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a", b"\x0a\x05abc", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 11,
        b"\x0b\x0c", b"\x0f", framed(b"\x12\x05abc"), b"\x09abc",
        # It has the time of now in it: as a name it would be another one in each process.
        pytest.param(written(logs(log()))[:-1], id="cut short"),
    ],
)  # fmt: skip
def test_protobuf_that_is_no_request(body: bytes) -> None:
    assert malformed(body).code == "malformed_protobuf"


def test_a_record_that_is_no_message_is_refused_alone() -> None:
    good = field(2, GOOD.SerializeToString())
    for bad in (b"\x0a", b"\x2a\x05abc", b"\x2a\x03\x0a\x01\xff", b"\xff" * 20):
        (batch,) = decoded(framed(good + field(2, bad) + good))
        assert [rejection.code for rejection in batch.rejections] == ["malformed_protobuf"]
        assert [record.position for record in batch.records] == [0, 2]


def test_what_is_unknown_is_passed_over() -> None:
    """Fields of later versions, of every kind; a message in parts is their sum."""
    odd = b"\x98\x06\x01" + b"\x99\x06" + b"8" * 8 + b"\x9d\x06" + b"4" * 4 + field(99, b"later")
    resource = logs(resource={"a": 1, "b": 2}).resource_logs[0].resource
    parts = [
        b"".join(field(1, part.SerializeToString()) for part in [attribute])
        for attribute in resource.attributes
    ]
    record = field(2, GOOD.SerializeToString())
    body = odd + field(1, odd + field(1, parts[0]) + field(2, odd + record) + field(1, parts[1]))
    (batch,) = decoded(body)
    assert [properties(found) for found in batch.records] == [{"resource": {"a": 1, "b": 2}}]


@pytest.mark.parametrize(
    "body",
    [
        framed(b"\x12\x00" * (frames.MOST_ITEMS + 1)),
        framed(b"\x12\x00" * 5_000_000),
        b"\x0a\x00" * 5_000_000,
        field(1, b"\x12\x00" * 5_000_000),
        b"\x98\x06\x01" * 3_000_000,
    ],
    ids=["records", "very many records", "resources", "scopes", "unknown fields"],
)
def test_a_request_of_too_much_is_refused_at_once(body: bytes) -> None:
    began = datetime.now(UTC)
    assert malformed(body).code == "too_many_events"
    assert datetime.now(UTC) - began < timedelta(seconds=5)


@every_encoding
def test_a_resource_is_read_once_for_all_of_its_scopes(encoding: str) -> None:
    """Else what is sent once would be held and parsed as often as it has scopes."""
    large = {"a": "r" * 100_000, **dict.fromkeys(map(str, range(1000)), 1)}
    request = logs(resource=large)
    for _ in range(5000):
        request.resource_logs[0].scope_logs.add().log_records.add()
    body = written(request, encoding)
    found = frames.groups(body, encoding, frames.LOGS)
    assert len(found) == 5000
    assert len({id(group.resource) for group in found}) == 1
    # A thousand attributes, five thousand times, would be more values than a request may have.
    (first, *_) = decoded(body, encoding)
    assert {rejection.code for rejection in first.rejections} == {"event_too_large"}


def test_as_many_records_as_may_be() -> None:
    batches = decoded(framed(b"\x12\x00" * frames.MOST_ITEMS))
    assert sum(len(batch.records) for batch in batches) == frames.MOST_ITEMS


def test_the_values_of_a_request_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they take to read is a hundred times what they take to send."""
    monkeypatch.setattr("ingest.formats.otlp.attributes.MOST_VALUES", 1000)
    request = logs(*(log([0] * 300) for _ in range(4)))
    (batch,) = decoded(request)
    assert [record.position for record in batch.records] == [0, 1, 2]
    assert [rejection.code for rejection in batch.rejections] == ["too_complex"]


def test_what_a_resource_says_once_is_kept_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.formats.otlp.attributes.MOST_KEPT", 100_000)
    request = logs(*(log() for _ in range(5)), resource={"a": "r" * 30_000})
    (batch,) = decoded(request)
    assert [record.position for record in batch.records] == [0, 1, 2]
    assert {rejection.code for rejection in batch.rejections} == {"too_complex"}
    # By this a worker knows how many batches it may have in its memory.
    assert batch.body_bytes is not None
    assert batch.body_bytes > 3 * 30_000


def test_limits_are_the_servers() -> None:
    limits = Limits(batch_events=2, event_bytes=300, depth=2, name_length=9)
    batches = decoded(logs(log(), log(), log("x" * 301)), limits=limits)
    assert [len(batch.records) for batch in batches] == [2, 0]
    assert batches[1].rejections[0].code == "event_too_large"
