"""What each answer of a collector means, and what is kept of its words."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from ingest.forwarding.answers import Answer, Outcome, answered, unanswered

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
RETRIED = {429, 502, 503, 504}


def told(status: int, body: bytes | None, headers: dict[str, str] | None = None) -> Answer:
    return answered(status, headers or {}, body, NOW)


@given(
    st.integers(min_value=100, max_value=999), st.binary(), st.sampled_from([{}, PROTOBUF, JSON])
)
def test_the_status_decides(status: int, body: bytes, headers: dict[str, str]) -> None:
    answer = told(status, body, headers)
    assert answer.status == status
    assert (answer.outcome is Outcome.DELIVERED) == (200 <= status < 300)
    assert (answer.outcome is Outcome.RETRY) == (status in RETRIED)
    assert len(answer.words) <= 500
    assert answer.words.isprintable()
    assert 0 <= answer.rejected < 2**63


def test_whom_nobody_answers_tries_again() -> None:
    assert unanswered("Connection refused") == Answer(
        Outcome.RETRY, None, "Connection refused", None, 0
    )


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ExportLogsServiceResponse().SerializeToString(), PROTOBUF),
        (b"", {}),
        (b"{}", JSON),
        (b'{"partialSuccess": null}', JSON),
        (b'{"partialSuccess": {}, "new": [1]}', JSON),
    ],
)
def test_full_success_says_nothing(body: bytes, headers: dict[str, str]) -> None:
    assert told(200, body, headers) == Answer(Outcome.DELIVERED, 200, "", None, 0)


def test_partial_success_is_delivered_and_counted() -> None:
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 7
    logs.partial_success.error_message = "too old"
    metrics = ExportMetricsServiceResponse()
    metrics.partial_success.rejected_data_points = 7
    metrics.partial_success.error_message = "too old"
    for answer in (
        told(200, logs.SerializeToString(), PROTOBUF),
        told(200, metrics.SerializeToString(), PROTOBUF),
        told(200, _partial(rejectedLogRecords="7", errorMessage="too old"), JSON),
        told(200, _partial(rejectedDataPoints=7, errorMessage="too old"), JSON),
    ):
        assert answer == Answer(Outcome.DELIVERED, 200, "too old", None, 7)


def test_a_warning_rejects_nothing() -> None:
    answer = told(200, _partial(errorMessage="deprecated"), JSON)
    assert (answer.words, answer.rejected) == ("deprecated", 0)


def _partial(**fields: object) -> bytes:
    return json.dumps({"partialSuccess": fields}).encode()


@pytest.mark.parametrize("body", [b"<html>OK</html>", b"OK", b"\xff" * 99, b"[" * 60_000, b"{"])
@pytest.mark.parametrize("headers", [{}, PROTOBUF, JSON])
def test_what_was_accepted_with_garbage_is_not_sent_again(
    body: bytes, headers: dict[str, str]
) -> None:
    answer = told(200, body, headers)
    assert answer.outcome is Outcome.DELIVERED
    assert "no OTLP" in answer.words


def test_what_was_accepted_with_half_an_answer_is_not_sent_again() -> None:
    assert told(200, None).outcome is Outcome.DELIVERED
    assert "cut" in told(200, None).words
    assert told(503, None).outcome is Outcome.RETRY
    assert told(400, None).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (Status(code=3, message="bad span").SerializeToString(), PROTOBUF),
        (b'{"code": 3, "message": "bad span", "details": []}', JSON),
        (b"bad\r\n\tspan\0", {"Content-Type": "text/plain"}),
        (b" bad span ", {}),
        (b"bad span", PROTOBUF),
        (b"bad span", JSON),
    ],
)
def test_the_collectors_words_are_kept(body: bytes, headers: dict[str, str]) -> None:
    assert told(400, body, headers).words == "bad span"


def test_an_error_in_json_of_another_kind_is_kept_as_it_is() -> None:
    assert told(403, b'{"error": "no such tenant"}', JSON).words == '{"error": "no such tenant"}'


def test_a_redirect_is_refused_and_its_goal_not_told() -> None:
    answer = told(307, b"go to http://10.0.0.1/", {"Location": "http://10.0.0.1/"})
    assert answer.outcome is Outcome.REFUSED
    assert answer.words == "a redirect, which isn't followed"


def test_quoted_data_is_scrubbed_and_no_id_is_kept() -> None:
    pseudonym = "9F86d081884c7d659a2feaa0c55ad015"
    quoted = (
        f"invalid user.id={pseudonym}, value {pseudonym} of jane.doe@example.com at 203.0.113.7"
    )
    words = told(400, quoted.encode()).words
    assert words == "invalid user.id=[subject], value [id] of [email] at [ip]"


def test_words_are_cut_after_they_were_scrubbed() -> None:
    words = told(400, b"x" * 485 + b" jane.doe@example.com " + b"y" * 600).words
    assert len(words) == 500
    assert "jane" not in words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("17", 17), (" 17 ", 17), ("3600", 3600), ("86400", 3600), ("9" * 5000, 3600),
        ("", None), ("-1", None), ("1.5", None), ("soon", None), ("١٧", None), ("1e3", None),
        ("Sat, 21 Nov 2026 20:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 21:00:30 +0100", 30),
        ("Sat, 21 Nov 2026 20:00:30 -0000", 30),
        ("Saturday, 21-Nov-26 20:00:30 GMT", 30),
        ("Sat Nov 21 20:00:30 2026", 30),
        ("Sat, 21 Nov 2026 19:00:00 GMT", 0),
        ("Sun, 22 Nov 2026 20:00:00 GMT", 3600),
        ("Sat, 31 Nov 2026 20:00:00 GMT", None),
        ("Sat, 21 Nov 99999 20:00:00 GMT", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", sorted(RETRIED))
def test_retry_after_is_seconds_or_a_date(status: int, text: str, seconds: float | None) -> None:
    assert told(status, b"", {"Retry-After": text}).retry_after == seconds


@given(st.timedeltas(min_value=timedelta(days=-9), max_value=timedelta(days=9)))
def test_a_date_is_waited_for_and_no_longer_than_an_hour(wait: timedelta) -> None:
    date = format_datetime(NOW + wait, usegmt=True)
    retry_after = told(503, b"", {"Retry-After": date}).retry_after
    assert retry_after == pytest.approx(min(max(wait.total_seconds(), 0), 3600), abs=1)


@given(st.text())
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    retry_after = told(503, b"", {"Retry-After": text}).retry_after
    assert retry_after is None or 0 <= retry_after <= 3600


def test_who_is_refused_has_nothing_to_wait_for() -> None:
    assert told(400, b"", {"Retry-After": "17"}).retry_after is None
