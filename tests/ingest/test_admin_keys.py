"""Projects and keys in the admin: made, rotated, revoked; and a key is seen once."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from ingest.models import ApiKey
from ingest.models import Project as Row
from privacy.models import AuditEntry
from tests.harness import Project, Service
from tests.ingest.sending import batch, send
from tests.ingest.traces import project_id, traces
from tests.people import ROLES, logged_in

KEYS = "/admin/ingest/apikey/"
PROJECTS = "/admin/ingest/project/"
OF_PRIVACY = {"scrubbing", "users_optional"}
# What the project's form sends of itself.
FORM = {"scrubbing": "hash", "otlp_encoding": "protobuf"}
_KEY = re.compile(r"(?:ingest|secret)_[0-9a-f]{12}_[\w-]{43}")


def shown(answer: Any) -> list[str]:
    """The keys in an answer, which nobody may keep."""
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert "sessionid" not in answer.cookies
    return [html.unescape(text) for text in re.findall(r'class="secret">([^<]*)<', answer.text)]


def newest(client: Client, page: str) -> str:
    """What the form notes of the keys there were when it was opened."""
    found = re.search(r'name="newest" value="(\d+)"', client.get(page).text)
    assert found is not None
    return found[1]


def make(client: Client, project_: Project, **fields: Any) -> Any:
    fields = {"project": project_id(project_), "scope": "ingest", "label": "", **fields}
    return client.post(f"{KEYS}add/", {"newest": newest(client, f"{KEYS}add/"), **fields})


def key_of(project: Project, scope: str = "ingest") -> ApiKey:
    return ApiKey.objects.get(project__slug=project.project, scope=scope)


def rotate(client: Client, key: ApiKey, **fields: Any) -> Any:
    page = f"{KEYS}{key.pk}/rotate/"
    return client.post(page, {"newest": newest(client, page), "overlap_hours": "24", **fields})


def post(service: Service, project: Project, key: str) -> int:
    return send(service, Project(project.project, key, "", ""), batch()).status


def hear(service: Service) -> None:
    """Have the process ask the counters, which tell it that keys have changed."""
    assert service.request("POST", "/v1/events", b"").status == 401


def name() -> str:
    return f"made at {timezone.now().timestamp()}"


# --- making ---


def test_project_is_made_with_keys_that_work(service: Service) -> None:
    wanted = name()
    ingest, secret, signing = shown(logged_in("operator").post(f"{PROJECTS}add/", {"name": wanted}))
    row = Row.objects.get(name=wanted)
    project = Project(row.slug, ingest, secret, signing)
    assert send(service, project, batch()).status == 200
    headers = {"X-API-Key": secret}
    assert service.request("GET", "/v1/query/accounting", headers=headers).status == 200
    assert signing == row.signing_secret


def test_project_that_is_there_is_not_made_again(service: Service) -> None:
    client, wanted = logged_in("operator"), name()
    assert len(shown(client.post(f"{PROJECTS}add/", {"name": wanted}))) == 3
    page = client.post(f"{PROJECTS}add/", {"name": wanted})
    assert "There is a project" in page.text
    assert not _KEY.search(page.text)
    assert Row.objects.filter(name=wanted).count() == 1


@pytest.mark.parametrize("wanted", ["", "  ", "…", "x" * 101])
def test_name_that_makes_no_slug_is_refused(service: Service, wanted: str) -> None:
    before = Row.objects.count()
    page = logged_in("operator").post(f"{PROJECTS}add/", {"name": wanted})
    assert 'class="wrong"' in page.text
    assert Row.objects.count() == before


def test_key_is_made_and_works(service: Service, project: Project) -> None:
    (text,) = shown(make(logged_in("operator"), project, label="mobile", expires_in_days="7"))
    assert post(service, project, text) == 200
    key = ApiKey.objects.get(prefix=text.split("_")[1])
    assert key.label == "mobile"
    assert key.expires_at is not None
    assert timedelta(days=6.9) < key.expires_at - timezone.now() <= timedelta(days=7)


def test_key_is_nowhere_but_in_that_one_answer(service: Service, project: Project) -> None:
    client = logged_in("operator")
    (text,) = shown(make(client, project))
    assert post(service, project, text) == 200
    secret = text.split("_", 2)[2]
    assert traces(service, secret) == []
    assert not [one for one in Session.objects.all() if secret in repr(one.get_decoded())]
    for page in (KEYS, f"{KEYS}add/", "/admin/", f"{PROJECTS}{project_id(project)}/change/"):
        assert secret not in client.get(page, follow=True).text


def test_form_sent_twice_makes_one_key(service: Service, project: Project) -> None:
    client = logged_in("operator")
    fields = {
        "project": project_id(project), "scope": "ingest", "newest": newest(client, f"{KEYS}add/"),
    }  # fmt: skip
    assert len(shown(client.post(f"{KEYS}add/", fields))) == 1
    again = client.post(f"{KEYS}add/", fields)
    assert "was made since you opened this" in again.text
    assert not _KEY.search(again.text)
    assert Row.objects.get(slug=project.project).keys.count() == 3
    # Who wants another one goes on from there.
    found = re.search(r'name="newest" value="(\d+)"', again.text)
    assert found is not None
    assert len(shown(client.post(f"{KEYS}add/", fields | {"newest": found[1]}))) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"scope": "root"}, {"project": "0"}, {"expires_in_days": "0"}, {"expires_in_days": "40000"},
     {"label": "x" * 101}, {"newest": "-1"}, {"newest": "x"}],
)  # fmt: skip
def test_key_asked_for_in_nonsense_is_not_made(
    service: Service, project: Project, wrong: dict[str, str]
) -> None:
    answer = make(logged_in("operator"), project, **wrong)
    assert answer.status_code == 200
    assert not _KEY.search(answer.text)
    assert Row.objects.get(slug=project.project).keys.count() == 2


def test_making_is_on_record_without_the_key(service: Service, project: Project) -> None:
    (text,) = shown(make(logged_in("operator"), project))
    prefix, secret = text.rsplit("_", 1)[0][:19], text.split("_", 2)[2]
    entry = LogEntry.objects.get(object_id__startswith=prefix)
    assert secret not in f"{entry.object_id} {entry.object_repr} {entry.change_message}"


# --- rotating and revoking ---


def test_rotated_key_and_its_successor_both_work_for_a_while(
    service: Service, project: Project
) -> None:
    key = key_of(project)
    (text,) = shown(rotate(logged_in("operator"), key, overlap_hours="2"))
    for one in (project.ingest_key, text):
        assert post(service, project, one) == 200
    key.refresh_from_db()
    assert key.expires_at is not None
    assert timedelta(hours=1.9) < key.expires_at - timezone.now() <= timedelta(hours=2)


def test_rotated_without_overlap_ends_at_once(service: Service, project: Project) -> None:
    assert post(service, project, project.ingest_key) == 200
    (text,) = shown(rotate(logged_in("operator"), key_of(project), overlap_hours="0"))
    hear(service)
    assert post(service, project, text) == 200
    assert post(service, project, project.ingest_key) == 401


def test_rotating_sent_twice_makes_one_successor(service: Service, project: Project) -> None:
    client, key = logged_in("operator"), key_of(project)
    seen = newest(client, f"{KEYS}{key.pk}/rotate/")
    assert len(shown(rotate(client, key, newest=seen))) == 1
    again = rotate(client, key, newest=seen)
    assert "was made since you opened this" in again.text
    assert Row.objects.get(slug=project.project).keys.count() == 3


@pytest.mark.parametrize("hours", ["-1", "8761", "", "nan", "inf", "x"])
def test_overlap_in_nonsense_is_refused(service: Service, project: Project, hours: str) -> None:
    answer = rotate(logged_in("operator"), key_of(project), overlap_hours=hours)
    assert 'class="wrong"' in answer.text
    assert Row.objects.get(slug=project.project).keys.count() == 2


def test_key_that_has_ended_is_not_rotated(service: Service, project: Project) -> None:
    key = key_of(project)
    key.revoke()
    answer = logged_in("operator").get(f"{KEYS}{key.pk}/rotate/", follow=True)
    assert "make a new key instead" in answer.text


def test_revoking_is_asked_first_and_ends_the_key(service: Service, project: Project) -> None:
    client, key = logged_in("operator"), key_of(project)
    page = f"{KEYS}{key.pk}/revoke/"
    assert "can&#x27;t be undone" in client.get(page).text
    assert post(service, project, project.ingest_key) == 200
    assert "is revoked" in client.post(page, {}, follow=True).text
    hear(service)
    assert post(service, project, project.ingest_key) == 401
    assert "already" in client.post(page, {}, follow=True).text
    assert LogEntry.objects.filter(change_message__contains=f"{key} of").count() == 1


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_makes_rotates_and_revokes(
    service: Service, project: Project, role: str
) -> None:
    may = role in {"operator", "admin"}
    client, key = logged_in(role), key_of(project)
    page = client.get(f"{KEYS}{key.pk}/change/").text
    for button in ("Rotate…", "Revoke…", "Block for a while…"):
        assert (button in page) == may
    for path in (f"{KEYS}add/", f"{KEYS}{key.pk}/rotate/", f"{KEYS}{key.pk}/revoke/",
                 f"{PROJECTS}add/"):  # fmt: skip
        assert client.get(path).status_code == (200 if may else 403), path
        if not may:
            assert client.post(path, {"name": name()}).status_code == 403, path
    key.refresh_from_db()
    assert key.is_usable


def test_nothing_is_done_without_a_token(service: Service, project: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = logged_in("operator").cookies
    key = key_of(project)
    assert client.post(f"{KEYS}{key.pk}/revoke/", {}).status_code == 403
    key.refresh_from_db()
    assert key.is_usable


def test_keys_and_projects_are_not_deleted(service: Service, project: Project) -> None:
    client = logged_in("admin")
    key = key_of(project)
    for page in (f"{KEYS}{key.pk}/delete/", f"{PROJECTS}{project_id(project)}/delete/"):
        assert client.post(page, {"post": "yes"}).status_code == 403


def test_projects_rules_are_changed_and_its_limits_are_left_to_their_page(
    service: Service, project: Project
) -> None:
    client, page = logged_in("admin"), f"{PROJECTS}{project_id(project)}/change/"
    assert 'name="rate_limits"' not in client.get(page).text
    fields = {**FORM, "name": "other name", "origins": "https://a.example"}
    assert client.post(page, fields).status_code == 302
    row = Row.objects.get(slug=project.project)
    assert (row.name, row.scrubbing, row.origins) == ("other name", "hash", ["https://a.example"])


# Who changes what: the rest stays as it is, whatever is sent.
@pytest.mark.parametrize(
    ("role", "changed"),
    [
        ("operator", ["keyless_browsers", "name", "origins"]),
        ("privacy officer", ["scrubbing", "users_optional"]),
        ("admin", ["keyless_browsers", "name", "origins", "scrubbing", "users_optional"]),
    ],
)
def test_settings_of_privacy_are_changed_by_who_may_change_the_rules(
    service: Service, project: Project, role: str, changed: list[str]
) -> None:
    client, page = logged_in(role), f"{PROJECTS}{project_id(project)}/change/"
    shown_fields = set(re.findall(r'name="(\w+)"', client.get(page).text))
    new = {
        "keyless_browsers": True, "name": "other name", "origins": ["https://a.example"],
        "scrubbing": "drop", "users_optional": True,
    }  # fmt: skip
    assert sorted(shown_fields & new.keys()) == changed
    before = Row.objects.values(*new).get(slug=project.project)
    fields = {**FORM, **new, "keyless_browsers": "on", "origins": "https://a.example"}
    assert client.post(page, fields).status_code == 302
    after = Row.objects.values(*new).get(slug=project.project)
    assert after == before | {name: new[name] for name in changed}
    entry = AuditEntry.objects.get(action="project.changed", object=project.project)
    assert sorted(entry.details.pop("fields")) == changed
    assert entry.details == {name: new[name] for name in changed if name in OF_PRIVACY}


def test_a_viewer_changes_nothing_and_what_stays_is_not_on_record(
    service: Service, project: Project
) -> None:
    page = f"{PROJECTS}{project_id(project)}/change/"
    assert logged_in("viewer").post(page, {"name": "n", "scrubbing": "drop"}).status_code == 403
    row = Row.objects.get(slug=project.project)
    as_it_is = {**FORM, "name": row.name, "scrubbing": row.scrubbing}
    assert logged_in("admin").post(page, as_it_is).status_code == 302
    assert not AuditEntry.objects.filter(action="project.changed", object=row.slug).exists()


def test_officer_changes_no_limits(service: Service, project: Project) -> None:
    client, page = logged_in("privacy officer"), f"{PROJECTS}{project_id(project)}/limits/"
    assert client.post(page, {"rule": "events.user", "rate": "1/m"}).status_code == 403


# --- the signing secret ---


def sign_anew(client: Client, project: Project, **fields: str) -> Any:
    page = f"{PROJECTS}{project_id(project)}/signing/"
    found = re.search(r'name="version" value="(\d+)"', client.get(page).text)
    assert found is not None
    return client.post(page, {"version": found[1], "overlap_hours": "24", **fields})


def test_signing_secret_is_rotated_and_shown_once(service: Service, project: Project) -> None:
    (secret,) = shown(sign_anew(logged_in("admin"), project))
    row = Row.objects.get(slug=project.project)
    assert row.signing_secrets == [secret, project.signing_secret]
    assert traces(service, secret) == []


def test_signing_secret_ends_at_once_without_overlap(service: Service, project: Project) -> None:
    (secret,) = shown(sign_anew(logged_in("admin"), project, overlap_hours="0"))
    assert Row.objects.get(slug=project.project).signing_secrets == [secret]


def test_rotating_the_signing_secret_sent_twice_is_done_once(
    service: Service, project: Project
) -> None:
    client = logged_in("admin")
    assert len(shown(sign_anew(client, project, version="1"))) == 1
    again = sign_anew(client, project, version="1")
    assert "was rotated since you opened this" in again.text
    assert 'name="version" value="2"' in again.text
    assert Row.objects.get(slug=project.project).signing_version == 2


def test_overlap_of_signing_secrets_is_left_alone_by_the_projects_form(
    service: Service, project: Project
) -> None:
    client, page = logged_in("admin"), f"{PROJECTS}{project_id(project)}/change/"
    shown(sign_anew(client, project))
    fields = {**FORM, "name": "n", "signing_overlap_until_0": "2000-01-01"}
    assert client.post(page, fields).status_code == 302
    assert len(Row.objects.get(slug=project.project).signing_secrets) == 2


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_rotates_the_signing_secret(
    service: Service, project: Project, role: str
) -> None:
    client, number = logged_in(role), project_id(project)
    shown_button = "Rotate signing secret" in client.get(f"{PROJECTS}{number}/change/").text
    assert shown_button == (role == "admin")
    answer = client.post(f"{PROJECTS}{number}/signing/", {"version": "1", "overlap_hours": "1"})
    assert answer.status_code == {"admin": 200, "operator": 302}.get(role, 403)
    if role == "operator":
        assert "may act for any user of the project" in client.get(answer["Location"]).text
    row = Row.objects.get(slug=project.project)
    assert row.signing_version == (2 if role == "admin" else 1)
    assert (row.signing_secret in answer.text) == (role == "admin")


def test_rotating_the_signing_secret_is_audited(service: Service, project: Project) -> None:
    client = logged_in("admin")
    shown(sign_anew(client, project))
    entry = AuditEntry.objects.get(action="signing.rotated", object=project.project)
    assert entry.actor.startswith("operator #")
    assert "signing secret rotated" in client.get("/admin/privacy/auditentry/").text


def test_only_who_may_ask_about_persons_hands_out_secret_keys(project: Project) -> None:
    keys = ApiKey.objects.filter(project_id=project_id(project))
    before = keys.count()
    refused = make(logged_in("operator"), project, scope="secret")
    assert "your role may not hand one out" in refused.text
    assert keys.count() == before
    page = f"{KEYS}{key_of(project, 'secret').pk}/rotate/"
    answer = logged_in("operator").post(page, {"overlap_hours": "24"}, follow=True)
    assert "your role may not hand one out" in answer.text
    assert keys.count() == before
    make(logged_in("admin"), project, scope="secret")
    assert keys.count() == before + 1
