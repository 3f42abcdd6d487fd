"""Subject tokens: who gets one, and every way to get at somebody else's data without."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from ingest.models import Project as Row
from privacy.models import AuditEntry
from tests.harness import Project, Service, wait_for
from tests.ingest.traces import project_id, traces
from tests.privacy.asking import HOUR, ask, somebody, subject_token

VICTIM = "victim"
DAY = timedelta(days=1)
Forge = Callable[[Project], str]


def _by_hand(project: Project, **header: Any) -> str:
    """Signed as HS256 whatever it says of itself."""
    claims = {
        "aud": project.project, "sub": VICTIM, "scope": "privacy",
        "exp": (datetime.now(UTC) + HOUR).timestamp(),
    }  # fmt: skip
    signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
    signature = hmac.digest(project.signing_secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unsigned(project: Project) -> str:
    claims = {"aud": project.project, "sub": VICTIM, "scope": "privacy"}
    return jwt.encode({**claims, "exp": datetime.now(UTC) + HOUR}, None, "none")


def _other_project(project: Project) -> str:
    row, _ = Row.objects.create_with_keys(f"other {uuid4().hex}")
    return subject_token(project, VICTIM, secret=row.signing_secret)


def _own_secret_other_audience(project: Project) -> str:
    row, _ = Row.objects.create_with_keys(f"other {uuid4().hex}")
    return subject_token(project, VICTIM, aud=row.slug)


# What is forged -> status, code.
FORGED: dict[str, tuple[Forge, int, str]] = {
    "unsigned": (_unsigned, 401, "invalid_token"),
    "says none and is signed": (lambda p: _by_hand(p, alg="none"), 401, "invalid_token"),
    "says HS384": (lambda p: _by_hand(p, alg="HS384"), 401, "invalid_token"),
    "says RS256": (lambda p: _by_hand(p, alg="RS256"), 401, "invalid_token"),
    "signed with nothing": (lambda p: subject_token(p, VICTIM, secret="0" * 64), 401,
                            "invalid_token"),
    "signed with the project's slug": (
        lambda p: subject_token(p, VICTIM, secret=p.project * 4), 401, "invalid_token"),
    "signed with the publishable key": (
        lambda p: subject_token(p, VICTIM, secret=p.ingest_key), 401, "invalid_token"),
    "signed by another project": (_other_project, 401, "invalid_token"),
    "for another project": (_own_secret_other_audience, 401, "invalid_token"),
    "for no project": (lambda p: subject_token(p, VICTIM, aud=None), 401, "invalid_token"),
    "for several projects": (lambda p: subject_token(p, VICTIM, aud=[p.project, "x"]), 401,
                             "invalid_token"),
    "expired": (lambda p: subject_token(p, VICTIM, exp=datetime.now(UTC) - HOUR), 401,
                "invalid_token"),
    "never expires": (lambda p: subject_token(p, VICTIM, exp=None), 401, "invalid_token"),
    "expires in two days": (lambda p: subject_token(p, VICTIM, exp=datetime.now(UTC) + 2 * DAY),
                            401, "invalid_token"),
    "expires after all calendars": (lambda p: subject_token(p, VICTIM, exp=2**62), 401,
                                    "invalid_token"),
    "not valid yet": (lambda p: subject_token(p, VICTIM, nbf=datetime.now(UTC) + HOUR), 401,
                      "invalid_token"),
    "a node's": (lambda p: subject_token(p, VICTIM, scope="ingest"), 401, "invalid_token"),
    "of no scope": (lambda p: subject_token(p, VICTIM, scope=None), 401, "invalid_token"),
    "of several scopes": (lambda p: subject_token(p, VICTIM, scope=["privacy"]), 401,
                          "invalid_token"),
    "of nobody": (lambda p: subject_token(p, VICTIM, sub=None), 401, "invalid_token"),
    "of an empty user": (lambda p: subject_token(p, VICTIM, sub="  "), 401, "invalid_token"),
    "of half a character": (lambda p: subject_token(p, "\ud800"), 401, "invalid_token"),
    "of a NUL": (lambda p: subject_token(p, "\0"), 401, "invalid_token"),
    "of somebody without end": (lambda p: subject_token(p, "u" * 201), 401, "invalid_token"),
    "a publishable key": (lambda p: p.ingest_key, 403, "wrong_scope"),
    "nothing": (lambda p: "", 401, "missing_token"),
    "another user's": (lambda p: subject_token(p, "attacker"), 403, "wrong_subject"),
    "another user's by case": (lambda p: subject_token(p, VICTIM.upper()), 403, "wrong_subject"),
    "another user's by blanks": (lambda p: subject_token(p, f"{VICTIM} "), 403, "wrong_subject"),
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("what", ["delete", "consent"])
def test_nobody_gets_at_another_persons_data(
    service: Service, project: Project, forged: str, what: str
) -> None:
    forge, status, code = FORGED[forged]
    content = {"user_id": VICTIM, "categories": {"*": False}}
    answer = ask(service, what, forge(project), content)
    assert (answer.status, answer.json["code"]) == (status, code)


@pytest.mark.parametrize("forged", FORGED)
def test_forged_tokens_make_no_tokens(service: Service, project: Project, forged: str) -> None:
    answer = ask(service, "tokens", FORGED[forged][0](project), {"user_id": VICTIM})
    assert answer.status in (401, 403)


def test_good_token_serves_its_person(service: Service, project: Project) -> None:
    user = somebody()
    content = {"user_id": user, "categories": {"business": False}}
    assert ask(service, "consent", subject_token(project, user), content).status == 200


def test_token_on_somebody_else_is_written_down_without_naming_them(
    service: Service, project: Project
) -> None:
    attacker, victim = somebody(), somebody()
    ask(service, "delete", subject_token(project, attacker), {"user_id": victim})
    entry = AuditEntry.objects.get(project_id=project_id(project))
    assert (entry.action, entry.actor) == ("access.refused", "subject")
    assert not traces(service, victim)
    assert not traces(service, attacker)


def test_secret_key_makes_a_token_that_works(service: Service, project: Project) -> None:
    user = somebody()
    made = ask(service, "tokens", project.secret_key, {"user_id": user, "expires_in": 60})
    assert made.status == 200
    ends = datetime.fromisoformat(made.json["expires_at"])
    assert timedelta(seconds=55) < ends - datetime.now(UTC) <= timedelta(seconds=60)
    content = {"user_id": user, "categories": {"business": False}}
    assert ask(service, "consent", made.json["token"], content).status == 200
    assert AuditEntry.objects.filter(project_id=project_id(project), action="token.issued").exists()
    assert not traces(service, user)


@pytest.mark.parametrize("seconds", [0, -1, 86_401, "soon", 1.5, True, None])
def test_a_token_lives_for_a_day_at_most(
    service: Service, project: Project, seconds: object
) -> None:
    content = {"user_id": somebody(), "expires_in": seconds}
    answer = ask(service, "tokens", project.secret_key, content)
    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == "expires_in"


def test_secrets_overlap_when_they_are_rotated_and_then_the_old_one_ends(
    service: Service, project: Project
) -> None:
    user = somebody()
    old = subject_token(project, user)
    content = {"user_id": user, "categories": {"business": False}}
    new_secret = service.manage(
        "keys", "rotate-signing", project.project, "--overlap-hours", "1"
    ).strip()
    new = subject_token(project, user, secret=new_secret)
    wait_for(
        lambda: ask(service, "consent", new, content).status == 200, 10, "the new secret to hold"
    )
    assert ask(service, "consent", old, content).status == 200
    service.manage("keys", "rotate-signing", project.project, "--overlap-hours", "0")
    # Each process sees a change at its next limited request.
    wait_for(lambda: ask(service, "consent", new, content).status == 401, 10, "the overlap to end")
    assert ask(service, "consent", old, content).status == 401, "two rotations ago"


def test_tokens_of_a_server_are_asked_for_with_a_secret_key_only(
    service: Service, project: Project
) -> None:
    user = somebody()
    answer = ask(service, "tokens", subject_token(project, user), {"user_id": user})
    assert answer.status == 401
    answer = ask(service, "tokens", project.ingest_key, {"user_id": user})
    assert (answer.status, answer.json["code"]) == (403, "wrong_scope")


def test_who_asks_about_others_uses_up_their_own(service: Service, project: Project) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"privacy.subject": "3/h"})
    bearer = subject_token(project, somebody())
    answers = [ask(service, "delete", bearer, {"user_id": somebody()}) for _ in range(5)]
    assert [answer.status for answer in answers] == [403, 403, 403, 429, 429]
    assert AuditEntry.objects.filter(project_id=project_id(project)).count() == 3
