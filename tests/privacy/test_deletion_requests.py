"""Asking for erasure: at once nothing more is stored; what is asked, cancelled, and by whom."""

import gzip
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from ingest.models import Event
from privacy.models import AuditEntry, DeletionRequest, DeletionToken
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.sending import accepted, batch, event, moment, send, settled
from tests.ingest.traces import project_id, traces
from tests.privacy.asking import about, ask, pseudonym, somebody, subject_token

pytestmark = pytest.mark.usefixtures("none_late")

DAY = timedelta(days=1)
AUTH_QUOTA = 20


def delete(service: Service, project: Project, user: str, **more: Any) -> Answer:
    return ask(service, "delete", subject_token(project, user), {"user_id": user, **more})


def requests(project: Project) -> list[DeletionRequest]:
    found = DeletionRequest.objects.filter(project_id=project_id(project))
    return list(found.order_by("requested_at"))


def send_one(service: Service, project: Project, user: str) -> dict[str, Any]:
    sent = batch(event(user_id=user))
    return settled(service, project, accepted(send(service, project, sent)))


def test_answer_is_the_contracts(service: Service, project: Project) -> None:
    user = somebody()
    answer = delete(service, project, user, request_timestamp=moment(DAY))
    assert answer.status == 200
    assert answer.json["message"] == "Your data will be permanently deleted within 30 days"
    now = datetime.now(UTC)
    promised = datetime.fromisoformat(answer.json["estimated_completion"])
    assert abs(promised - now - 30 * DAY) < timedelta(minutes=1)
    assert abs(datetime.fromisoformat(answer.json["erasure_from"]) - now - 29 * DAY) < DAY / 24
    (request,) = requests(project)
    assert request.request_timestamp is not None
    assert abs(request.request_timestamp - now + DAY) < timedelta(minutes=1)


def test_nothing_more_is_stored_from_the_answer_on(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    assert send_one(service, project, user)["stored"] == 1
    delete(service, project, user)
    report = send_one(service, project, user)
    assert (report["stored"], report["suppressed"]) == (0, 1)
    assert send_one(service, project, other)["stored"] == 1
    found = Event.objects.filter(project_id=project_id(project), subject=pseudonym(project, user))
    assert found.count() == 1, "erasure itself waits for the end of the grace"


def test_asking_again_is_the_same_request_with_another_token(
    service: Service, project: Project
) -> None:
    user = somebody()
    first = delete(service, project, user).json
    second = delete(service, project, user, grace_days=3).json
    third = delete(service, project, user, grace_days=20).json
    assert len({answer["deletion_token"] for answer in (first, second, third)}) == 3
    (request,) = requests(project)
    assert abs(request.due_at - timezone.now() - 3 * DAY) < timedelta(minutes=1), "the earlier"
    assert third["estimated_completion"] == first["estimated_completion"]
    for answer in (first, second, third):
        assert about(service, "status", answer["deletion_token"]).json["status"] == "pending"


def test_of_many_who_ask_at_once_one_request_comes(service: Service, project: Project) -> None:
    user = somebody()
    start = threading.Barrier(8)

    def one(_: int) -> Answer:
        start.wait()
        return delete(service, project, user)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert [answer.status for answer in answers] == [200] * 8
    (request,) = requests(project)
    assert request.tokens.count() == 8


def test_status_says_how_far_it_is(service: Service, project: Project) -> None:
    token = delete(service, project, somebody()).json["deletion_token"]
    answer = about(service, "status", token)
    assert answer.status == 200
    (request,) = requests(project)
    assert answer.json["status"] == "pending"
    assert datetime.fromisoformat(answer.json["erasure_from"]) == request.due_at
    assert answer.json["receipt"] is None


def test_cancelled_request_lets_events_be_stored_again(service: Service, project: Project) -> None:
    user = somebody()
    token = delete(service, project, user).json["deletion_token"]
    for _ in range(2):
        answer = about(service, "cancel", token)
        assert (answer.status, answer.json["status"]) == (200, "cancelled")
    assert send_one(service, project, user)["stored"] == 1
    assert about(service, "status", token).json["status"] == "cancelled"
    again = delete(service, project, user).json["deletion_token"]
    assert about(service, "status", again).json["status"] == "pending"
    assert len(requests(project)) == 2


def test_cancelling_keeps_what_was_refused_before(service: Service, project: Project) -> None:
    user = somebody()
    ask(service, "consent", subject_token(project, user),
        {"user_id": user, "categories": {"application": False}})  # fmt: skip
    about(service, "cancel", delete(service, project, user).json["deletion_token"])
    assert send_one(service, project, user)["suppressed"] == 1


@pytest.mark.parametrize("state", ["running", "completed", "failed"])
def test_what_has_begun_cannot_be_cancelled(service: Service, project: Project, state: str) -> None:
    token = delete(service, project, somebody()).json["deletion_token"]
    DeletionRequest.objects.filter(pk=requests(project)[0].pk).update(state=state)
    answer = about(service, "cancel", token)
    assert (answer.status, answer.json["code"]) == (409, "too_late")


@pytest.mark.parametrize("token", ["", "x", "x" * 101, "0" * 43, 7, None, ["x"]])
@pytest.mark.parametrize("what", ["status", "cancel"])
def test_unknown_token_gets_nothing(service: Service, what: str, token: Any) -> None:
    assert about(service, what, token).status in (400, 404)


@pytest.mark.parametrize("what", ["status", "cancel"])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (gzip.compress(b" " * 10 * 1024**2), 413), (b" " * 70_000, 413)],
    ids=["not JSON", "no object", "large once decompressed", "large"],
)
def test_who_sends_what_is_nothing_is_counted_like_who_guesses(
    service: Service, what: str, body: bytes, status: int
) -> None:
    headers = {
        "Content-Type": "application/gzip" if body[:2] == b"\x1f\x8b" else "application/json",
        "X-Forwarded-For": f"2001:db8:{secrets.randbits(16):x}:{secrets.randbits(16):x}::1",
    }
    answers = [
        service.request("POST", f"/v1/telemetry/delete/{what}", body, headers)
        for _ in range(AUTH_QUOTA * 2 + 1)
    ]
    # In two windows at most.
    assert answers[0].status == status
    assert answers[-1].status == 429
    assert answers[-1].json["policy"] == "auth.ip"


def test_token_ends_thirty_days_after_completion(service: Service, project: Project) -> None:
    token = delete(service, project, somebody()).json["deletion_token"]
    request = requests(project)[0]
    for days, status in ((29, 200), (31, 404)):
        DeletionRequest.objects.filter(pk=request.pk).update(
            state="completed", finished_at=timezone.now() - days * DAY
        )
        assert about(service, "status", token).status == status


def test_tokens_are_kept_as_keyed_hashes_and_ids_nowhere(
    service: Service, project: Project
) -> None:
    user = somebody()
    token = delete(service, project, user).json["deletion_token"]
    assert not traces(service, token)
    assert not traces(service, user)
    assert DeletionToken.objects.filter(pk=DeletionToken.digest_of(token)).exists()


def test_opting_in_again_ends_the_suppression_for_what_is_granted(
    service: Service, project: Project
) -> None:
    user = somebody()
    delete(service, project, user)
    content = {"user_id": user, "categories": {"business": True}}
    answer = ask(service, "consent", subject_token(project, user), content)
    assert answer.json["suppressed"] is False
    assert [name for name, granted in answer.json["categories"].items() if granted] == ["business"]
    assert send_one(service, project, user)["suppressed"] == 1, "an event of application"


@pytest.mark.parametrize(
    ("field", "value"),
    [("grace_days", -1), ("grace_days", 30), ("grace_days", 1.5), ("grace_days", "now"),
     ("request_timestamp", "yesterday"), ("request_timestamp", 7)],
)  # fmt: skip
def test_what_is_wrong_is_named(service: Service, project: Project, field: str, value: Any) -> None:
    answer = delete(service, project, somebody(), **{field: value})
    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == field
    assert not requests(project)


def test_everything_is_in_the_audit_log(service: Service, project: Project) -> None:
    user = somebody()
    token = delete(service, project, user).json["deletion_token"]
    ask(service, "delete", project.secret_key, {"user_id": user})
    about(service, "cancel", token)
    entries = AuditEntry.objects.filter(project_id=project_id(project)).order_by("number")
    assert [entry.action for entry in entries] == [
        "deletion.asked", "deletion.asked_again", "deletion.cancelled",
    ]  # fmt: skip
    assert {entry.object for entry in entries} == {str(requests(project)[0].pk)}
    actors = [entry.actor for entry in entries]
    assert (actors[0], actors[2]) == ("subject", "token holder")
    assert actors[1].startswith("key #")


def test_cancelling_lifts_no_earlier_erasure(service: Service, project: Project) -> None:
    user = somebody()
    done = delete(service, project, user, grace_days=0).json["deletion_token"]
    wait_for(
        lambda: about(service, "status", done).json["status"] == "completed", 30, "the erasure"
    )
    about(service, "cancel", delete(service, project, user).json["deletion_token"])
    assert send_one(service, project, user)["suppressed"] == 1


def test_what_is_refused_meanwhile_holds_after_cancelling(
    service: Service, project: Project
) -> None:
    user = somebody()
    bearer = subject_token(project, user)

    def refuse(category: str) -> None:
        ask(service, "consent", bearer, {"user_id": user, "categories": {category: False}})

    refuse("business")
    token = delete(service, project, user).json["deletion_token"]
    refuse("application")
    about(service, "cancel", token)
    held = service.request(
        "GET", "/v1/telemetry/consent", headers={"Authorization": f"Bearer {bearer}"}
    ).json["categories"]
    assert [name for name, granted in held.items() if not granted] == ["application", "business"]


def test_nobody_opts_in_while_they_are_erased(service: Service, project: Project) -> None:
    user = somebody()
    delete(service, project, user)
    DeletionRequest.objects.filter(pk=requests(project)[0].pk).update(state="running")
    content = {"user_id": user, "categories": {"*": True}}
    answer = ask(service, "consent", subject_token(project, user), content)
    assert (answer.status, answer.json["code"]) == (409, "erasing")
    DeletionRequest.objects.filter(pk=requests(project)[0].pk).update(state="pending")
