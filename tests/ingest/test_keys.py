"""Keys: what each may do, and from when until when."""

import io
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest.authentication import check_key
from ingest.memory import Memory
from ingest.models import ApiKey
from ingest.models import Project as Row
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import UNKNOWN, batch, event, send

HOUR = timedelta(hours=1)
CACHE_SECONDS = 5


def row_of(project: Project) -> Row:
    return Row.objects.get(slug=project.project)


def prefix_of(key: str) -> str:
    return key.split("_")[1]


def issue(project: Project, scope: str = "ingest", **fields: Any) -> tuple[ApiKey, str]:
    return ApiKey.objects.issue(row_of(project), scope, **fields)


def keys(*words: str) -> str:
    """What `manage.py keys …` prints."""
    printed = io.StringIO()
    call_command("keys", *words, stdout=printed, stderr=io.StringIO())
    return printed.getvalue().strip()


def works(service: Service, project: Project, key: str) -> bool:
    answer = send(service, project, batch(), {"X-API-Key": key})
    assert answer.status in {200, 401}, answer
    return answer.status == 200


# --- who may do what ---

SCOPES = [
    ("POST", "/v1/events", "ingest_key", 200),
    ("POST", "/v1/events", "secret_key", 200),
    ("GET", f"/v1/batches/{UNKNOWN}", "ingest_key", 404),
    ("GET", f"/v1/batches/{UNKNOWN}", "secret_key", 404),
    ("GET", "/v1/query/accounting", "ingest_key", 403),
    ("GET", "/v1/query/accounting", "secret_key", 200),
]


@pytest.mark.parametrize(("method", "path", "key", "status"), SCOPES)
@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_key_may_do_what_its_scope_says(
    service: Service, project: Project, method: str, path: str, key: str, status: int, header: str
) -> None:
    value = getattr(project, key)
    headers = {header: value if header == "X-API-Key" else f"Bearer {value}"}
    headers["Content-Type"] = "application/json"
    body = json.dumps(batch()).encode() if method == "POST" else None
    answer = service.request(method, path, body, headers)
    assert answer.status == status
    if status == 403:
        assert answer.json["code"] == "wrong_scope"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/events"), ("GET", f"/v1/batches/{UNKNOWN}"), ("GET", "/v1/query/accounting")],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "  "},
        {"Authorization": ""},
        {"Authorization": "Basic eA=="},
        {"Authorization": "Bearer "},
    ],
    ids=str,
)
def test_no_key_is_asked_for(
    service: Service, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = service.request(method, path, b"{}" if method == "POST" else None, headers)
    assert (answer.status, answer.json["code"]) == (401, "missing_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_secret_key_is_not_taken_from_the_address(service: Service, project: Project) -> None:
    answer = service.request("GET", f"/v1/query/accounting?key={project.secret_key}")
    assert answer.status == 401


def test_empty_key_header_leaves_the_word_to_the_other(service: Service, project: Project) -> None:
    headers = {"X-API-Key": "", "Authorization": f"bearer {project.ingest_key}"}
    assert send(service, project, batch(), headers).status == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: "hello",
        lambda key: key[:-1],
        lambda key: key + "x",
        lambda key: key.replace("ingest_", "secret_"),
        lambda key: key.replace("ingest_", ""),
        lambda key: key.replace("ingest_", "admin_"),
        lambda key: "_".join([key.split("_")[0], "0" * 12, *key.split("_")[2:]]),
        lambda key: "_".join(key.split("_")[:2]),
        lambda key: "_".join(key.split("_")[:2]) + "_",
        lambda key: "ingest_" + "é" * 12 + "_x",
        lambda key: "ingest_" + "%" * 12 + "_x",
        lambda key: "_" * 40,
        lambda key: "x" * 10_000,
        lambda key: key.upper(),
    ],
)
def test_key_that_is_none_of_ours_is_refused(
    service: Service, project: Project, spoil: Any
) -> None:
    answer = send(service, project, batch(), {"X-API-Key": spoil(project.ingest_key)})
    assert answer.status == 401
    assert answer.json["code"] in {"invalid_key", "missing_key"}
    assert check_key(spoil(project.ingest_key)) is None


def test_key_of_another_project_writes_to_that_project(service: Service, project: Project) -> None:
    row, texts = Row.objects.create_with_keys(f"other {uuid4().hex}")
    grant = check_key(texts["ingest"])
    assert grant is not None
    assert (grant.project_slug, grant.project_id) == (row.slug, row.pk)


def test_key_is_kept_as_a_hash(project: Project) -> None:
    for text in (project.ingest_key, project.secret_key):
        secret = text.split("_", 2)[2]
        row = ApiKey.objects.get(prefix=prefix_of(text))
        assert bytes(row.digest) != secret.encode()
        assert secret not in repr(ApiKey.objects.filter(pk=row.pk).values().get())
        assert secret not in str(row)


# --- until when ---


def test_key_ends_when_it_expires_even_where_it_is_remembered(
    service: Service, project: Project
) -> None:
    key, text = issue(project, expires_at=timezone.now() + timedelta(seconds=1.5))
    assert works(service, project, text)
    wait_for(lambda: not works(service, project, text), 4, "the key to expire")
    assert key.expires_at is not None
    assert timezone.now() < key.expires_at + timedelta(seconds=CACHE_SECONDS - 1)


def test_expired_key_is_refused(service: Service, project: Project) -> None:
    _, text = issue(project, expires_at=timezone.now() - timedelta(seconds=1))
    assert not works(service, project, text)


def test_revoked_and_rotated_keys_end_within_the_cache_time(
    service: Service, project: Project
) -> None:
    revoked, rotated, overlapping = (issue(project)[1] for _ in range(3))
    for text in (revoked, rotated, overlapping):
        assert works(service, project, text)
    keys("revoke", revoked)
    successors = [
        keys("rotate", rotated, "--overlap-hours", "0"),
        keys("rotate", prefix_of(overlapping)),
    ]
    for ended in (revoked, rotated):
        wait_for(
            lambda text=ended: not works(service, project, text),
            CACHE_SECONDS + 3,
            "the key to end",
        )
    assert works(service, project, overlapping), "both work for a while"
    assert all(works(service, project, text) for text in successors)


def test_rotation_never_lengthens_a_keys_life(project: Project) -> None:
    end = timezone.now() + HOUR
    key, _ = issue(project, scope="secret", label="server", expires_at=end)
    successor, text = key.rotate(timedelta(days=1))
    assert ApiKey.objects.get(pk=key.pk).expires_at == end
    assert (successor.scope, successor.label, successor.expires_at) == ("secret", "server", None)
    assert check_key(text) is not None


def test_revoking_again_changes_nothing(project: Project) -> None:
    key, _ = issue(project)
    key.revoke()
    first = key.revoked_at
    key.revoke()
    assert ApiKey.objects.get(pk=key.pk).revoked_at == first


# --- what a key costs ---


def test_key_in_use_costs_no_query(project: Project) -> None:
    client = Client(SERVER_NAME="localhost", headers={"X-API-Key": project.ingest_key})

    def post() -> int:
        with CaptureQueriesContext(connection) as queries:
            answer = client.post("/v1/events", [event()], content_type="application/json")
        assert answer.status_code == 200, answer.content
        # Every process looks at the blocks every five seconds, whoever asks.
        return sum("ingest_block" not in query["sql"] for query in queries)

    assert post() == 2, "the key with its project, and the note of its use"
    post()  # the first request heard that projects changed: this one looks again
    assert [post() for _ in range(3)] == [0, 0, 0]


def test_unknown_key_is_looked_up_once(project: Project) -> None:
    unknown = f"ingest_{uuid4().hex[:12]}_x"
    with CaptureQueriesContext(connection) as queries:
        for _ in range(5):
            assert check_key(unknown) is None
    assert len(queries) == 1


@pytest.mark.parametrize("text", ["", "x", "ingest_short_x", "ingest_" + "é" * 12 + "_x"])
def test_what_cannot_be_a_key_is_not_looked_up(text: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert check_key(text) is None
    assert len(queries) == 0


@override_settings(KEY_CACHE_SECONDS=0.05)
def test_key_is_looked_up_again_after_the_cache_time(project: Project) -> None:
    memory, prefix = Memory(), prefix_of(project.ingest_key)

    def look() -> ApiKey | None:
        return memory.get("key", prefix, ApiKey.objects.usable)

    assert look() is not None
    # Unannounced, as when Redis is away.
    ApiKey.objects.filter(prefix=prefix).update(revoked_at=timezone.now())
    wait_for(lambda: look() is None, 2, "the key to be looked up again")


def test_use_is_noted_once_an_hour(project: Project) -> None:
    key = ApiKey.objects.get(prefix=prefix_of(project.ingest_key))
    for ago, written in ((None, True), (HOUR / 2, False), (2 * HOUR, True)):
        before = timezone.now() - ago if ago else None
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=before)
        key.refresh_from_db()
        key.note_use()
        key.refresh_from_db()
        assert (key.last_used_at != before) == written


# --- manage.py keys ---


def test_created_key_works_and_is_listed(project: Project) -> None:
    text = keys("create", project.project, "--label", "beta builds", "--expires-in-days", "90")
    grant = check_key(text)
    assert grant is not None
    assert (grant.scope, grant.project_slug) == ("ingest", project.project)
    listed = keys("list", project.project)
    (line,) = [line for line in listed.splitlines() if prefix_of(text) in line]
    assert "usable until" in line
    assert "beta builds" in line
    assert text.split("_", 2)[2] not in listed
    assert len(listed.splitlines()) == 4, "a heading and three keys"


def test_list_says_what_has_ended(project: Project) -> None:
    gone = keys("create", project.project, "--scope", "secret")
    assert "revoked" in keys("revoke", gone)
    issue(project, expires_at=timezone.now() - HOUR)
    states = keys("list", project.project)
    for word in ("revoked", "expired", "usable", "secret", "never"):
        assert word in states


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list", "nowhere"], "There is no project 'nowhere'"),
        (["create", "nowhere"], "There is no project 'nowhere'"),
        (["revoke", "ingest_000000000000_x"], "no key with this prefix"),
        (["rotate", "000000000000"], "no key with this prefix"),
        (["create", "PROJECT", "--expires-in-days", "0"], "--expires-in-days must be"),
        (["create", "PROJECT", "--expires-in-days", "99999999"], "--expires-in-days must be"),
        (["rotate", "KEY", "--overlap-hours", "-1"], "--overlap-hours must be"),
        (["rotate", "KEY", "--overlap-hours", "1e9"], "--overlap-hours must be"),
        (["rotate", "KEY", "--overlap-hours", "nan"], "--overlap-hours must be"),
    ],
    ids=str,
)
def test_mistaken_command_is_answered_with_a_sentence(
    project: Project, words: list[str], complaint: str
) -> None:
    names = {"PROJECT": project.project, "KEY": project.ingest_key}
    with pytest.raises(CommandError, match=complaint):
        keys(*(names.get(word, word) for word in words))


def test_ended_key_is_not_rotated(project: Project) -> None:
    key, text = issue(project)
    key.revoke()
    with pytest.raises(CommandError, match="create a new key instead"):
        keys("rotate", text)


def test_project_is_created_once(project: Project) -> None:
    with pytest.raises(CommandError, match="There is a project"):
        call_command("create_project", project.project, "--json", stdout=io.StringIO())
    for nameless in ("", "   ", "!!!", "x" * 101):
        with pytest.raises(CommandError, match="The name must have"):
            call_command("create_project", nameless, stdout=io.StringIO())


def test_created_project_is_told_in_words_too() -> None:
    printed = io.StringIO()
    call_command("create_project", f"Product {uuid4().hex}", stdout=printed)
    for word in ("ingest key", "secret key", "signing secret", "note them now"):
        assert word in printed.getvalue()


def test_signing_secret_is_a_projects_own_and_changes_with_its_version(project: Project) -> None:
    row, other = row_of(project), Row.objects.create_with_keys(f"other {uuid4().hex}")[0]
    before = row.signing_secret
    assert before == project.signing_secret != other.signing_secret
    row.signing_version += 1
    assert row.signing_secret != before
