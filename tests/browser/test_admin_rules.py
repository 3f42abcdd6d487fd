"""A project's privacy rules in Chromium: tried on a sample, corrected, saved."""

import json
import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, moment, send, settled

Open = Callable[[str], Page]
RULES = """[
  {"property": "serial", "do": "drop"},
  {"property": "duration_ms", "do": "bucketise", "edges": [0, 100, 1000]},
  {"property": "os.version", "do": "generalise", "segments": 1}
]"""


def sample() -> str:
    properties = {"serial": "SN-1", "duration_ms": 420, "os": {"name": "macOS", "version": "14.5"}}
    return json.dumps({"event": "opened", "timestamp": moment(), "user_id": "u-1",
                       "message": "mail of alice@example.com",
                       "properties": properties})  # fmt: skip


def test_officer_tries_rules_on_a_sample_and_saves_them(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_admin("privacy officer")
    page.goto("/admin/")
    page.get_by_role("link", name="Rules").click()
    page.locator("#searchbar").fill(project.project)
    page.locator("#searchbar").press("Enter")
    page.get_by_role("link", name=project.project).click()
    expect(page.get_by_label("Rules")).to_have_value("[]")
    expect(page.get_by_text("How rules are written")).to_be_visible()

    page.get_by_label("Rules").fill(RULES.replace("[0, 100, 1000]", "[100, 0]"))
    page.get_by_label("Sample").fill(sample())
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Rule 2, edges: must ascend: each number above the one before."
    )
    expect(page.get_by_label("Rules")).to_have_attribute("aria-invalid", "true")

    page.get_by_label("Rules").fill(RULES)
    page.get_by_role("button", name="Preview").click()
    stored = page.locator(".preview td:last-child")
    expect(stored.filter(has_text="duration_ms")).to_have_text('    "duration_ms": "100-1000",')
    expect(stored.filter(has_text="SN-1")).to_have_count(0)
    expect(stored.filter(has_text="mail of [email]")).to_have_count(1)
    expect(page.get_by_text("changed by scrubbing and the rules")).to_be_visible()
    assert "SN-1" not in page.url

    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("there are 3, there were 0")).to_be_visible()
    expect(page.get_by_label("Rules")).to_have_value(RULES)
    expect(page.get_by_label("Sample")).to_have_value("")
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("#result_list tbody tr").first).to_contain_text("privacy rules changed")
    assert service.request("POST", "/v1/events", b"").status == 401  # hears of it
    answer = send(service, project, batch(event(properties={"serial": "SN-1"})))
    assert settled(service, project, accepted(answer))["state"] == "stored"


def test_a_sample_of_another_format_is_explained(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_admin("admin")
    page.goto(f"/admin/privacy/privacyrules/?q={project.project}")
    page.get_by_role("link", name=project.project).click()
    page.get_by_label("Sample").fill(sample())
    page.get_by_label("in format").select_option("snapshot")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_have_text(
        re.compile("A client would get this back: .*node_id")
    )
    expect(page.get_by_label("in format")).to_have_value("snapshot")
    page.get_by_label("in format").select_option("client_telemetry")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Refused: item[0]")).to_be_visible()


def test_viewer_reads_the_rules(service: Service, project: Project, open_admin: Open) -> None:
    page = open_admin("viewer")
    page.goto(f"/admin/ingest/project/?q={project.project}")
    page.get_by_role("link", name=project.project).first.click()
    page.get_by_role("link", name="Privacy rules").click()
    expect(page.get_by_label("Rules")).to_have_attribute("readonly", "")
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_label("Sample")).to_have_count(0)
