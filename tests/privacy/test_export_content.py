"""What is in an export: all that is kept of the person, whatever brought it, and nothing else."""

import time
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from ingest.models import Batch, Destination
from ingest.models import Project as Row
from ingest.records import StoredPoint
from privacy import export as gathering
from privacy.export import Gathering
from tests.harness import Project, Service
from tests.ingest.otlp import PROTOBUF, attributes, metrics, written
from tests.ingest.sending import accepted, accounting, batch, event, moment, send, settled
from tests.ingest.traces import ledger, project_id, traces
from tests.ingest.waiting import plant, record
from tests.privacy.asking import about, ask, pseudonym, somebody, subject_token
from tests.privacy.exporting import PATIENT, check, export, made, standing_still


def names(content: dict[str, Any], state: str = "stored") -> list[str]:
    return [one["event"] for one in content["events"] if one["state"] == state]


def point(position: int, subject: bytes | None) -> StoredPoint:
    return StoredPoint(
        position, 0, 1_700_000_000_000_000, "waits", "gauge", subject, None, b'{"a": "b"}',
        False, 1.5, None, None, None, None, None,
    )  # fmt: skip


def test_every_dialect_is_in_it_and_nobody_else(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    Row.objects.filter(slug=project.project).update(users_optional=True)
    for who in (user, other):
        native = batch(event("native", user_id=who, session_id="s-1", nested={"list": [1, "é\n"]}),
                       event("second", user_id=who, level="error"))  # fmt: skip
        settled(service, project, accepted(send(service, project, native)))
        named = {"X-User-ID": who}
        submitted = {"events": [event("submitted", user_id=who)]}
        assert send(service, project, submitted, path="/v1/submit").status == 200
        browser = {"level": "error", "scope": "checkout", "userId": who, "sessionId": "s-2",
                   "message": "Card form failed", "timestamp": moment()}  # fmt: skip
        assert send(service, project, browser, named, "/api/client-telemetry").status == 204
        measured = {"user_id": who, "metrics": [
            {"name": "latency", "type": "histogram", "value": [12.5, 14.1]},
            {"name": "queue", "type": "gauge", "value": 4, "tags": {"route": "/x"}},
        ]}  # fmt: skip
        assert send(service, project, measured, named, "/v1/metrics").status == 200
    content = made(service, project, user)
    check(service, content)
    assert len(content["events"]) == 4
    assert {"native", "second", "submitted"} < {one["event"] for one in content["events"]}
    assert sorted(one["name"] for one in content["metrics"]) == ["latency", "queue"]
    assert content["subject"] == pseudonym(project, user).hex()
    native_one = next(one for one in content["events"] if one["event"] == "native")
    assert native_one["properties"] == {"nested": {"list": [1, "é\n"]}}
    assert native_one["session"] is not None
    times = [datetime.fromisoformat(one["timestamp"]) for one in content["events"]
             if one["state"] == "stored"]  # fmt: skip
    assert times == sorted(times)


def test_answer_at_once_is_the_file_with_the_id_before_it(
    service: Service, project: Project
) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    answer = export(service, project, user, PATIENT)
    assert answer.status == 200, answer
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.headers["cache-control"] == "no-store"
    content = answer.json
    assert content.pop("user_id") == user
    check(service, content)
    assert len(content["events"]) == 1


def test_who_left_nothing_gets_an_export_that_says_so(service: Service, project: Project) -> None:
    content = made(service, project, somebody())
    check(service, content)
    assert (content["events"], content["metrics"]) == ([], [])
    assert [request["type"] for request in content["requests"]] == ["export"]


def test_what_waits_is_in_it_once_stored_or_not(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    with standing_still(service, "ingest"):
        sent = batch(*[event(f"event {n}", user_id=user) for n in range(3)], event(user_id=other))
        batch_id = accepted(send(service, project, sent))
        content = made(service, project, user)
        check(service, content)
        assert names(content, "waiting") == ["event 0", "event 1", "event 2"]
    settled(service, project, batch_id)
    content = made(service, project, user)
    assert (names(content, "waiting"), len(names(content))) == ([], 3)


def test_a_histogram_of_buckets_is_in_it_alike_before_it_is_stored_and_after(
    service: Service, project: Project
) -> None:
    user, now = somebody(), time.time_ns()
    sent = Metric(name="took", histogram={"aggregation_temporality": 2, "data_points": [{
        "time_unix_nano": now, "start_time_unix_nano": now - 10**9,
        "attributes": attributes({"user.id": user}), "count": 5, "sum": 21.5,
        "explicit_bounds": [2.0, 8.0], "bucket_counts": [0, 4, 1],
    }]})  # fmt: skip
    with standing_still(service, "ingest"):
        answer = service.request(
            "POST", "/otlp/v1/metrics", written(metrics(sent)),
            {"X-API-Key": project.ingest_key, "Content-Type": PROTOBUF},
        )  # fmt: skip
        assert answer.status == 200, answer
        (waiting,) = made(service, project, user)["metrics"]
    (row,) = ledger(project)
    settled(service, project, row.batch_id)
    content = made(service, project, user)
    check(service, content)
    (stored,) = content["metrics"]
    assert (waiting.pop("state"), stored.pop("state")) == ("waiting", "stored")
    moments = [[one.pop(name) for name in ("timestamp", "started_at")] for one in (waiting, stored)]
    first, second = ([*map(datetime.fromisoformat, told)] for told in moments)
    assert first == second
    assert waiting == stored
    assert (stored["samples"], stored["weights"]) == (pytest.approx([4, 8]), [4, 1])


def test_what_is_dead_is_in_it_and_nobody_elses(service: Service, project: Project) -> None:
    user, subject = somebody(), pseudonym(project, somebody())
    mine = pseudonym(project, user)
    records = [
        record(0, b'{"a": 1}', subject=mine, session=mine),
        record(1, subject=subject),
        record(2, subject=None),
    ]
    plant(project, records, state="dead", dead=3)
    plant(project, b"no payload of ours", state="dead", dead=1)
    dead_points: Any = [point(0, mine), point(1, subject)]
    plant(project, dead_points, state="dead", dead=2)
    content = made(service, project, user)
    check(service, content)
    (one,) = content["events"]
    assert (one["state"], one["position"], one["properties"]) == ("dead", 0, {"a": 1})
    (measured,) = content["metrics"]
    assert (measured["name"], measured["state"], measured["tags"]) == ("waits", "dead", {"a": "b"})


def test_a_batch_stored_while_it_is_read_is_in_it_once(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what waits and the look at what is stored, the worker stores it."""
    user = somebody()
    with standing_still(service, "ingest"):
        sent = batch(*[event(f"event {n}", user_id=user) for n in range(3)])
        batch_id = accepted(send(service, project, sent))
        gathered = Gathering(project_id(project), pseudonym(project, user))
        before = gathered._days

        def storing_first(source: Any) -> Any:
            for process in service.processes("ingest"):
                process.resume()
            assert settled(service, project, batch_id)["stored"] == 3
            return before(source)

        monkeypatch.setattr(gathered, "_days", storing_first)
        text = b"".join(gathered.pieces())
    assert [text.count(f'"event {n}"'.encode()) for n in range(3)] == [1, 1, 1]
    assert (gathered.events, gathered.points) == (3, 0)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_rows_come_once_each_whatever_the_chunks(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(gathering, "ROWS_AT_ONCE", chunk)
    monkeypatch.setattr(gathering, "BATCHES_AT_ONCE", chunk)
    user = somebody()
    mine = pseudonym(project, user)
    sent = [accepted(send(service, project, batch(*[event(f"{n} {m}", user_id=user)
            for m in range(5)]))) for n in range(3)]  # fmt: skip
    for batch_id in sent:
        settled(service, project, batch_id)
    for _ in range(5):
        plant(project, [record(0, subject=mine)], state="dead", dead=1)
    gathered = Gathering(project_id(project), mine)
    assert b"".join(gathered.pieces()).count(b'"batch_id"') == 20
    assert gathered.events == 20


def test_rows_that_go_away_meanwhile_are_noticed(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    gathered = Gathering(project_id(project), pseudonym(project, user))
    before = gathered._rendered

    def erased_first(*given: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM ingest_event WHERE subject = %s", [gathered.subject])
        return before(*given)

    monkeypatch.setattr(gathered, "_rendered", erased_first)
    with pytest.raises(gathering.Incomplete):
        b"".join(gathered.pieces())


def test_consent_and_requests_are_in_it(service: Service, project: Project) -> None:
    user = somebody()
    answers = {"user_id": user, "categories": {"business": False}}
    ask(service, "consent", subject_token(project, user), answers)
    deletion = ask(service, "delete", project.secret_key, {"user_id": user}).json["deletion_token"]
    content = made(service, project, user)
    check(service, content)
    assert content["consent"]["suppressed"] is True
    assert [(one["category"], one["granted"]) for one in content["consent"]["history"]] == [
        ("business", False)
    ]
    assert sorted(one["type"] for one in content["requests"]) == ["deletion", "export"]
    about(service, "cancel", deletion)
    content = made(service, project, user)
    assert content["consent"]["categories"]["business"] is False
    assert content["consent"]["suppressed"] is False
    # What they asked for and took back is theirs to see: its row keeps the pseudonym for that.
    asked = [one["status"] for one in content["requests"] if one["type"] == "deletion"]
    assert asked == ["cancelled"]


def test_the_id_is_nowhere_and_accounting_is_as_before(service: Service, project: Project) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    before = accounting(service, project)
    batches = Batch.objects.filter(project_id=project_id(project)).count()
    content = made(service, project, user)
    assert export(service, project, user, PATIENT).status == 200
    assert user not in str(content)
    assert not traces(service, user)
    assert accounting(service, project) == before
    assert Batch.objects.filter(project_id=project_id(project)).count() == batches


def test_it_names_who_has_got_data_of_the_project(service: Service, project: Project) -> None:
    """By scheme and host: what else is in a collector's URL may be a secret."""
    user = somebody()
    Destination.objects.create(
        project_id=project_id(project),
        endpoint="https://collector.example.com:4318/token/v1/logs",
        last_success_at=timezone.now(),
    )
    Destination.objects.create(
        project=Row.objects.create_with_keys(f"test {uuid4().hex}")[0],
        endpoint="https://other.example.com",
        last_success_at=timezone.now(),
    )
    content = made(service, project, user)
    check(service, content)
    # Beside the instance's, which other tests may have sent to.
    assert "https://collector.example.com" in content["destinations"]
    assert not any("other" in one or "token" in one for one in content["destinations"])
