"""Accepting a batch: durable, counted, on our clock, and without anybody's id."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client, override_settings
from django.utils import timezone

from ingest import intake
from ingest.authentication import check_key
from ingest.formats.events import decode
from ingest.models import ApiKey, Batch, Event, RejectedEvent
from ingest.models import Project as Row
from ingest.payloads import unpack
from ingest.records import Envelope, StoredRecord
from privacy.subjects import Pseudonyms
from tests.harness import Project, Service
from tests.ingest.sending import accepted, accounting, batch, event, moment, send, settled
from tests.ingest.traces import ledger, project_id, traces

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def events_of(batch_id: Any) -> list[Event]:
    return list(Event.objects.filter(batch_id=batch_id).order_by("position"))


def occurred(service: Service, project: Project, content: dict[str, Any]) -> list[datetime]:
    """The times under which a batch's events are stored."""
    batch_id = accepted(send(service, project, content))
    settled(service, project, batch_id)
    return [found.occurred_at for found in events_of(batch_id)]


def accept_and_look(project: Project, content: Any) -> list[StoredRecord]:
    """What would wait in the ledger: accepted in a transaction that is rolled back."""
    grant = check_key(project.ingest_key)
    assert grant is not None
    arrival = intake.Arrival(grant, "events", "test", timezone.now())
    with transaction.atomic():
        receipt = intake.accept(decode(json.dumps(content).encode(), Envelope()), arrival)
        payload = Batch.objects.get(batch_id=receipt.batch_id, project_id=grant.project_id).payload
        transaction.set_rollback(True)
    assert payload is not None
    return unpack(bytes(payload))


# --- the answer, and what it promises ---


def test_accepted_batch_is_in_the_ledger_when_it_is_answered(
    service: Service, project: Project
) -> None:
    content = batch(event(), event(), event())
    before = timezone.now() - SECOND
    answer = send(service, project, content, {"X-Request-ID": "my-request"})
    assert answer.status == 200
    assert datetime.fromisoformat(answer.json.pop("timestamp")) >= before
    assert answer.json | {"timestamp": None} == {
        "batch_id": content["batch_id"],
        "received": 3,
        "accepted": 3,
        "rejected": 0,
        "timestamp": None,
    }
    (row,) = ledger(project)
    assert str(row.batch_id) == content["batch_id"]
    assert (row.format, row.received, row.rejected, row.request_id) == (
        "events",
        3,
        0,
        "my-request",
    )
    assert row.wire_bytes == row.body_bytes == len(json.dumps(content))
    assert row.day == row.received_at.astimezone(UTC).date()


def test_stored_event_has_everything_its_client_said(service: Service, project: Project) -> None:
    sent = event(
        "preset_saved",
        category="business",
        level="info",
        message="saved ä😀",
        session_id="s-1",
        plugin="Compressor",
        properties={"load_ms": 41.5, "tags": ["a", None, True]},
    )
    content = batch(sent, client_version="1.2.3")
    batch_id = accepted(send(service, project, content))
    assert settled(service, project, batch_id)["stored"] == 1
    (found,) = events_of(batch_id)
    assert (found.name, found.category, found.level) == ("preset_saved", "business", "info")
    assert (found.message, found.client_version) == ("saved ä😀", "1.2.3")
    assert found.occurred_at == datetime.fromisoformat(sent["timestamp"])
    assert found.properties == {
        "plugin": "Compressor",
        "load_ms": 41.5,
        "tags": ["a", None, True],
    }
    (row,) = ledger(project)
    assert row.payload is None
    assert row.stored_at is not None


def test_headers_stand_in_for_what_the_body_lacks(service: Service, project: Project) -> None:
    key = str(uuid4())
    headers = {"X-User-ID": "anna", "X-Client-Version": "9.9", "Idempotency-Key": key}
    answer = send(service, project, [event(user_id=None)], headers)
    assert str(accepted(answer)) == key
    settled(service, project, key)
    (found,) = events_of(key)
    pseudonyms = Pseudonyms(settings.PEPPER, project_id(project))
    assert found.client_version == "9.9"
    assert bytes(found.subject or b"") == pseudonyms.subject("anna")


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Idempotency-Key", "not-a-uuid", "invalid_batch_id"),
        ("X-User-ID", "u" * 201, "too_long"),
        ("X-Client-Version", "v" * 201, "too_long"),
    ],
)
def test_header_that_breaks_a_rule_refuses_the_batch(
    service: Service, project: Project, header: str, value: str, code: str
) -> None:
    answer = send(service, project, batch(), {header: value})
    assert (answer.status, answer.json["code"]) == (400, code)


def post_here(project: Project, user: bytes) -> Any:
    """An event in this process: the HTTP server hands on ASCII alone."""
    return Client(SERVER_NAME="localhost").post(
        "/v1/events",
        json.dumps(event(user_id=None)),
        content_type="application/json",
        headers={"X-API-Key": project.ingest_key, "X-User-ID": user.decode("latin-1")},
    )


@pytest.mark.parametrize(
    ("user", "status"),
    [("änne".encode(), 200), ("voilà".encode(), 200), (b"\xff\xfe", 400)],
    # The last byte of à is a blank in Latin-1.
    ids=["UTF-8", "ends like a blank", "not UTF-8"],
)
def test_header_is_read_as_utf8(project: Project, user: bytes, status: int) -> None:
    answer = post_here(project, user)
    assert answer.status_code == status
    assert answer.json().get("code") == (None if status == 200 else "invalid_utf8")


def test_header_names_the_same_user_as_the_body_to_their_limit(
    service: Service, project: Project
) -> None:
    row = Row.objects.get(slug=project.project)
    row.rate_limits = {"events.user": "1/d"}
    row.save()
    assert post_here(project, "änne".encode()).status_code == 200
    assert send(service, project, batch(user_id="änne")).status == 429


def test_project_may_take_events_of_nobody(service: Service, project: Project) -> None:
    content = batch(event(user_id=None))
    assert send(service, project, content).status == 400
    Row.objects.filter(slug=project.project).update(users_optional=True)
    _, key = ApiKey.objects.issue(Row.objects.get(slug=project.project), "ingest")
    answer = send(service, project, content, {"X-API-Key": key})
    assert answer.json["accepted"] == 1


# --- bad events beside good ones ---


def test_bad_events_are_named_and_the_good_ones_kept(service: Service, project: Project) -> None:
    answer = send(service, project, batch(event(), event(user_id=None), event(), 7))
    assert answer.status == 200
    assert answer.json["received"] == 4
    assert (answer.json["accepted"], answer.json["rejected"]) == (2, 2)
    assert answer.json["errors"] == [
        {
            "index": 1,
            "code": "missing_field",
            "field": "user_id",
            "message": "Missing required field: user_id",
        },
        {"index": 3, "code": "invalid_type", "message": "An event must be an object"},
    ]
    report = settled(service, project, answer.json["batch_id"])
    assert (report["stored"], report["rejected"]) == (2, 2)
    assert [found.position for found in events_of(answer.json["batch_id"])] == [0, 2]


def test_at_most_twenty_errors_are_listed_and_written_down_but_all_are_counted(
    service: Service, project: Project
) -> None:
    answer = send(service, project, batch(*[7] * 50, event()))
    assert (answer.json["rejected"], len(answer.json["errors"])) == (50, 20)
    refused = send(service, project, batch(*[7] * 50))
    assert (refused.status, len(refused.json["errors"])) == (400, 20)
    kept = RejectedEvent.objects.filter(project_id=project_id(project))
    assert kept.count() == 40
    assert accounting(service, project)["rejected"] == 100


def test_wholly_bad_batch_is_refused_and_only_the_refusal_kept(
    service: Service, project: Project
) -> None:
    answer = send(service, project, batch(event(user_id=None), event(category="odd")))
    assert answer.status == 400
    assert answer.json["error"] == "Invalid payload"
    assert answer.json["code"] == "missing_field"
    assert answer.json["details"] == "events[0]: Missing required field: user_id"
    assert [problem["index"] for problem in answer.json["errors"]] == [0, 1]
    (row,) = ledger(project)
    assert (row.state, row.error, row.payload) == ("rejected", "missing_field", None)
    assert (row.received, row.rejected, row.waiting) == (2, 2, 0)
    assert accounting(service, project)["rejected"] == 2


MALFORMED = {
    "malformed_json": (400, b"{", {}),
    "empty_body": (400, b"", {}),
    "no_events": (400, b"[]", {}),
    "missing_field": (400, b"{}", {}),
    "too_large": (413, b" " * 1_048_577, {}),
    "too_many_events": (413, json.dumps([1] * 1_001).encode(), {}),
    "too_complex": (413, b"[" + b"1," * 100_000 + b"1]", {}),
    "unsupported_type": (415, b"{}", {"Content-Type": "image/png"}),
    "unsupported_encoding": (415, b"{}", {"Content-Encoding": "lzma"}),
    "truncated": (400, b"\x1f\x8b", {"Content-Encoding": "gzip"}),
    "invalid_encoding": (400, b"none", {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize(("code", "case"), MALFORMED.items(), ids=MALFORMED)
def test_malformed_batch_is_refused_with_its_code_and_written_down(
    service: Service, project: Project, code: str, case: tuple[int, bytes, dict[str, str]]
) -> None:
    status, body, headers = case
    answer = send(service, project, body, {"X-Request-ID": "bad", **headers})
    assert (answer.status, answer.json["code"]) == (status, code)
    (row,) = ledger(project)
    assert (row.state, row.error, row.request_id) == ("rejected", code, "bad")
    assert (row.received, row.payload) == (0, None)


def test_rejected_event_is_kept_as_names_and_types(service: Service, project: Project) -> None:
    send(service, project, batch(event(), event(category="odd", volume=11, tags=[], user_id="u")))
    (kept,) = RejectedEvent.objects.filter(project_id=project_id(project))
    assert (kept.position, kept.code, kept.field) == (1, "invalid_category", "category")
    assert kept.batch == ledger(project)[0].pk
    assert kept.shape == {
        "event": "string",
        "timestamp": "string",
        "user_id": "string",
        "category": "string",
        "volume": "number",
        "tags": "array",
    }


def test_refused_values_are_written_nowhere(service: Service, project: Project) -> None:
    secret = f"secret-{uuid4().hex}"
    refused = [
        batch(event(category=secret, text=secret, user_id=secret)),
        batch(event(), event(timestamp=secret, session_id=secret)),
        batch(event(), secret, [secret]),
        {"batch_id": secret, "events": [event()]},
        {"events": secret},
        f'{{"events": [{secret}]}}'.encode(),
        secret.encode(),
        json.dumps([event(message=secret, a="\ud800")]).encode(),
        json.dumps([event(user_id=secret, a="\0")]).encode(),
    ]
    for content in refused:
        answer = send(service, project, content, {"X-User-ID": secret})
        assert secret not in answer.text
    assert len(ledger(project)) == len(refused)
    assert traces(service, secret) == []


NUMBER = 730_114_558_012
# Where a request may name its user: in headers, on a refused event, on another one beside it.
NAMED: dict[str, tuple[dict[str, str], dict[str, Any], list[Any]]] = {
    "header": ({"X-User-ID": str(NUMBER)}, {}, []),
    "context": ({}, {"context": {"userId": str(NUMBER)}}, []),
    "number": ({}, {"context": {"userId": NUMBER}}, []),
    "deep": ({}, {"context": {"all": [{"OwnerID": str(NUMBER)}]}}, []),
    "list": ({}, {"guest_id": ["x", str(NUMBER)]}, []),
    "user": ({}, {"user": str(NUMBER)}, []),
    "another refused event": ({}, {}, [{"userId": str(NUMBER)}]),
}


@pytest.mark.parametrize("beside", [True, False], ids=["a part is refused", "all is"])
@pytest.mark.parametrize("where", NAMED)
def test_name_of_a_field_that_holds_an_id_is_not_kept(
    service: Service, project: Project, where: str, beside: bool
) -> None:
    headers, fields, others = NAMED[where]
    good = {"level": "info", "scope": "s", "sessionId": "s", "message": "m", "timestamp": moment()}
    refused = {"level": "odd", f"seen_{NUMBER}_at": 1, "plain": "p", **fields}
    content = {"events": [refused, *others, *([good] if beside else [])]}
    answer = send(service, project, content, headers, "/api/client-telemetry")
    assert answer.status == (204 if beside else 400), answer
    kept = RejectedEvent.objects.get(project_id=project_id(project), position=0)
    assert (kept.shape["[id]"], kept.shape["plain"]) == ("number", "string")
    assert not any(str(NUMBER) in name for name in kept.shape)


def test_of_very_many_ids_none_is_looked_for_and_no_name_kept(
    service: Service, project: Project
) -> None:
    ids = [str(uuid4()) for _ in range(3_000)]
    refused = {"event": "e", "timestamp": "never", "device_id": ids, f"of {ids[-1]}": 1}
    send(service, project, batch(refused))
    (kept,) = RejectedEvent.objects.filter(project_id=project_id(project))
    assert set(kept.shape) == {"[id]"}


def test_only_those_kept_of_many_refused_events_have_their_names_looked_at() -> None:
    content = json.dumps([event(timestamp="never") for _ in range(30)]).encode()
    shapes = [rejection.shape for rejection in decode(content, Envelope()).rejections]
    assert list(map(bool, shapes)) == [True] * 20 + [False] * 10


# --- whose it is ---


def test_raw_ids_are_written_nowhere(service: Service, project: Project) -> None:
    user, session = f"user-{uuid4().hex}", f"session-{uuid4().hex}"
    content = batch(
        event(user_id=user, session_id=session),
        event(user_id=None),
        user_id=user,
        session_id=session,
    )
    answer = send(service, project, content, {"X-User-ID": user})
    assert traces(service, user) == traces(service, session) == []
    settled(service, project, accepted(answer))
    assert traces(service, user) == traces(service, session) == []
    for waiting in accept_and_look(project, [event(user_id=user, session_id=session)]):
        assert waiting.subject is not None
        assert user not in repr(waiting)
        assert session not in repr(waiting)


def test_traces_are_found_where_there_are_some(service: Service, project: Project) -> None:
    """The test above could otherwise pass for the wrong reason."""
    word = f"word-{uuid4().hex}"
    settled(service, project, accepted(send(service, project, batch(event(text=word)))))
    assert traces(service, word) == ["ingest_event"]


def test_person_and_session_are_keyed_hashes(service: Service, project: Project) -> None:
    batch_id = accepted(
        send(
            service,
            project,
            batch(
                event(user_id="anna", session_id="anna"),
                event(user_id="anna"),
                event(user_id="bert", session_id="anna"),
            ),
        )
    )
    settled(service, project, batch_id)
    first, second, third = events_of(batch_id)
    pseudonyms = Pseudonyms(settings.PEPPER, project_id(project))
    assert bytes(first.subject or b"") == bytes(second.subject or b"") == pseudonyms.subject("anna")
    assert bytes(third.subject or b"") == pseudonyms.subject("bert")
    assert bytes(first.session or b"") == bytes(third.session or b"") == pseudonyms.session("anna")
    assert second.session is None


# --- when it happened ---


def test_late_batch_is_left_as_it_is(service: Service, project: Project) -> None:
    sent = event(timestamp=moment(5 * HOUR))
    content = batch(sent, timestamp=moment(4 * HOUR))
    assert occurred(service, project, content) == [datetime.fromisoformat(sent["timestamp"])]


def test_clock_that_runs_ahead_is_corrected_by_the_difference(
    service: Service, project: Project
) -> None:
    content = batch(
        event(timestamp=moment(-2 * HOUR)),
        event(timestamp=moment(-HOUR)),
        timestamp=moment(-2 * HOUR),
    )
    now = timezone.now()
    last, before = occurred(service, project, content)
    assert abs(last - now) < 10 * SECOND
    assert abs(last - before - HOUR) < SECOND


def test_clock_a_little_ahead_is_not_corrected(service: Service, project: Project) -> None:
    sent = event(timestamp=moment(HOUR))
    content = batch(sent, timestamp=moment(timedelta(minutes=-4)))
    assert occurred(service, project, content) == [datetime.fromisoformat(sent["timestamp"])]


@pytest.mark.parametrize("ahead", [timedelta(minutes=4), HOUR, 400 * DAY])
def test_event_from_the_future_happened_when_it_was_received(
    service: Service, project: Project, ahead: timedelta
) -> None:
    content = batch(event(timestamp=moment(-ahead)))
    assert occurred(service, project, content) == [ledger(project)[0].received_at]


@pytest.mark.parametrize(
    "timestamp",
    [moment(32 * DAY), "2001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"],
    ids=["32 days", "years", "the first year"],
)
def test_event_of_more_than_31_days_ago_is_too_old(
    service: Service, project: Project, timestamp: str
) -> None:
    answer = send(service, project, batch(event(timestamp=timestamp), event()))
    assert (answer.status, answer.json["rejected"]) == (200, 1)
    (problem,) = answer.json["errors"]
    assert (problem["index"], problem["code"], problem["field"]) == (0, "too_old", "timestamp")


def test_event_of_30_days_ago_is_taken(service: Service, project: Project) -> None:
    sent = event(timestamp=moment(30 * DAY))
    assert occurred(service, project, batch(sent)) == [datetime.fromisoformat(sent["timestamp"])]


@pytest.mark.parametrize(
    "timestamp",
    ["9999-12-31T23:59:59.999999-14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"],
)
@pytest.mark.parametrize("where", ["event", "batch", "both"])
def test_times_at_the_end_of_the_calendar_do_no_harm(
    service: Service, project: Project, timestamp: str, where: str
) -> None:
    content = batch(event(), event(timestamp=timestamp if where != "batch" else moment()))
    if where != "event":
        content["timestamp"] = timestamp
    answer = send(service, project, content)
    assert answer.status in {200, 400}, answer
    if answer.status == 400:
        assert answer.json["code"] in {"too_old", "invalid_timestamp"}


def test_events_of_a_batch_whose_clock_is_wrong_and_too_old_are_named_in_order(
    service: Service, project: Project
) -> None:
    answer = send(
        service,
        project,
        batch(event(timestamp=moment(40 * DAY)), 7, event(timestamp=moment(40 * DAY))),
    )
    codes = [(problem["index"], problem["code"]) for problem in answer.json["errors"]]
    assert codes == [(0, "too_old"), (1, "invalid_type"), (2, "too_old")]


# --- not now ---


@override_settings(MIN_FREE_DISK_BYTES=2**62)
def test_full_disk_is_not_accepted_on(service: Service, project: Project) -> None:
    answer = Client(SERVER_NAME="localhost").post(
        "/v1/events",
        json.dumps(batch()),
        content_type="application/json",
        headers={"X-API-Key": project.ingest_key},
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "disk_full")
    assert int(answer["Retry-After"]) > 0
    assert ledger(project) == []
