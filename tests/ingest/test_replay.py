"""A batch that comes again: stored once, and its client told so."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from ingest.models import ApiKey, BatchClaim, Event
from ingest.models import Project as Row
from ingest.tasks import expire_claims
from tests.harness import Project, Service
from tests.ingest.sending import accepted, accounting, batch, event, send, settled, status
from tests.ingest.traces import ledger, project_id

SENDERS = 8


def stored(project: Project) -> int:
    return int(Event.objects.filter(project_id=project_id(project)).count())


def is_duplicate(answer: Any) -> bool:
    assert answer.status == 200, answer
    assert answer.json.get("duplicate", True) is True
    return "duplicate" in answer.json


def rebuilt(content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The same events, as a client sends them that makes up a new id for each try."""
    return {**content, "batch_id": str(uuid4()), **fields}


def with_optional_users(project: Project) -> Project:
    row = Row.objects.get(slug=project.project)
    Row.objects.filter(pk=row.pk).update(users_optional=True)
    row.refresh_from_db()
    _, key = ApiKey.objects.issue(row, "ingest")
    return Project(project.project, key, project.secret_key, project.signing_secret)


# --- by its id ---


def test_replayed_batch_is_stored_once(service: Service, project: Project) -> None:
    content = batch(event(), event())
    first = send(service, project, content)
    replays = [send(service, project, content) for _ in range(3)]
    assert not is_duplicate(first)
    assert all(is_duplicate(answer) for answer in replays)
    for answer in replays:
        kept = {
            name: answer.json[name] for name in ("batch_id", "received", "accepted", "rejected")
        }
        assert kept == {name: first.json[name] for name in kept}
    assert settled(service, project, content["batch_id"])["stored"] == 2
    assert stored(project) == 2
    counts = accounting(service, project)
    assert (counts["received"], counts["stored"], counts["duplicate"]) == (8, 2, 6)


def test_batch_replayed_after_it_was_stored_is_a_duplicate(
    service: Service, project: Project
) -> None:
    content = batch()
    settled(service, project, accepted(send(service, project, content)))
    assert is_duplicate(send(service, project, content))
    assert settled(service, project, content["batch_id"])["state"] == "stored"
    assert stored(project) == 1


def test_id_is_taken_whatever_is_sent_under_it(service: Service, project: Project) -> None:
    content = batch(event("first"))
    send(service, project, content)
    assert is_duplicate(send(service, project, {**content, "events": [event("other")]}))


def test_replay_of_a_batch_with_bad_events_is_a_duplicate(
    service: Service, project: Project
) -> None:
    content = batch(event(), 7, event())
    assert not is_duplicate(send(service, project, content))
    again = send(service, project, content)
    assert is_duplicate(again)
    assert (again.json["accepted"], again.json["rejected"]) == (2, 1)
    settled(service, project, content["batch_id"])
    counts = accounting(service, project)
    assert (counts["stored"], counts["duplicate"], counts["rejected"]) == (2, 2, 2)


@pytest.mark.parametrize("spelling", [str, str.upper, lambda text: text.replace("-", "")])
def test_id_may_come_as_idempotency_key(service: Service, project: Project, spelling: Any) -> None:
    key = str(uuid4())
    answers = [
        send(service, project, [event(number=number)], {"Idempotency-Key": spelled})
        for number, spelled in enumerate((key, spelling(key)))
    ]
    assert [is_duplicate(answer) for answer in answers] == [False, True]
    assert {answer.json["batch_id"] for answer in answers} == {key}


def test_id_of_the_body_wins_over_the_idempotency_key(service: Service, project: Project) -> None:
    key, content = str(uuid4()), batch()
    answer = send(service, project, content, {"Idempotency-Key": key})
    assert answer.json["batch_id"] == content["batch_id"]
    assert status(service, project, key).status == 404


def test_same_id_in_another_project_is_no_duplicate(service: Service, project: Project) -> None:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    content = batch()
    assert not is_duplicate(send(service, project, content))
    assert not is_duplicate(send(service, other, content))
    for each in (project, other):
        settled(service, each, content["batch_id"])
        assert stored(each) == 1


def test_refused_batch_leaves_no_claim(service: Service, project: Project) -> None:
    content = batch(event(user_id=None))
    assert send(service, project, content).status == 400
    assert not BatchClaim.objects.filter(project_id=project_id(project)).exists()
    mended = {**content, "events": [event()]}
    assert not is_duplicate(send(service, project, mended))


@pytest.mark.parametrize("ids", ["one id", "an id each", "no id"])
def test_of_batches_that_come_at_once_one_is_stored(
    service: Service, project: Project, ids: str
) -> None:
    content = batch(event(), event())
    tries = {
        "one id": [content] * SENDERS,
        "an id each": [rebuilt(content) for _ in range(SENDERS)],
        "no id": [content["events"]] * SENDERS,
    }[ids]
    with ThreadPoolExecutor(SENDERS) as senders:
        answers = list(senders.map(lambda each: send(service, project, each), tries))
    (first,) = [answer for answer in answers if not is_duplicate(answer)]
    assert settled(service, project, accepted(first))["stored"] == 2
    assert stored(project) == 2
    counts = accounting(service, project)
    assert (counts["received"], counts["stored"], counts["duplicate"]) == (16, 2, 14)


# --- by its content ---


def test_batch_whose_id_is_taken_does_not_claim_its_content(
    service: Service, project: Project
) -> None:
    """It isn't stored: its twin under a new id must be."""
    first = batch(event())
    send(service, project, first)
    other = {**first, "events": [event()]}
    assert is_duplicate(send(service, project, other))
    assert not is_duplicate(send(service, project, rebuilt(other)))


def test_rebuilt_batch_under_another_id_is_stored_once(service: Service, project: Project) -> None:
    content = batch(event(), event())
    first = accepted(send(service, project, content))
    again = rebuilt(content, timestamp=event()["timestamp"])
    assert is_duplicate(send(service, project, again))
    settled(service, project, first)
    assert stored(project) == 2
    report = status(service, project, again["batch_id"]).json
    assert (report["state"], report["duplicate"]) == ("duplicate", 2)
    assert report["duplicate_of"] == str(first)


def test_rebuilt_batch_without_an_id_is_stored_once(service: Service, project: Project) -> None:
    """What the clients of sources 000 and 001 do: a list of events, sent once more."""
    events = [event(), event(session_id="s")]
    answers = [send(service, project, events) for _ in range(3)]
    assert [is_duplicate(answer) for answer in answers] == [False, True, True]
    assert len({answer.json["batch_id"] for answer in answers}) == 3


def test_replay_of_a_rebuilt_batch_is_a_duplicate_too(service: Service, project: Project) -> None:
    content = batch()
    send(service, project, content)
    again = rebuilt(content)
    assert is_duplicate(send(service, project, again))
    assert is_duplicate(send(service, project, again))
    assert len(ledger(project)) == 3


def test_order_of_an_events_fields_does_not_make_another_batch_of_it(
    service: Service, project: Project
) -> None:
    content = event(category="system", level="info")
    turned = dict(reversed(content.items()))
    assert json.dumps(content) != json.dumps(turned)
    send(service, project, [content])
    assert is_duplicate(send(service, project, [turned]))


@pytest.mark.parametrize(
    "change",
    [
        {"event": "other"},
        {"user_id": "other"},
        {"session_id": "other"},
        {"message": "other"},
        {"level": "other"},
        {"volume": 12},
        {"timestamp": "2026-11-20T10:30:00.000001Z"},
    ],
    ids=str,
)
def test_batch_that_differs_in_anything_is_another(
    service: Service, project: Project, change: dict[str, Any]
) -> None:
    content = event(volume=11)
    send(service, project, [content])
    other = send(service, project, [content | change])
    assert other.status == 400 or not is_duplicate(other)


def test_more_or_fewer_of_the_same_events_are_another_batch(
    service: Service, project: Project
) -> None:
    one, two = event(), event()
    answers = [send(service, project, events) for events in ([one, two], [one], [two, one])]
    assert not any(is_duplicate(answer) for answer in answers)


def test_same_content_in_another_project_is_no_duplicate(
    service: Service, project: Project
) -> None:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    events = [event()]
    assert not is_duplicate(send(service, project, events))
    assert not is_duplicate(send(service, other, events))


def test_same_content_of_nobody_is_no_duplicate(service: Service, project: Project) -> None:
    """Two clients that name no user may well send the same."""
    anonymous = with_optional_users(project)
    somebody, nobody = event(), event(user_id=None)
    for events in ([nobody], [somebody, nobody]):
        assert not is_duplicate(send(service, anonymous, events))
        assert not is_duplicate(send(service, anonymous, events))


def test_same_content_of_a_session_is_a_duplicate(service: Service, project: Project) -> None:
    anonymous = with_optional_users(project)
    events = [event(user_id=None, session_id="s-1")]
    assert not is_duplicate(send(service, anonymous, events))
    assert is_duplicate(send(service, anonymous, events))


def test_content_is_recognised_for_an_hour(service: Service, project: Project) -> None:
    content = batch()
    first = send(service, project, content)
    let_contents_expire(project)
    second = rebuilt(content)
    assert not is_duplicate(send(service, project, second))
    third = rebuilt(content)
    assert is_duplicate(send(service, project, third))
    report = status(service, project, third["batch_id"]).json
    assert report["duplicate_of"] == second["batch_id"]
    assert is_duplicate(send(service, project, content)), "its id is taken for 31 days"
    settled(service, project, second["batch_id"])
    settled(service, project, accepted(first))
    assert stored(project) == 2


def test_claims_last_an_hour_for_contents_and_31_days_for_ids(
    service: Service, project: Project
) -> None:
    send(service, project, batch())
    (row,) = ledger(project)
    lasts = {
        claim.key == claim.batch_id: (claim.expires_at - row.received_at).total_seconds()
        for claim in BatchClaim.objects.filter(project_id=project_id(project))
    }
    assert lasts == {True: 31 * 86_400, False: 3_600}


def test_expired_claims_are_forgotten_and_others_kept(service: Service, project: Project) -> None:
    content = batch()
    send(service, project, content)
    let_contents_expire(project)
    expire_claims()
    (claim,) = BatchClaim.objects.filter(project_id=project_id(project))
    assert str(claim.key) == content["batch_id"]


def let_contents_expire(project: Project) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ingest_batchclaim SET expires_at = now() - interval '1 second'"
            " WHERE project_id = %s AND key <> batch_id",
            [project_id(project)],
        )
        assert cursor.rowcount >= 1
