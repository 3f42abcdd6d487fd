"""The admin as a whole: who sees which page, and that nothing comes from elsewhere."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.admin import site
from django.contrib.auth.models import Group, Permission, User
from django.db.models import BinaryField, Model
from django.test import Client, RequestFactory
from django.urls import reverse

from telemetry_site.navigation import SIDEBAR, sidebar
from tests.people import ROLES, logged_in, person

pytestmark = pytest.mark.usefixtures("service")

LISTS = sorted(f"{model._meta.app_label}_{model._meta.model_name}" for model in site._registry)


def test_the_first_page_names_every_check_and_how_it_is() -> None:
    page = logged_in("viewer").get("/admin/")
    assert page.status_code == 200
    for check in ("database", "disk", "broker", "worker", "beat", "backlog"):
        assert f"<h2>{check}</h2>" in page.text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", LISTS)
def test_a_role_sees_the_lists_it_has_the_permission_for(name: str, role: str) -> None:
    app, _, model = name.rpartition("_")
    allowed = (
        Group.objects.get(name=role)
        .permissions.filter(content_type__app_label=app, codename=f"view_{model}")
        .exists()
    )
    page = logged_in(role).get(reverse(f"admin:{name}_changelist"))
    assert page.status_code == (200 if allowed else 403)


def test_somebody_without_a_role_sees_health_alone() -> None:
    client = logged_in()
    assert client.get("/admin/").status_code == 200
    for name in LISTS:
        assert client.get(reverse(f"admin:{name}_changelist")).status_code == 403


def test_nobody_sees_a_page_without_logging_in() -> None:
    for name in LISTS:
        answer = Client().get(reverse(f"admin:{name}_changelist"))
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")


def test_who_guesses_passwords_is_stopped_even_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(settings.RATE_LIMITS, "login.ip", "2/d")
    user, right = person(), uuid4().hex
    user.set_password(right)
    user.save()
    guessing, another = (f"2001:db8:{uuid4().hex[:4]}:{n}::1" for n in range(2))

    def log_in(password: str, address: str) -> Any:
        form = {"username": user.username, "password": password, "next": "/admin/"}
        return Client().post("/admin/login/", form, REMOTE_ADDR=address)

    for guess in ("one", "two"):
        assert "Please enter the correct username" in log_in(guess, guessing).text
    answer = log_in(right, guessing)
    assert answer.status_code == 200
    assert "too many attempts" in answer.text
    assert log_in(right, another).status_code == 302


def test_the_sidebar_shows_a_role_what_it_may_see() -> None:
    viewers = logged_in("viewer").get("/admin/").text
    admins = logged_in("admin").get("/admin/").text
    users = reverse("admin:auth_user_changelist")
    assert f'href="{users}"' in admins
    assert f'href="{users}"' not in viewers


def test_every_permission_the_sidebar_asks_for_is_one() -> None:
    for entries in SIDEBAR.values():
        for entry in filter(lambda entry: entry.permission, entries):
            app, _, codename = entry.permission.partition(".")
            assert Permission.objects.filter(content_type__app_label=app, codename=codename)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/admin/", "Health"),
        ("/admin/ingest/batch/", "Ledger"),
        ("/admin/aggregation/counting/", "Counting"),
        ("/admin/aggregation/counting/dashboard/", "Dashboard"),
        ("/admin/password_change/", None),
    ],
)
def test_the_sidebar_says_where_one_is(path: str, title: str | None) -> None:
    request = RequestFactory().get(path)
    request.user = User(is_superuser=True, is_active=True)
    items = [item for group in sidebar(request) for item in group["items"]]
    assert [item["title"] for item in items if item["active"]] == ([title] if title else [])


def test_pages_let_the_browser_load_nothing_from_elsewhere() -> None:
    page = logged_in("admin").get("/admin/")
    assert "default-src 'self'" in page["Content-Security-Policy"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)


def test_somebody_who_is_made_with_a_role_may_log_in_and_has_it() -> None:
    name, password = f"made-{uuid4().hex}", uuid4().hex
    viewer = Group.objects.get(name="viewer")
    answer = logged_in("admin").post(
        reverse("admin:auth_user_add"),
        {"username": name, "password1": password, "password2": password, "groups": [viewer.pk],
         "usable_password": "true"},
    )  # fmt: skip
    assert answer.status_code == 302, answer.text
    client = Client()
    assert client.login(username=name, password=password)
    assert client.get(reverse("admin:ingest_batch_changelist")).status_code == 200
    assert client.get(reverse("admin:auth_user_changelist")).status_code == 403


def test_nobody_makes_themselves_a_superuser() -> None:
    client = logged_in("admin")
    user = User.objects.get(pk=int(client.session["_auth_user_id"]))
    address = reverse("admin:auth_user_change", args=[user.pk])
    form = {"username": user.username, "is_active": "on", "is_superuser": "on",
            "groups": [Group.objects.get(name="admin").pk]}  # fmt: skip
    assert client.post(address, form).status_code == 302
    assert not User.objects.get(pk=user.pk).is_superuser


HASHES = [
    (model, field.name)
    for model in site._registry
    for field in model._meta.fields
    if isinstance(field, BinaryField)
]


@pytest.mark.parametrize(
    ("model", "field"), HASHES, ids=[f"{model.__name__}.{field}" for model, field in HASHES]
)
@pytest.mark.parametrize("asked", ["", "__isnull", "__contains"])
def test_no_list_breaks_when_it_is_asked_for_a_hash(
    model: type[Model], field: str, asked: str
) -> None:
    client = logged_in(superuser=True)
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    # A page in a list's place takes no filter, whatever it is called.
    takes_filters = client.get(page, {"nonsense": "1"}).status_code == 302
    answer = client.get(page, {f"{field}{asked}": "00ff"})
    assert answer.status_code == (400 if takes_filters else 200)
