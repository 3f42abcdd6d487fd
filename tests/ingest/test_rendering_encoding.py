"""Bodies: what official parsers read of them is what was rendered, in both encodings."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, NumberDataPoint

from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.logs import logs
from ingest.forwarding.rendering.metrics import metrics
from tests.ingest.rendering import event, point
from tests.ingest.test_decoder_properties import finite, fuzz, text, value, word

IDS = ("traceId", "spanId")

properties = st.dictionaries(text, value, max_size=4).map(json.dumps)
identifier = st.none() | st.binary(min_size=16, max_size=16)
moment = st.integers(1, 2**53)
events = st.builds(
    event,
    occurred_at=moment,
    observed_at=moment,
    name=word,
    subject=identifier,
    session=identifier,
    level=st.none() | word,
    scope=st.none() | word,
    client_version=st.none() | word,
    message=st.none() | text,
    properties=properties
    | st.just('{"trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174"}'),
)
measured = st.one_of(
    st.builds(point, st.just("counter"), value=finite, cumulative=st.booleans()),
    st.builds(point, st.sampled_from(["gauge", "meter"]), value=finite),
    st.builds(point, st.just("histogram"), samples=st.lists(finite, min_size=1, max_size=5)),
    st.builds(point, st.just("histogram"), samples=st.just([float(n) for n in range(-9, 200)])),
    st.builds(
        point,
        st.just("summary"),
        count=st.integers(0, 2**63 - 1),
        sum=finite,
        min=st.none() | finite,
        max=st.none() | finite,
    ),
)


def from_json(kind: type[Message], body: bytes) -> Message:
    """What the official parser reads, once ids are as it expects them."""
    return ParseDict(in_base64(json.loads(body)), kind())


def in_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [in_base64(inner) for inner in value]
    if isinstance(value, dict):
        return {
            name: base64.b64encode(bytes.fromhex(inner)).decode()
            if name in IDS
            else in_base64(inner)
            for name, inner in value.items()
        }
    return value


@fuzz
@given(rows=st.lists(events, max_size=4))
def test_logs_are_read_as_they_were_rendered(rows: list[Any]):
    request = logs("shop", rows)
    assert ExportLogsServiceRequest.FromString(encode(request, "protobuf")[0]) == request
    assert from_json(ExportLogsServiceRequest, encode(request, "json")[0]) == request


@fuzz
@given(rows=st.lists(measured, max_size=4))
def test_metrics_are_read_as_they_were_rendered(rows: list[Any]):
    request = metrics("shop", rows)
    assert ExportMetricsServiceRequest.FromString(encode(request, "protobuf")[0]) == request
    assert from_json(ExportMetricsServiceRequest, encode(request, "json")[0]) == request


@fuzz
@given(rows=st.lists(measured, max_size=4))
def test_json_is_what_the_official_writer_makes_of_what_has_no_ids(rows: list[Any]):
    request = metrics("shop", rows)
    official = MessageToDict(request, use_integers_for_enums=True)
    assert json.loads(encode(request, "json")[0]) == official


def test_json_is_written_by_the_rules_of_otlp():
    """Names in lowerCamelCase, 64 bits as strings, 32 as numbers, enumerations as numbers, ids in
    hexadecimal digits, other bytes in base64."""
    record = LogRecord(
        time_unix_nano=2**64 - 1,
        severity_number=17,  # type: ignore[arg-type]
        dropped_attributes_count=2**32 - 1,
        flags=1,
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        body=AnyValue(bytes_value=b"\x00\xff"),
    )
    assert json.loads(encode(record, "json")[0]) == {
        "timeUnixNano": "18446744073709551615",
        "severityNumber": 17,
        "droppedAttributesCount": 4294967295,
        "flags": 1,
        "traceId": "000102030405060708090a0b0c0d0e0f",
        "spanId": "0001020304050607",
        "body": {"bytesValue": "AP8="},
    }


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (1.5, 1.5),
        (-0.0, -0.0),
        (1e300, 1e300),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_a_number_that_json_has_not_is_a_word(number: float, written: Any):
    body, _ = encode(NumberDataPoint(as_double=number), "json")
    assert json.loads(body) == {"asDouble": written}


def test_what_is_set_is_written_though_it_is_nothing():
    """Where a message can tell it from what isn't set."""
    assert json.loads(encode(NumberDataPoint(as_int=0), "json")[0]) == {"asInt": "0"}
    assert json.loads(encode(AnyValue(string_value=""), "json")[0]) == {"stringValue": ""}
    assert json.loads(encode(LogRecord(body=AnyValue()), "json")[0]) == {"body": {}}
    assert encode(Exemplar(), "json") == (b"{}", "application/json")
