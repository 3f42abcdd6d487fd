"""OTLP over HTTP: what exporters are told, and that what they send is in the ledger just once."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from django.conf import settings
from django.db import OperationalError
from django.test import override_settings
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, RetryInfo

from ingest import intake
from ingest.formats.otlp.frames import MOST_ITEMS
from ingest.forwarding.answers import Outcome
from ingest.forwarding.sending import send
from ingest.forwarding.targets import Target
from ingest.models import Batch, RejectedEvent
from ingest.models import Project as Row
from ingest.otlp.views import BOUNDS
from tests.harness import Project, Service
from tests.ingest.exporting import LOGS, accepted, accounting, export, inside, refused, stored, told
from tests.ingest.otlp import JSON, PROTOBUF, log, logs, written
from tests.ingest.sockets import Connection
from tests.ingest.traces import ledger, traces

BAD = log(own={"k" * 201: 1})
every_encoding = pytest.mark.parametrize("encoding", [PROTOBUF, JSON])


# --- what is taken ---


@every_encoding
def test_records_are_stored_as_events_of_nobody_who_can_be_named(
    service: Service, project: Project, encoding: str
) -> None:
    user, session = f"user-of-{encoding}", f"session-of-{encoding}"
    record = log(
        "paid", {"user.id": user, "session.id": session, "plan": "pro"},
        event_name="order", severity_number=17, trace_id=b"t" * 16, span_id=b"s" * 8,
    )  # fmt: skip
    request = logs(
        record, log(own={"enduser.id": user}), log(),
        resource={"service.name": "shop", "service.version": "1.2"}, scope="shop.orders",
    )  # fmt: skip
    accepted(export(service, project, request, encoding), encoding)
    first, second, third = stored(project, 3)
    assert (first.name, first.level, first.scope) == ("order", "error", "shop.orders")
    assert (first.message, first.client_version) == ("paid", "1.2")
    assert first.properties == {
        "plan": "pro", "resource": {"service.name": "shop"}, "trace_id": "74" * 16,
        "span_id": "73" * 8,
    }  # fmt: skip
    assert first.occurred_at.timestamp() == pytest.approx(record.time_unix_nano / 1e9)
    assert first.subject == second.subject
    assert first.subject is not None
    assert third.subject is None
    assert first.session is not None
    assert traces(service, user) == traces(service, session) == []


def test_what_is_stored_adds_up(service: Service, project: Project) -> None:
    request = logs(log(), BAD, log())
    export(service, project, request)
    export(service, project, request)
    stored(project, 2)
    (line,) = accounting(service, project)
    counts = {name: line[name] for name in ("received", "stored", "duplicate", "rejected")}
    assert line["format"] == "otlp_logs"
    assert counts == {"received": 6, "stored": 2, "duplicate": 2, "rejected": 2}


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress),
        ("zstd", zstandard.compress), ("identity", bytes),
    ],
)  # fmt: skip
def test_a_request_may_be_compressed(
    service: Service, project: Project, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    body = written(logs(log("a"), log("b")))
    accepted(export(service, project, compress(body), **{"Content-Encoding": encoding}))
    (row,) = ledger(project)
    assert (row.received, row.format) == (2, "otlp_logs")


def test_a_key_may_come_as_exporters_send_it(service: Service, project: Project) -> None:
    bearer = {"X-API-Key": "", "Authorization": f"Bearer {project.ingest_key}"}
    accepted(export(service, project, logs(log()), **bearer))
    lower = {"X-API-Key": "", "x-api-key": project.ingest_key}
    accepted(export(service, project, logs(log()), **lower))
    types = {"Content-Type": "application/json; charset=utf-8"}
    accepted(export(service, project, b"{}", JSON, **types), JSON)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"", PROTOBUF), (b"{}", JSON), (written(logs()), PROTOBUF), (written(logs(), JSON), JSON)],
)
def test_a_request_of_nothing_is_a_success(
    service: Service, project: Project, body: bytes, encoding: str
) -> None:
    accepted(export(service, project, body, encoding), encoding)
    assert ledger(project) == []


# --- several batches of one request ---


def test_a_large_request_is_split(service: Service, project: Project) -> None:
    request = logs(*(log(f"message {number}") for number in range(2500)))
    body = written(request)
    wire = gzip.compress(body)
    accepted(export(service, project, wire, **{"Content-Encoding": "gzip"}))
    rows = ledger(project)
    assert [row.received for row in rows] == [1000, 1000, 500]
    assert 0.8 * len(body) < sum(row.body_bytes for row in rows) <= len(body)
    assert 0.8 * len(wire) < sum(row.wire_bytes for row in rows) <= len(wire)
    assert len({row.request_id for row in rows}) == 1
    accepted(export(service, project, wire, **{"Content-Encoding": "gzip"}))
    again = ledger(project)[3:]
    assert [row.state for row in again] == ["duplicate"] * 3
    assert [row.duplicate_of for row in again] == [row.batch_id for row in rows]
    stored(project, 2500)


def test_what_was_accepted_before_the_database_went_is_not_doubled(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = logs(*(log(f"message {number}") for number in range(2500)), BAD)
    accept, answered = intake.accept, []

    def accept_one(*args: Any) -> intake.Receipt:
        if answered:
            raise OperationalError("server closed the connection unexpectedly")
        answered.append(accept(*args))
        return answered[0]

    with monkeypatch.context() as patched:
        patched.setattr(intake, "accept", accept_one)
        answer = inside(project, request)
    status = refused(answer, 503, Code.UNAVAILABLE)
    wait = RetryInfo()
    assert status.details[0].Unpack(wait)
    assert wait.retry_delay.seconds == int(answer.headers["retry-after"]) > 0
    assert [row.received for row in ledger(project)] == [1000]
    partial = told(export(service, project, request)).partial_success
    assert partial.rejected_log_records == 1
    assert len(stored(project, 2500)) == 2500
    assert [row.state == "duplicate" for row in ledger(project)] == [False, True, False, False]


def test_records_without_a_time_are_never_taken_for_others(
    service: Service, project: Project
) -> None:
    request = logs(log("tick", time_unix_nano=0))
    for _ in range(2):
        accepted(export(service, project, request))
    assert [event.message for event in stored(project, 2)] == ["tick", "tick"]


# --- what is refused of it ---


@every_encoding
def test_good_records_are_taken_and_bad_ones_named(
    service: Service, project: Project, encoding: str
) -> None:
    records = [log() for _ in range(1500)]
    for place in (3, 1004, 1005, 1006, 1007, 1400):
        records[place] = BAD
    answer = export(service, project, logs(*records), encoding)
    assert answer.status == 200
    partial = told(answer, encoding).partial_success
    assert partial.rejected_log_records == 6
    assert partial.error_message.startswith(
        "6 of 1500 rejected; log_records[3]: A field's name is longer than 200 characters; "
        "log_records[1004]: "
    )
    assert partial.error_message.endswith("log_records[1007]: A field's name is longer than 200 "
                                          "characters; …")  # fmt: skip
    rows = ledger(project)
    assert [(row.received, row.rejected) for row in rows] == [(1000, 1), (500, 5)]
    kept = RejectedEvent.objects.filter(batch__in=[row.pk for row in rows])
    assert {row.code for row in kept} == {"name_too_long"}
    assert kept.count() == 6


def test_a_batch_of_bad_records_among_good_ones(service: Service, project: Project) -> None:
    answer = export(service, project, logs(*([BAD] * 1000), log(), BAD))
    partial = told(answer).partial_success
    assert partial.rejected_log_records == 1001
    first = ledger(project)[0]
    assert (first.state, first.received, first.rejected) == ("rejected", 1000, 1000)
    stored(project, 1)


@every_encoding
def test_where_all_are_bad_nothing_is_a_success(
    service: Service, project: Project, encoding: str
) -> None:
    old = log(time_unix_nano=1)
    answer = export(service, project, logs(old, *([BAD] * 30)), encoding)
    status = refused(answer, 400, Code.INVALID_ARGUMENT, encoding)
    assert status.message.startswith("31 of 31 rejected; log_records[0]: timestamp is more than ")
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    assert len(bad.field_violations) == 20
    assert bad.field_violations[0].field == "[0].timestamp"
    (row,) = ledger(project)
    assert (row.state, row.received, row.rejected, row.error) == ("rejected", 31, 31, "too_old")


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"\x0a\x05abc", PROTOBUF, "malformed_protobuf"),
        (b"{", JSON, "malformed_json"),
        (b"[]", JSON, "invalid_type"),
    ],
)
def test_what_is_no_request_is_written_down(
    service: Service, project: Project, body: bytes, encoding: str, code: str
) -> None:
    refused(export(service, project, body, encoding), 400, Code.INVALID_ARGUMENT, encoding)
    (row,) = ledger(project)
    assert (row.state, row.received, row.error) == ("rejected", 0, code)


def test_a_header_that_says_too_much(service: Service, project: Project) -> None:
    answer = export(service, project, logs(log()), **{"X-User-ID": "u" * 300})
    assert "X-User-ID" in refused(answer, 400, Code.INVALID_ARGUMENT).message


def test_what_this_instance_forwards_does_not_come_back(service: Service, project: Project) -> None:
    """It would be stored, and forwarded, and so on."""
    target = Target(service.url + LOGS, {"X-API-Key": project.ingest_key}, is_trusted=True)
    answer = send(target, written(logs(log())), PROTOBUF)
    assert (answer.status, answer.outcome) == (409, Outcome.REFUSED)
    assert "leads back here" in answer.words
    (row,) = ledger(project)
    assert (row.state, row.error) == ("rejected", "loop")


# --- refusals are google.rpc.Status, in the request's encoding ---


@every_encoding
def test_without_a_key(service: Service, project: Project, encoding: str) -> None:
    answer = export(service, project, logs(log()), encoding, **{"X-API-Key": ""})
    refused(answer, 401, Code.UNAUTHENTICATED, encoding)
    assert answer.headers["www-authenticate"]
    answer = export(service, project, logs(log()), encoding, **{"X-API-Key": "ingest_a_b"})
    refused(answer, 401, Code.UNAUTHENTICATED, encoding)


@every_encoding
def test_no_such_path_or_method(service: Service, project: Project, encoding: str) -> None:
    for path in ("/otlp/v1/profiles", "/otlp/v1/logs/", "/otlp/"):
        answer = export(service, project, b"", encoding, path)
        refused(answer, 404, Code.NOT_FOUND, encoding)
    answer = service.request("GET", LOGS, headers={"Content-Type": encoding})
    assert answer.status in {401, 405}
    headers = {"X-API-Key": project.ingest_key, "Content-Type": encoding}
    refused(service.request("GET", LOGS, headers=headers), 405, Code.UNIMPLEMENTED, encoding)


def test_a_host_that_is_not_ours(service: Service, project: Project) -> None:
    answer = export(service, project, logs(log()), Host="evil.example")
    refused(answer, 400, Code.INVALID_ARGUMENT)


@every_encoding
def test_traces_are_not_taken(service: Service, project: Project, encoding: str) -> None:
    answer = export(service, project, b"", encoding, "/otlp/v1/traces")
    status = refused(answer, 501, Code.UNIMPLEMENTED, encoding)
    assert "traces" in status.message
    assert ledger(project) == []


def test_more_than_may_be_sent(service: Service, project: Project) -> None:
    with Connection(service) as connection:
        length = {"Content-Length": str(BOUNDS.wire_bytes + 1), "Content-Type": JSON}
        connection.write(project, length, f"POST {LOGS}")
        answer = connection.answer()
    assert str(BOUNDS.wire_bytes) in refused(answer, 413, Code.INVALID_ARGUMENT, JSON).message
    dense = gzip.compress(bytes(BOUNDS.body_bytes + 1))
    answer = export(service, project, dense, **{"Content-Encoding": "gzip"})
    assert str(BOUNDS.body_bytes) in refused(answer, 413, Code.INVALID_ARGUMENT).message
    many = written(logs(*([log()] * (MOST_ITEMS + 1))))
    answer = export(service, project, gzip.compress(many), **{"Content-Encoding": "gzip"})
    assert str(MOST_ITEMS) in refused(answer, 413, Code.INVALID_ARGUMENT).message
    assert {row.error for row in ledger(project)} == {
        "too_large", "too_large_decompressed", "too_many_events",
    }  # fmt: skip


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc", "application/gzip", ""])
def test_another_content_type(service: Service, project: Project, content_type: str) -> None:
    headers = {"X-API-Key": project.ingest_key, "Content-Type": content_type or "x"}
    answer = service.request("POST", LOGS, b"{}", headers)
    message = refused(answer, 415, Code.INVALID_ARGUMENT, JSON).message
    assert message == "The content type must be application/x-protobuf or application/json."


def test_another_content_encoding(service: Service, project: Project) -> None:
    answer = export(service, project, b"", **{"Content-Encoding": "snappy"})
    refused(answer, 415, Code.INVALID_ARGUMENT)


@every_encoding
def test_a_limit_that_is_used_up(service: Service, project: Project, encoding: str) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"otlp.key": "1/h"})
    accepted(export(service, project, logs(log()), encoding), encoding)
    answer = export(service, project, logs(log()), encoding)
    status = refused(answer, 429, Code.RESOURCE_EXHAUSTED, encoding)
    assert "otlp.key" in status.message
    wait = RetryInfo()
    assert status.details[0].Unpack(wait)
    assert wait.retry_delay.seconds == int(answer.headers["retry-after"]) > 0
    assert '"otlp.key";r=0' in answer.headers["ratelimit"]
    traces_answer = export(service, project, b"", encoding, "/otlp/v1/traces")
    refused(traces_answer, 429, Code.RESOURCE_EXHAUSTED, encoding)


@override_settings(MIN_FREE_DISK_BYTES=2**62)
@every_encoding
def test_a_full_disk(service: Service, project: Project, encoding: str) -> None:
    answer = inside(project, logs(log()), encoding)
    refused(answer, 503, Code.UNAVAILABLE, encoding)
    assert int(answer.headers["retry-after"]) > 0
    assert ledger(project) == []


@every_encoding
def test_a_defect(
    service: Service, project: Project, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(intake, "accept", fail)
    answer = inside(project, logs(log()), encoding)
    refused(answer, 500, Code.INTERNAL, encoding)


def test_other_paths_answer_as_ever(service: Service, project: Project) -> None:
    headers = {"X-API-Key": project.ingest_key, "Content-Type": PROTOBUF}
    answer = service.request("POST", "/v1/events", b"", headers)
    assert (answer.status, answer.json["code"]) == (415, "unsupported_type")


# --- told ---


def test_the_limits_are_told(service: Service) -> None:
    told = service.request("GET", "/v1/info").json
    assert "otlp_logs" in told["formats"]
    assert told["limits"]["otlp_wire_bytes"] == settings.MAX_OTLP_WIRE_BYTES
    assert told["limits"]["otlp_body_bytes"] == settings.MAX_OTLP_BODY_BYTES
    assert told["limits"]["otlp_items"] == MOST_ITEMS


def test_json_answers_are_as_protobuf_says_them(service: Service, project: Project) -> None:
    answer = export(service, project, logs(log(), BAD), JSON)
    partial = json.loads(answer.content)["partialSuccess"]
    assert partial["rejectedLogRecords"] == "1"
    assert Batch.objects.filter(project__slug=project.project).count() == 1
