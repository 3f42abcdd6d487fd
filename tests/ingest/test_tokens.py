"""Tokens that a project's own nodes send with: what must be in them, and what they may do."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.utils import timezone

from ingest.models import Project as Row
from tests.harness import Answer, Project, Service
from tests.ingest.sending import accepted, batch, event, send, status
from tests.ingest.traces import ledger

MINUTE = timedelta(minutes=1)
SOMEBODYS_SECRET = "0" * 64


def token(
    project: Project,
    *,
    secret: str | None = None,
    algorithm: str = "HS256",
    header: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A good token of the project's, but for what is given; a claim given as None is left out."""
    whole = {"aud": project.project, "scope": "ingest", **claims}
    payload = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(payload, secret or project.signing_secret, algorithm, headers=header)


def by_hand(project: Project, payload: Any, **header: Any) -> str:
    """A token signed as HS256 whatever it says of itself, with what no library would write."""
    content = payload if isinstance(payload, str) else json.dumps(payload)
    head = json.dumps({"alg": "HS256", **header})
    signed = f"{_base64(head.encode())}.{_base64(content.encode())}"
    signature = hmac.digest(project.signing_secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(project: Project, **more: Any) -> dict[str, Any]:
    return {"aud": project.project, "scope": "ingest", **more}


def ago(time: timedelta) -> int:
    return int((timezone.now() - time).timestamp())


def bearing(text: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {text}", "Content-Type": "application/json"}


def post(service: Service, text: str) -> Answer:
    return service.request("POST", "/v1/events", json.dumps(batch()).encode(), bearing(text))


def unsigned(project: Project) -> str:
    return jwt.encode(claims(project), None, "none")


def other_project() -> Project:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    return Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)


# --- good ones ---

GOOD: dict[str, Callable[[Project], str]] = {
    "aud and scope are enough": token,
    "expires soon": lambda project: token(project, exp=ago(-MINUTE)),
    "expires with a fraction": lambda project: token(project, exp=ago(-MINUTE) + 0.5),
    "expires in ten years": lambda project: token(project, exp=ago(-timedelta(days=3650))),
    "expires after all calendars": lambda project: token(project, exp=2**53),
    "is valid since a minute": lambda project: token(project, nbf=ago(MINUTE), iat=ago(MINUTE)),
    "is of a node whose clock is fast": lambda project: token(project, iat=ago(-MINUTE / 6)),
    "says more": lambda project: token(project, sub="node-7", jti="x", iss="us", site="mill"),
    "names a key": lambda project: token(project, header={"kid": "../../dev/null"}),
    "is of another type": lambda project: token(project, header={"typ": "at+jwt"}),
}


@pytest.mark.parametrize("which", GOOD)
def test_good_token_may_send(service: Service, project: Project, which: str) -> None:
    accepted(post(service, GOOD[which](project)))
    assert [row.state for row in ledger(project)] in (["received"], ["stored"])


def test_scheme_is_read_in_any_case(service: Service, project: Project) -> None:
    for scheme in ("bearer", "BEARER"):
        answer = service.request(
            "POST", "/v1/events", json.dumps(batch()).encode(), bearing(token(project), scheme)
        )
        assert answer.status == 200


def test_token_may_ask_what_became_of_a_batch(service: Service, project: Project) -> None:
    batch_id = accepted(post(service, token(project)))
    answer = service.request("GET", f"/v1/batches/{batch_id}", headers=bearing(token(project)))
    assert (answer.status, answer.json["batch_id"]) == (200, str(batch_id))
    assert status(service, project, batch_id).status == 200, "and so may the key"


def test_token_sees_no_other_projects_batch(service: Service, project: Project) -> None:
    batch_id = accepted(post(service, token(project)))
    answer = service.request(
        "GET", f"/v1/batches/{batch_id}", headers=bearing(token(other_project()))
    )
    assert answer.status == 404


def test_token_sends_under_its_projects_rules(service: Service, project: Project) -> None:
    """Users optional, and its own limits, as for the project's keys."""
    row = Row.objects.get(slug=project.project)
    row.users_optional, row.rate_limits = True, {"events.user": "2/d"}
    row.save()
    body = json.dumps([event(user_id=None)]).encode()
    headers = bearing(token(project))
    accepted(service.request("POST", "/v1/events", body, headers))
    headers["X-User-ID"] = "somebody"
    found = [post_as(service, headers) for _ in range(3)]
    assert found == [200, 200, 429]


def post_as(service: Service, headers: dict[str, str]) -> int:
    return service.request("POST", "/v1/events", json.dumps(batch()).encode(), headers).status


# --- what they may not do ---


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/query/accounting"), ("GET", "/v1/query/accounting?key=x")]
)
@pytest.mark.parametrize("scope", ["ingest", "secret", "query", "privacy"])
def test_token_may_not_ask_questions(
    service: Service, project: Project, method: str, path: str, scope: str
) -> None:
    answer = service.request(method, path, headers=bearing(token(project, scope=scope)))
    assert answer.status in {401, 403}


def test_token_is_no_key(service: Service, project: Project) -> None:
    """It belongs behind Authorization; nowhere else is it looked at."""
    body = json.dumps(batch()).encode()
    text = token(project)
    for path, headers in (("/v1/events", {"X-API-Key": text}), (f"/v1/events?key={text}", {})):
        answer = service.request("POST", path, body, headers)
        assert answer.status == 401


def test_key_is_taken_beside_a_token(service: Service, project: Project) -> None:
    headers = {"Authorization": f"Bearer {token(project, exp=ago(MINUTE))}"}
    assert send(service, project, batch(), headers).status == 200


# --- bad ones ---

BAD: dict[str, Callable[[Project], str]] = {
    # Signatures.
    "is signed with another secret": lambda project: token(project, secret=SOMEBODYS_SECRET),
    "is signed with another project's": lambda project: token(
        project, secret=other_project().signing_secret
    ),
    "is signed with the ingest key": lambda project: token(project, secret=project.ingest_key),
    "is not signed": unsigned,
    "is not signed but says it is": lambda project: ".".join([*token(project).split(".")[:2], ""]),
    "is not signed and has a signature": lambda project: (
        unsigned(project) + token(project).split(".")[2]
    ),
    "says none in capitals": lambda project: by_hand(project, claims(project), alg="NONE"),
    "is signed with HS512": lambda project: token(project, algorithm="HS512"),
    "is signed with HS384": lambda project: token(project, algorithm="HS384"),
    "says RS256": lambda project: by_hand(project, claims(project), alg="RS256"),
    "says ES256": lambda project: by_hand(project, claims(project), alg="ES256"),
    "says hs256": lambda project: by_hand(project, claims(project), alg="hs256"),
    "says no algorithm": lambda project: by_hand(project, claims(project), alg=None),
    "says a list of algorithms": lambda project: by_hand(project, claims(project), alg=["HS256"]),
    "brings its own key": lambda project: token(
        project,
        secret=SOMEBODYS_SECRET,
        header={"jwk": {"kty": "oct", "k": _base64(SOMEBODYS_SECRET.encode())}},
    ),
    "has a key's name that is none": lambda project: by_hand(project, claims(project), kid=7),
    "wants what nobody understands": lambda project: by_hand(
        project, claims(project), crit=["x"], x=1
    ),
    "has its claims elsewhere": lambda project: by_hand(
        project, claims(project), b64=False, crit=["b64"]
    ),
    "has a byte changed": lambda project: _changed(token(project, sub="node-7")),
    # Whose it is.
    "is for another project": lambda project: token(project, aud=other_project().project),
    "is for no project of ours": lambda project: token(project, aud="nowhere"),
    "is for several": lambda project: token(project, aud=[project.project]),
    "is for several, the other's first": lambda project: token(
        project, aud=[other_project().project, project.project]
    ),
    "is for nobody": lambda project: token(project, aud=None),
    "is for null": lambda project: by_hand(project, {"aud": None, "scope": "ingest"}),
    "is for a number": lambda project: token(project, aud=7),
    "is for an object": lambda project: token(project, aud={"slug": project.project}),
    "is for an empty name": lambda project: token(project, aud=""),
    "is for a name with a NUL": lambda project: token(project, aud=f"{project.project}\0"),
    "is for a name with a newline": lambda project: token(project, aud=f"{project.project}\n"),
    "is for half a character": lambda project: by_hand(
        project, '{"aud": "\\ud800", "scope": "ingest"}'
    ),
    "is for a name of 1000 characters": lambda project: token(project, aud="a" * 1000),
    "is for the name in capitals": lambda project: token(project, aud=project.project.upper()),
    # What it is for.
    "has no scope": lambda project: token(project, scope=None),
    "has the scope of privacy": lambda project: token(project, scope="privacy"),
    "has the scope of secret keys": lambda project: token(project, scope="secret"),
    "has two scopes": lambda project: token(project, scope="ingest privacy"),
    "has a list of scopes": lambda project: token(project, scope=["ingest"]),
    "has its scope in capitals": lambda project: token(project, scope="INGEST"),
    "has true as its scope": lambda project: token(project, scope=True),
    # When.
    "expired a minute ago": lambda project: token(project, exp=ago(MINUTE)),
    "expired in 1970": lambda project: token(project, exp=0),
    "expires at a word": lambda project: token(project, exp="tomorrow"),
    "expires at null": lambda project: by_hand(project, claims(project, exp=None)),
    "expires at a list": lambda project: by_hand(project, claims(project, exp=[])),
    "expires at infinity": lambda project: by_hand(project, claims(project, exp=float("inf"))),
    "expires at no number": lambda project: by_hand(project, claims(project, exp=float("nan"))),
    "is valid in an hour": lambda project: token(project, nbf=ago(-60 * MINUTE)),
    "is valid from infinity": lambda project: by_hand(project, claims(project, nbf=float("inf"))),
    # Shape.
    "is a list": lambda project: by_hand(project, [claims(project)]),
    "is a word": lambda project: by_hand(project, "ingest"),
    "is a number": lambda project: by_hand(project, 7),
    "is nothing": lambda project: by_hand(project, ""),
    "is a long number": lambda project: by_hand(project, "9" * 2500),
    "is nested deep": lambda project: by_hand(project, "[" * 2500),
    "is nested deep and whole": lambda project: by_hand(
        project, '{"aud":' + "[" * 1200 + "]" * 1200 + "}"
    ),
    "is all dots": lambda project: "eyJ..",
    "is no base64": lambda project: "eyJ!.eyJ!.!",
    "is cut short": lambda project: token(project)[:-1],
    "has one character more": lambda project: token(project) + "A",
    "has its header nested deep": lambda project: (
        _base64(b'{"alg":' + b"[" * 2500) + "." + token(project).split(".", 1)[1]
    ),
    "is too long": lambda project: token(project, sub="x" * 4000),
}


def _changed(text: str) -> str:
    header, payload, signature = text.split(".")
    content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    return f"{header}.{_base64(content.replace(b'node-7', b'node-8'))}.{signature}"


@pytest.mark.parametrize("which", BAD)
def test_token_is_refused_that(service: Service, project: Project, which: str) -> None:
    text = BAD[which](project)
    answer = post(service, text)
    assert (answer.status, answer.json["code"]) == (401, "invalid_token"), answer
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert text not in answer.text
    assert ledger(project) == []


def test_what_is_only_like_a_token_is_an_unknown_key(service: Service, project: Project) -> None:
    for text in ("eyJ", "eyJ.", "eyJ.x", "a.b.c", token(project) + ".x", "." + token(project)):
        answer = post(service, text)
        assert (answer.status, answer.json["code"]) == (401, "invalid_key")


def test_why_a_token_is_refused_is_said_as_far_as_its_sender_may_know(
    service: Service, project: Project
) -> None:
    """Who can't sign learns neither which projects there are nor whether they have it right."""
    words = {
        "is signed with another secret": "isn't valid",
        "is for no project of ours": "isn't valid",
        "expired a minute ago": "expired",
        "has no scope": "scope must be ingest",
        "is too long": "too long",
    }
    for which, word in words.items():
        assert word in post(service, BAD[which](project)).json["details"]
    expired = token(project, secret=SOMEBODYS_SECRET, exp=ago(MINUTE))
    unknown = token(project, secret=SOMEBODYS_SECRET, aud="nowhere")
    scopeless = token(project, secret=SOMEBODYS_SECRET, scope="privacy")
    told = {post(service, text).json["details"] for text in (expired, unknown, scopeless)}
    assert len(told) == 1


def test_raised_signing_version_ends_all_tokens(service: Service, project: Project) -> None:
    old = token(project)
    accepted(post(service, old))
    row = Row.objects.get(slug=project.project)
    row.signing_version += 1
    row.save(update_fields=["signing_version"])
    # The first request may be the one that hears of it.
    post(service, old)
    assert post(service, old).json["code"] == "invalid_token"
    accepted(post(service, token(project, secret=row.signing_secret)))


def test_tokens_stay_out_of_the_log(service: Service, project: Project) -> None:
    texts = [token(project, jti=uuid4().hex), token(project, secret=SOMEBODYS_SECRET, jti="1")]
    for text in texts:
        post(service, text)
    post(service, token(project, exp=ago(MINUTE)))
    for text in texts:
        assert text not in service.output
        assert text.rsplit(".", 1)[1] not in service.output
