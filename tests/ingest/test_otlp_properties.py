"""Properties of OTLP's decoders: whatever is sent, each item of it is taken or refused."""

import json
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.formats import OTLP_FORMATS
from ingest.formats.otlp.logs import decode
from ingest.records import DecodedBatch, Envelope, Limits, MalformedBatch, Record
from tests.ingest.otlp import JSON, PROTOBUF, TIME, attributes, logs, value, written

fuzz = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LIMITS = Limits(batch_events=3)
ENVELOPE = Envelope(limits=LIMITS)
NAMES = ("user.id", "enduser.id", "session.id", "event.name", "event.category", "request.id",
         "requestId", "trace_id", "span_id", "body", "resource", "service.version",
         "telemetry.sdk.name")  # fmt: skip

any_text = st.text(max_size=12) | st.sampled_from(["client-telemetry", "business", "x" * 201, "\0"])
any_name = any_text | st.sampled_from(NAMES)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | any_text
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_name, inner, max_size=4)
    | inner.map(lambda whole: [[[[[[[[whole]]]]]]]]),
    max_leaves=8,
)  # fmt: skip
any_attributes = st.dictionaries(any_name, any_value, max_size=5)
any_moment = st.integers(0, 2**64 - 1) | st.sampled_from([0, TIME])
any_record = st.builds(
    LogRecord,
    time_unix_nano=any_moment,
    observed_time_unix_nano=any_moment,
    severity_number=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 25),
    severity_text=any_text,
    event_name=any_text,
    body=any_value.map(value),
    attributes=any_attributes.map(attributes),
    trace_id=st.binary(max_size=20),
    span_id=st.binary(max_size=10),
    flags=st.integers(0, 2**32 - 1),
)
any_request = st.builds(
    logs, any_record, any_record, resource=any_attributes, scope=any_text
) | st.builds(logs, *([any_record] * 4))
FIELDS = sorted(LogRecord.DESCRIPTOR.fields_by_camelcase_name)
FIELDS += ["resourceLogs", "scopeLogs", "logRecords", "scope", "resource", "key", "value"]
FIELDS += ["stringValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "values"]
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(any_text | st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def decoded(body: bytes, encoding: str) -> list[DecodedBatch] | None:
    """The batches of a body that is a request; all of them can be kept."""
    try:
        batches = list(decode(body, encoding, ENVELOPE))
    except MalformedBatch:
        return None
    for batch in batches:
        check(batch)
    return batches


def check(batch: DecodedBatch) -> None:
    """Every item is a record that can be kept, or a rejection that says why."""
    places = [record.position for record in batch.records]
    places += [rejection.index for rejection in batch.rejections]
    assert sorted(places) == list(range(batch.received))
    assert 0 < batch.received <= LIMITS.batch_events
    for rejection in batch.rejections:
        assert rejection.code
        assert rejection.message
    for record in batch.records:
        assert isinstance(record, Record)
        words = (record.name, record.user_id, record.session_id, record.level, record.scope,
                 record.client_version)  # fmt: skip
        assert all(word is None or 0 < len(word) <= LIMITS.name_length for word in words)
        for text in (record.name, record.level, record.scope, record.message):
            assert "\0" not in (text or "")
        stored = json.loads(record.properties, parse_constant=refuse)
        assert isinstance(stored, dict)
        assert len(record.properties) <= LIMITS.event_bytes
        assert "\\u0000" not in json.dumps(stored).replace("\\\\", "")
        assert depth(stored) <= LIMITS.depth


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def depth(part: Any) -> int:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@fuzz
@given(st.binary(max_size=200), st.sampled_from([PROTOBUF, JSON]))
def test_any_bytes(body: bytes, encoding: str) -> None:
    for read in OTLP_FORMATS.values():
        with suppress(MalformedBatch):
            assert all(batch.received for batch in read(body, encoding, ENVELOPE))


@fuzz
@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_as_a_record(item: bytes) -> None:
    """It is one exactly where protobuf's own parser takes it."""
    framed = b"\x12" + bytes([len(item)]) + item
    framed = b"\x12" + bytes([len(framed)]) + framed
    found = decoded(b"\x0a" + bytes([len(framed)]) + framed, PROTOBUF)
    assert found is not None
    (batch,) = found
    malformed = [r for r in batch.rejections if r.code == "malformed_protobuf"]
    assert bool(malformed) == (not is_one(item))


def is_one(item: bytes) -> bool:
    try:
        LogRecord.FromString(item)
    except DecodeError:
        return False
    return True


@fuzz
@given(any_request, st.sampled_from([PROTOBUF, JSON]))
def test_any_record_is_taken_or_refused(request: ExportLogsServiceRequest, encoding: str) -> None:
    found = decoded(written(request, encoding), encoding)
    assert found is not None
    number = len(request.resource_logs[0].scope_logs[0].log_records)
    assert sum(batch.received for batch in found) == number


@fuzz
@given(any_request)
def test_both_encodings_say_the_same(request: ExportLogsServiceRequest) -> None:
    protobuf = decoded(written(request), PROTOBUF)
    in_json = decoded(written(request, JSON), JSON)
    assert protobuf is not None
    assert in_json is not None
    for one, other in zip(protobuf, in_json, strict=True):
        assert one.records == other.records
        assert one.rejections == other.rejections


@fuzz
@given(any_request, st.data())
def test_a_request_that_was_cut_off(request: ExportLogsServiceRequest, data: Any) -> None:
    body = written(request)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    assert decoded(cut, PROTOBUF) in (None, [])


@fuzz
@given(any_request, st.data())
def test_a_request_with_a_byte_changed(request: ExportLogsServiceRequest, data: Any) -> None:
    body = bytearray(written(request))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoded(bytes(body), PROTOBUF)


@fuzz
@given(any_json)
def test_any_json(content: Any) -> None:
    decoded(json.dumps(content).encode(), JSON)
    record = {"resourceLogs": [{"scopeLogs": [{"logRecords": [content]}]}]}
    found = decoded(json.dumps(record).encode(), JSON)
    assert found is not None
    assert [batch.received for batch in found] == [1]


def test_what_is_made_here_is_taken_now_and_then() -> None:
    """Were all of it refused, the properties would say little."""
    taken = []

    @fuzz
    @given(any_request)
    def take(request: ExportLogsServiceRequest) -> None:
        for batch in decoded(written(request), PROTOBUF) or ():
            taken.extend(batch.records)

    take()
    assert len(taken) > 20
