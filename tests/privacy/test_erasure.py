"""Erasure on the running service: complete, of this person alone, and nothing comes back."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from ingest.models import Event, RateLimitViolation
from ingest.models import Project as Row
from privacy import audit
from privacy.models import AuditEntry, ConsentChange, DeletionRequest
from telemetry_site import presence
from telemetry_site.models import Pause
from telemetry_site.redis_client import redis_client
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, accounting, batch, event, moment, send, settled, status
from tests.ingest.traces import project_id, traces
from tests.privacy.asking import about, ask, pseudonym, somebody, subject_token
from tests.privacy.erasing import erased, events, points, tombstone
from tests.schedules import every_second

DAY = timedelta(days=1)


@pytest.fixture
def users_optional(project: Project) -> Project:
    row = Row.objects.get(slug=project.project)
    row.users_optional = True
    row.save()
    return project


def stored(service: Service, project: Project, *sent: dict[str, Any]) -> None:
    settled(service, project, accepted(send(service, project, batch(*sent))))


def everywhere(service: Service, project: Project, user: str) -> None:
    """Something of the user's by every dialect that names one."""
    point = {"name": "m", "type": "gauge", "value": 1, "user_id": user, "timestamp": moment()}
    for path, content in (
        ("/v1/events", batch(event("native", user_id=user))),
        ("/v1/submit", {"events": [event("submitted", user_id=user)]}),
        (
            "/api/client-telemetry",
            {"events": [{"level": "info", "scope": "s", "message": "browser", "context": {
                "userId": user}, "timestamp": moment(), "sessionId": uuid4().hex}]},
        ),
        ("/v1/metrics", {"metrics": [point, {**point, "name": "n"}]}),
    ):  # fmt: skip
        answer = send(service, project, content, path=path)
        assert answer.status in (200, 202, 204), answer


def test_everything_of_a_person_goes_whatever_dialect_brought_it(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()
    for who in (user, other):
        everywhere(service, project, who)

    def all_there() -> bool:
        return all(len(events(project, who)) >= 2 and points(project, who) == 2
                   for who in (user, other))  # fmt: skip

    wait_for(all_there, 30, "both persons' records to be stored")
    wait_for(lambda: not waiting(project), 30, "nothing to wait")
    before = len(events(project, other)), len(events(project, user))
    told = erased(service, project, user)
    assert told["status"] == "completed"
    receipt = told["receipt"]
    assert receipt["erased"]["ingest_event"] == before[1]
    assert receipt["erased"]["ingest_metricpoint"] == 2
    assert receipt["verified"]["found"] == 0
    assert {"ingest_event", "ingest_metricpoint", "ingest_batch"} <= set(
        receipt["verified"]["tables"]
    )
    assert receipt["not_reached"]
    assert (events(project, user), points(project, user)) == ([], 0)
    assert (len(events(project, other)), points(project, other)) == (before[0], 2)


def waiting(project: Project) -> int:
    from ingest.models import Batch

    return Batch.objects.filter(project_id=project_id(project), state="received").count()


def test_times_long_ago_and_ahead_make_no_difference(service: Service, project: Project) -> None:
    user = somebody()
    times = (30 * DAY, 7 * DAY, timedelta(), -DAY, -300 * DAY)
    stored(service, project, *(event(f"e{n}", user_id=user, timestamp=moment(ago))
                               for n, ago in enumerate(times)))  # fmt: skip
    assert len(events(project, user)) == 5
    assert erased(service, project, user)["receipt"]["erased"]["ingest_event"] == 5
    assert events(project, user) == []


def test_same_user_id_in_another_project_is_another_person(
    service: Service, project: Project
) -> None:
    other = service.create_project(f"other {uuid4().hex}")
    user = somebody()
    for one in (project, other):
        stored(service, one, event(user_id=user))
    erased(service, project, user)
    assert (events(project, user), len(events(other, user))) == ([], 1)


def test_what_is_left_is_a_tombstone_which_drops_what_arrives(
    service: Service, project: Project
) -> None:
    user = somebody()
    stored(service, project, event(user_id=user))
    ask(service, "consent", subject_token(project, user),
        {"user_id": user, "categories": {"business": False}})  # fmt: skip
    erased(service, project, user)
    stone = tombstone(project, user)
    assert stone is not None
    assert (stone.suppressed, stone.refused) == (True, [])
    subject = pseudonym(project, user)
    assert not ConsentChange.objects.filter(subject=subject).exists()
    assert not DeletionRequest.objects.filter(subject=subject).exists()
    sent = batch(event(user_id=user))
    report = settled(service, project, accepted(send(service, project, sent)))
    assert (report["stored"], report["suppressed"]) == (0, 1)
    ask(service, "consent", subject_token(project, user),
        {"user_id": user, "categories": {"*": True}})  # fmt: skip
    stored(service, project, event("again", user_id=user))
    assert events(project, user) == ["again"]


def test_sessions_that_were_this_persons_alone_go_with_them(
    service: Service, users_optional: Project
) -> None:
    project, user, other = users_optional, somebody(), somebody()
    own, shared, foreign, nobodys = (uuid4().hex for _ in range(4))
    stored(
        service,
        project,
        event("named", user_id=user, session_id=own),
        event("before login", user_id=None, session_id=own),
        event("named", user_id=user, session_id=shared),
        event("other", user_id=other, session_id=shared),
        event("shared", user_id=None, session_id=shared),
        event("other", user_id=other, session_id=foreign),
        event("foreign", user_id=None, session_id=foreign),
        event("nobody", user_id=None, session_id=nobodys),
    )
    stored(service, project, event("later", user_id=None, session_id=own))
    stored(service, project, event("past", user_id=None, session_id=own, timestamp=moment(9 * DAY)))
    told = erased(service, project, user)
    assert told["receipt"]["erased"]["ingest_event"] == 5
    left = Event.objects.filter(project_id=project_id(project)).values_list("name", flat=True)
    assert sorted(left) == ["foreign", "nobody", "other", "other", "shared"]


def test_sessions_of_who_is_erased_are_not_stored_without_their_name(
    service: Service, users_optional: Project
) -> None:
    project, user, other = users_optional, somebody(), somebody()
    erased(service, project, user)
    own, shared = uuid4().hex, uuid4().hex
    sent = batch(
        event("named", user_id=user, session_id=own),
        event("anonymous", user_id=None, session_id=own),
        event("named", user_id=user, session_id=shared),
        event("shared", user_id=None, session_id=shared),
        event("other", user_id=other, session_id=shared),
        event("nobody", user_id=None),
    )
    report = settled(service, project, accepted(send(service, project, sent)))
    assert (report["stored"], report["suppressed"]) == (3, 3)
    left = Event.objects.filter(project_id=project_id(project)).values_list("name", flat=True)
    assert sorted(left) == ["nobody", "other", "shared"]


def test_opting_in_does_not_cancel_what_was_asked_for(service: Service, project: Project) -> None:
    user = somebody()
    token = ask(service, "delete", project.secret_key, {"user_id": user}).json["deletion_token"]
    ask(service, "consent", project.secret_key, {"user_id": user, "categories": {"*": True}})
    stored(service, project, event(user_id=user))
    assert erased(service, project, user)["status"] == "completed"
    assert events(project, user) == []
    assert about(service, "status", token).json["status"] == "completed"
    assert tombstone(project, user).suppressed


def test_second_request_after_the_first_is_complete_is_one_of_its_own(
    service: Service, project: Project
) -> None:
    user = somebody()
    stored(service, project, event(user_id=user))
    assert erased(service, project, user)["receipt"]["erased"] == {"ingest_event": 1}
    assert erased(service, project, user)["receipt"]["erased"] == {}
    assert DeletionRequest.objects.filter(project_id=project_id(project)).count() == 2


def test_earlier_requests_forget_the_person_too(service: Service, project: Project) -> None:
    user = somebody()
    token = ask(service, "delete", project.secret_key, {"user_id": user}).json["deletion_token"]
    assert about(service, "cancel", token).json["status"] == "cancelled"
    erased(service, project, user)
    assert not DeletionRequest.objects.filter(subject=pseudonym(project, user)).exists()
    assert about(service, "status", token).json["status"] == "cancelled"


def test_who_was_refused_by_a_limit_is_forgotten(service: Service, project: Project) -> None:
    row = Row.objects.get(slug=project.project)
    row.rate_limits = {"events.user": "1/d"}
    row.save()
    user, other = somebody(), somebody()

    def refused(who: str) -> bool:
        headers = {"X-User-ID": who}
        return send(service, project, batch(event(user_id=who)), headers).status == 429

    for who in (user, other):
        wait_for(lambda who=who: refused(who), 30, "the limit to refuse")
    found = RateLimitViolation.objects.filter(project_id=row.pk)
    wait_for(lambda: found.values("key").distinct().count() == 2, 60, "violations to be flushed")
    assert erased(service, project, user)["status"] == "completed"
    assert found.values("key").distinct().count() == 1


def test_accounting_stays_exact(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    with paused():
        for _ in range(3):
            sent = batch(event(user_id=user), event(user_id=other), event(user_id=user))
            accepted(send(service, project, sent))
        alone = accepted(send(service, project, batch(event(user_id=user))))
        assert erased(service, project, user)["receipt"]["erased"]["ingest_batch"] == 7
        report = status(service, project, alone).json
        assert (report["state"], report["suppressed"], report["waiting"]) == ("stored", 1, 0)
        figures = accounting(service, project)
        assert (figures["received"], figures["suppressed"], figures["waiting"]) == (10, 7, 3)
    wait_for(lambda: not waiting(project), 30, "what waits to be stored")
    figures = accounting(service, project)
    assert (figures["stored"], figures["suppressed"], figures["dead"]) == (3, 7, 0)
    assert (events(project, user), len(events(project, other))) == ([], 3)


def test_waiting_sessions_that_were_this_persons_alone_go_with_them(
    service: Service, users_optional: Project
) -> None:
    project, user, other = users_optional, somebody(), somebody()
    own, shared = uuid4().hex, uuid4().hex
    stored(service, project, event("named", user_id=user, session_id=own))
    with paused():
        for sent in (
            event("anonymous", user_id=None, session_id=own),
            event("named", user_id=user, session_id=shared),
            event("shared", user_id=None, session_id=shared),
            event("other", user_id=other, session_id=shared),
        ):
            accepted(send(service, project, batch(sent)))
        erased(service, project, user)
    wait_for(lambda: not waiting(project), 30, "what waits to be stored")
    left = Event.objects.filter(project_id=project_id(project)).values_list("name", flat=True)
    assert sorted(left) == ["other", "shared"]


@contextmanager
def paused() -> Iterator[None]:
    """The queue of the ledger stands still."""
    Pause.objects.create(queue="ingest", by="test", reason="a test")
    try:
        begun = time.time()
        wait_for(lambda: _stands_still(begun), 30, "storing to pause")
        yield
    finally:
        Pause.objects.filter(pk="ingest").delete()


def _stands_still(begun: float) -> bool:
    """Whether the worker has said since that it runs nothing."""
    with closing(redis_client()) as client:
        told = [one for one in presence.workers(client) if one.queues == ["ingest"]]
    return any(one.seen > begun + 1.5 and not one.running for one in told)


def test_audit_says_what_was_done_and_holds_nobody(service: Service, project: Project) -> None:
    user = somebody()
    stored(service, project, event(user_id=user))
    erased(service, project, user)
    entries = AuditEntry.objects.filter(project_id=project_id(project)).order_by("number")
    assert [entry.action for entry in entries] == [
        "deletion.asked", "deletion.started", "deletion.completed",
    ]  # fmt: skip
    assert entries.last().details == {"rows": 1}
    assert pseudonym(project, user).hex() not in json.dumps(
        [[entry.object, entry.details, entry.actor] for entry in entries]
    )
    audit.verify()


def test_nothing_but_the_tombstone_leads_to_the_person(service: Service, project: Project) -> None:
    user = somebody()
    everywhere(service, project, user)
    wait_for(lambda: not waiting(project), 30, "everything to be stored")
    erased(service, project, user)
    assert not traces(service, user)
    assert traces(service, pseudonym(project, user).hex()) == ["privacy_personrestriction"]


def test_due_request_is_run_by_the_schedule(service: Service, project: Project) -> None:
    user = somebody()
    stored(service, project, event(user_id=user))
    token = ask(service, "delete", project.secret_key, {"user_id": user}).json["deletion_token"]
    DeletionRequest.objects.filter(project_id=project_id(project)).update(
        due_at=timezone.now() - DAY
    )

    def done() -> bool:
        return bool(about(service, "status", token).json["status"] == "completed")

    with every_second("run due deletions"):
        wait_for(done, 90, "the sweep to come by")
    assert events(project, user) == []
