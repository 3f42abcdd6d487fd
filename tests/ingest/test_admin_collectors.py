"""A project's own collector in its form: what it may be, and headers that nobody sees again."""

from typing import Any

import pytest
from django.test import Client, override_settings

from ingest.forwarding.sealing import seal, unseal
from ingest.models import Destination
from ingest.models import Project as Row
from privacy.models import AuditEntry
from tests.harness import Project, Service
from tests.ingest.outbox import NOWHERE, SOMEWHERE
from tests.ingest.traces import project_id, traces
from tests.people import logged_in

SECRET = "Bearer very-secret-indeed"
HEADERS = {"Authorization": SECRET, "X-Scope": "telemetry"}


def address_of(project: Project) -> str:
    return f"/admin/ingest/project/{project_id(project)}/change/"


def save(client: Client, project: Project, **fields: str) -> Any:
    """The answer to the project's form, filled in like this."""
    row = Row.objects.get(slug=project.project)
    form = {
        "name": row.name, "users_optional": "on", "scrubbing": row.scrubbing, "origins": "",
        "otlp_endpoint": row.otlp_endpoint, "otlp_encoding": row.otlp_encoding,
    }  # fmt: skip
    return client.post(address_of(project), {**form, **fields})


def kept(project: Project) -> tuple[str, dict[str, str]]:
    row = Row.objects.get(slug=project.project)
    return row.otlp_endpoint, unseal(row.otlp_headers)


def lines(headers: dict[str, str]) -> str:
    return "\r\n".join(f"{name}: {value}" for name, value in headers.items())


def test_endpoint_and_headers_are_kept_and_no_header_is_shown_again(
    service: Service, project: Project
) -> None:
    client = logged_in("admin")
    answer = save(
        client, project, otlp_endpoint=SOMEWHERE, otlp_encoding="json",
        collector_headers=lines(HEADERS),
    )  # fmt: skip
    assert answer.status_code == 302, answer.text
    assert kept(project) == (SOMEWHERE, HEADERS)
    assert Destination.objects.filter(project_id=project_id(project)).exists()
    page = client.get(address_of(project)).text
    assert "Kept now: Authorization, X-Scope." in page
    assert SECRET not in page
    assert not traces(service, SECRET)
    entry = AuditEntry.objects.latest("number")
    assert entry.details["collector"] == "collector.example.com"
    assert "collector_headers" in entry.details["fields"]


def test_headers_stay_until_they_are_replaced_or_forgotten(
    service: Service, project: Project
) -> None:
    client = logged_in("admin")
    Row.objects.filter(slug=project.project).update(
        otlp_endpoint=SOMEWHERE, otlp_headers=seal(HEADERS)
    )
    moved = f"{SOMEWHERE}/otlp"
    assert save(client, project, name="another", otlp_endpoint=moved).status_code == 302
    assert kept(project) == (moved, HEADERS)
    assert save(client, project, collector_headers="x-key: 2").status_code == 302
    assert kept(project)[1] == {"x-key": "2"}
    assert save(client, project, forget_headers="on").status_code == 302
    assert kept(project) == (moved, {})


def test_headers_go_with_the_endpoint(service: Service, project: Project) -> None:
    Row.objects.filter(slug=project.project).update(
        otlp_endpoint=SOMEWHERE, otlp_headers=seal(HEADERS)
    )
    assert save(logged_in("admin"), project, otlp_endpoint="").status_code == 302
    assert kept(project) == ("", {})


@pytest.mark.parametrize(
    "endpoint",
    ["https://elsewhere.example.com", "http://collector.example.com", f"{SOMEWHERE}:8443"],
)
def test_kept_headers_are_not_handed_to_another_server(
    service: Service, project: Project, endpoint: str
) -> None:
    """Whoever may change the endpoint, and doesn't know them, would learn them."""
    client = logged_in("admin")
    Row.objects.filter(slug=project.project).update(
        otlp_endpoint=SOMEWHERE, otlp_headers=seal(HEADERS)
    )
    answer = save(client, project, otlp_endpoint=endpoint)
    assert "give them again" in answer.text
    assert kept(project) == (SOMEWHERE, HEADERS)
    answer = save(client, project, otlp_endpoint=endpoint, collector_headers="x-key: 2")
    assert (answer.status_code, kept(project)) == (302, (endpoint, {"x-key": "2"}))


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("collector:4318", "The URL must be such as"),
        ("ftp://collector.example.com", "The URL must be such as"),
        ("javascript:alert(1)", "The URL must be such as"),
        ("https://user:pass@collector.example.com", "belong into a header"),
        ("https://collector.example.com:99999", "from 1 to 65535"),
        ("http://127.0.0.1:4318", "isn&#x27;t public"),
        ("http://0x7f.1/", "isn&#x27;t public"),
        ("http://localhost:4318", "isn&#x27;t public"),
        ("http://169.254.169.254/latest/meta-data", "isn&#x27;t public"),
        (NOWHERE, "isn&#x27;t public"),
        (f"https://{'a' * 600}.example.com", "at most 500 characters"),
    ],
)
def test_endpoint_that_cannot_be_is_refused_with_what_to_do(
    service: Service, project: Project, endpoint: str, told: str
) -> None:
    answer = save(logged_in("admin"), project, otlp_endpoint=endpoint)
    assert (answer.status_code, kept(project)[0]) == (200, "")
    assert told in answer.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (f"no colon {SECRET}", "a line of its own"),
        (f"na me: {SECRET}", "letters, digits and hyphens"),
        (f"Host: {SECRET}", "The header Host can&#x27;t be set"),
        (f"x-key: {SECRET}\N{SNOWMAN}", "The value of the header x-key"),
        ("\n".join(f"x-{n}: {SECRET}" for n in range(21)), "20 headers at most"),
    ],
)
def test_header_that_cannot_be_is_refused_and_not_repeated(
    service: Service, project: Project, given: str, told: str
) -> None:
    answer = save(logged_in("admin"), project, otlp_endpoint=SOMEWHERE, collector_headers=given)
    assert (answer.status_code, kept(project)) == (200, ("", {}))
    assert told in answer.text
    assert SECRET not in answer.text


def test_headers_without_an_endpoint_and_both_ways_at_once_are_refused(
    service: Service, project: Project
) -> None:
    client = logged_in("admin")
    alone = save(client, project, collector_headers="x-key: 2")
    assert "Say where the headers are to be sent" in alone.text
    both = save(
        client, project, otlp_endpoint=SOMEWHERE, collector_headers="x-key: 2", forget_headers="on"
    )
    assert "not both" in both.text
    assert kept(project) == ("", {})


def test_headers_of_another_pepper_are_said_to_be_unreadable(
    service: Service, project: Project
) -> None:
    with override_settings(PEPPER=b"another" * 8):
        sealed = seal(HEADERS)
    Row.objects.filter(slug=project.project).update(otlp_endpoint=SOMEWHERE, otlp_headers=sealed)
    page = logged_in("admin").get(address_of(project)).text
    assert "kept under another pepper: set them again" in page


@pytest.mark.parametrize("role", ["viewer", "privacy officer"])
def test_who_may_not_change_a_project_says_not_where_it_goes(
    service: Service, project: Project, role: str
) -> None:
    client = logged_in(role)
    page = client.get(address_of(project)).text
    for field in ("otlp_endpoint", "otlp_encoding", "collector_headers", "forget_headers"):
        assert f'name="{field}"' not in page
    save(client, project, otlp_endpoint=SOMEWHERE, collector_headers="x-key: 2")
    assert kept(project) == ("", {})
