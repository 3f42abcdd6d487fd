"""Consent: what a person refuses isn't stored, from the answer on, and is counted."""

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from ingest import restrictions
from ingest.models import OUTCOMES, Event, MetricPoint
from ingest.models import Project as Row
from ingest.records import CATEGORIES
from privacy.models import ConsentChange
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.sending import accepted, accounting, batch, event, moment, send, settled
from tests.ingest.traces import project_id, traces
from tests.privacy.asking import ask, pseudonym, somebody, subject_token

EVERYTHING = dict.fromkeys(sorted(CATEGORIES), True)


def put(service: Service, project: Project, user: str, categories: Any) -> Answer:
    content = {"user_id": user, "categories": categories}
    return ask(service, "consent", subject_token(project, user), content)


def held(service: Service, bearer: str, headers: dict[str, str] | None = None) -> Answer:
    given = {"Authorization": f"Bearer {bearer}", **(headers or {})}
    return service.request("GET", "/v1/telemetry/consent", headers=given)


def held_here(project: Project, named: bytes) -> Any:
    """The same, without the HTTP server, which takes the blanks off and hands on ASCII alone."""
    headers = {
        "Authorization": f"Bearer {project.secret_key}", "X-User-ID": named.decode("latin-1"),
    }  # fmt: skip
    return Client(SERVER_NAME="localhost").get("/v1/telemetry/consent", headers=headers).json()


def stored(project: Project, user: str) -> list[str]:
    found = Event.objects.filter(project_id=project_id(project), subject=pseudonym(project, user))
    return sorted(found.values_list("name", flat=True))


def send_both(service: Service, project: Project, user: str) -> dict[str, Any]:
    sent = batch(
        event("one", user_id=user, category="application"),
        event("two", user_id=user, category="business"),
    )
    return settled(service, project, accepted(send(service, project, sent)))


def test_everything_is_granted_until_somebody_says_otherwise(
    service: Service, project: Project
) -> None:
    user = somebody()
    answer = held(service, subject_token(project, user))
    assert answer.json == {"user_id": user, "categories": EVERYTHING, "suppressed": False}


def test_refused_category_is_dropped_and_counted(service: Service, project: Project) -> None:
    user, other = somebody(), somebody()
    assert put(service, project, user, {"business": False}).json["categories"] == {
        **EVERYTHING, "business": False,
    }  # fmt: skip
    report = send_both(service, project, user)
    assert (report["stored"], report["suppressed"], report["state"]) == (1, 1, "stored")
    assert stored(project, user) == ["one"]
    send_both(service, project, other)
    assert stored(project, other) == ["one", "two"]
    assert accounting(service, project) | {"received": 4, "stored": 3, "suppressed": 1} == (
        accounting(service, project)
    )


def test_what_somebody_refused_is_told_to_nobody_who_may_only_send(
    service: Service, project: Project
) -> None:
    user, other = somebody(), somebody()
    put(service, project, user, {"business": False})

    def told(of: str) -> dict[str, Any]:
        """What a publishable key is told of events that were sent in somebody's name."""
        batch_id = send_both(service, project, of)["batch_id"]
        key = {"X-API-Key": project.ingest_key}
        report: dict[str, Any] = service.request("GET", f"/v1/batches/{batch_id}", headers=key).json
        return {name: report[name] for name in report if name in OUTCOMES or name == "state"}

    assert told(user) == told(other)
    assert told(user)["stored"] == 2
    assert stored(project, user) == ["one", "one"]


def test_grant_is_taken_up_again(service: Service, project: Project) -> None:
    user = somebody()
    put(service, project, user, {"business": False, "application": False})
    put(service, project, user, {"business": True})
    send_both(service, project, user)
    assert stored(project, user) == ["two"]


def test_everything_is_refused_in_one_call_and_measurements_with_it(
    service: Service, project: Project
) -> None:
    user = somebody()

    def measure() -> dict[str, Any]:
        point = {"name": "m", "type": "gauge", "value": 1, "user_id": user}
        content = {"metrics": [point | {"timestamp": moment()}]}
        answer = send(service, project, content, path="/v1/metrics")
        return settled(service, project, accepted(answer))

    put(service, project, user, {"business": False})
    assert measure()["stored"] == 1
    assert put(service, project, user, {"*": False}).json["categories"] == dict.fromkeys(
        EVERYTHING, False
    )
    assert send_both(service, project, user)["suppressed"] == 2
    assert measure()["suppressed"] == 1
    points = MetricPoint.objects.filter(
        project_id=project_id(project), subject=pseudonym(project, user)
    )
    assert points.count() == 1


def test_what_is_named_goes_before_the_rest(service: Service, project: Project) -> None:
    user = somebody()
    answer = put(service, project, user, {"*": False, "system": True})
    assert answer.json["categories"] == {**dict.fromkeys(EVERYTHING, False), "system": True}


# What the log says of a refusal that was answered before all storing was through.
WAITED = "a refusal was answered while something was still being stored"


@contextmanager
def storing(project: Project) -> Iterator[None]:
    """Something of the project's is being stored, which may have begun before a refusal."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock_shared(%s, %s)",
                [restrictions._STORING, project_id(project)],
            )
        yield


def waits_for_storing() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid = %s)",
            [restrictions._STORING],
        )
        return bool(cursor.fetchone()[0])


def test_a_refusal_is_answered_when_what_is_being_stored_is_through(
    service: Service, project: Project
) -> None:
    user = somebody()
    with ThreadPoolExecutor(1) as pool:
        with storing(project):
            answer = pool.submit(put, service, project, user, {"business": False})
            wait_for(waits_for_storing, 20, "the refusal to wait")
            assert not answer.done()
        assert answer.result().status == 200


def test_a_refusal_does_not_wait_for_ever(service: Service, project: Project) -> None:
    user = somebody()
    with storing(project):
        assert put(service, project, user, {"business": False}).status == 200
        assert not waits_for_storing()
    assert send_both(service, project, user)["suppressed"] == 1


def test_what_refuses_nothing_new_does_not_wait(service: Service, project: Project) -> None:
    user = somebody()
    put(service, project, user, {"business": False})
    told = service.output.count(WAITED)
    with storing(project):
        for answer in (False, True):
            assert put(service, project, user, {"business": answer}).status == 200
        assert put(service, project, user, {"network": False}).status == 200
    wait_for(lambda: service.output.count(WAITED) == told + 1, 20, "the one that waited to say so")


def test_server_asks_with_its_key_and_names_the_person_in_a_header(
    service: Service, project: Project
) -> None:
    user = somebody()
    put(service, project, user, {"network": False})
    answer = held(service, project.secret_key, {"X-User-ID": user})
    assert (answer.status, answer.json["categories"]["network"]) == (200, False)
    unnamed = held(service, project.secret_key)
    assert (unnamed.status, unnamed.json["errors"][0]["field"]) == (400, "X-User-ID")
    other = held(service, subject_token(project, somebody()), {"X-User-ID": user})
    assert (other.status, other.json["code"]) == (403, "wrong_subject")


@pytest.mark.parametrize("user", ["zoë", "voilà", " led by a blank", "followed by two  "])
def test_header_names_the_person_as_it_stands(
    service: Service, project: Project, user: str
) -> None:
    put(service, project, user, {"network": False})
    answer = held_here(project, user.encode())
    assert answer["user_id"] == user
    assert answer["categories"]["network"] is False


def test_http_takes_blanks_off_a_header(service: Service, project: Project) -> None:
    answer = held(service, project.secret_key, {"X-User-ID": " sp-5a30 "})
    assert answer.json["user_id"] == "sp-5a30"


@pytest.mark.parametrize(
    ("named", "code"),
    [(b"u" * 201, "too_long"), (b"\xff", "invalid_utf8"), (b"", "missing_field")],
    ids=["too long", "not UTF-8", "empty"],
)
def test_header_that_names_nobody_is_refused(project: Project, named: bytes, code: str) -> None:
    errors = held_here(project, named)["errors"]
    assert [(error["field"], error["code"]) for error in errors] == [("X-User-ID", code)]


@pytest.mark.parametrize(
    ("content", "field", "code"),
    [
        ({"categories": {"business": False}}, "user_id", "missing_field"),
        ({"user_id": "", "categories": {"business": False}}, "user_id", "missing_field"),
        ({"user_id": None, "categories": {"business": False}}, "user_id", "missing_field"),
        ({"user_id": 1.5, "categories": {"business": False}}, "user_id", "invalid_type"),
        ({"user_id": True, "categories": {"business": False}}, "user_id", "invalid_type"),
        ({"user_id": ["u"], "categories": {"business": False}}, "user_id", "invalid_type"),
        ({"user_id": "u" * 201, "categories": {"business": False}}, "user_id", "too_long"),
        ({"user_id": "u"}, "categories", "missing_field"),
        ({"user_id": "u", "categories": {}}, "categories", "missing_field"),
        ({"user_id": "u", "categories": []}, "categories", "invalid_type"),
        ({"user_id": "u", "categories": {"busyness": False}}, "categories", "unknown_category"),
        ({"user_id": "u", "categories": {"business": "perhaps"}}, "categories.business",
         "invalid_type"),
        ({"user_id": "u", "categories": {"business": None}}, "categories.business",
         "missing_field"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    service: Service, project: Project, content: Any, field: str, code: str
) -> None:
    answer = ask(service, "consent", project.secret_key, content)
    assert answer.status == 400
    assert (answer.json["errors"][0]["field"], answer.json["code"]) == (field, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"user_id": "\xff"}', 400, "malformed_json"),
        (b'{"user_id": "\\ud800"}', 400, "malformed_json"),
        (b"[]", 400, "invalid_type"),
        (b"[" * 10_000, 400, "malformed_json"),
        (b'{"user_id": "' + b"u" * 70_000 + b'"}', 413, "too_large"),
        (gzip.compress(b" " * 70_000), 413, "too_large_decompressed"),
    ],
)
def test_hostile_body_is_refused(
    service: Service, project: Project, body: bytes, status: int, code: str
) -> None:
    compressed = body[:2] == b"\x1f\x8b"
    headers = {"Content-Encoding": "gzip"} if compressed else None
    answer = ask(service, "consent", project.secret_key, body, headers)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_what_a_person_sends_counts_whatever_it_is(service: Service, project: Project) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"privacy.subject": "3/d"})
    bearer = subject_token(project, somebody())
    answers = [ask(service, "consent", bearer, b"{") for _ in range(4)]
    assert [answer.status for answer in answers] == [400, 400, 400, 429]


def test_a_number_is_the_person_that_its_digits_name(service: Service, project: Project) -> None:
    ask(service, "consent", project.secret_key, {"user_id": 42, "categories": {"*": False}})
    assert held(service, project.secret_key, {"X-User-ID": "42"}).json["categories"] == (
        dict.fromkeys(EVERYTHING, False)
    )


def test_every_answer_is_kept_and_no_raw_id(service: Service, project: Project) -> None:
    user = somebody()
    put(service, project, user, {"business": False})
    put(service, project, user, {"business": True, "system": False})
    changes = ConsentChange.objects.filter(subject=pseudonym(project, user)).order_by("pk")
    assert list(changes.values_list("category", "granted")) == [
        ("business", False), ("business", True), ("system", False),
    ]  # fmt: skip
    assert not traces(service, user)


def test_projects_know_nothing_of_each_others_persons(service: Service, project: Project) -> None:
    row, keys = Row.objects.create_with_keys(f"other {somebody()}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    user = somebody()
    put(service, project, user, {"*": False})
    send_both(service, other, user)
    assert stored(other, user) == ["one", "two"]


def test_a_person_asks_so_often_and_others_unharmed(service: Service, project: Project) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"privacy.subject": "3/h"})
    user = somebody()
    answers = [put(service, project, user, {"business": False}) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json["policy"] == "privacy.subject"
    assert put(service, project, somebody(), {"business": False}).status == 200
