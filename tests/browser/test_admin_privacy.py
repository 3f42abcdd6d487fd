"""The privacy desk in Chromium."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.privacy.asking import ask, somebody

Open = Callable[[str], Page]


def test_officer_finds_a_person_asks_for_erasure_and_cancels_it(
    service: Service, project: Project, open_admin: Open
) -> None:
    user = somebody()
    settled(service, project, accepted(send(service, project, batch(event(user_id=user)))))
    page = open_admin("privacy officer")
    page.goto("/admin/")
    page.get_by_role("link", name="Persons").click()
    page.get_by_label("Project").select_option(project.project)
    page.get_by_label("User id").fill(user)
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("Pseudonym")).to_be_visible()
    assert user not in page.url
    page.get_by_role("button", name="Ask for their erasure").click()
    expect(page.get_by_text("nothing, since erasure was asked for")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Erasure [0-9a-f]{8}-")).click()
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the erasure").click()
    expect(page.get_by_text("The erasure is cancelled.")).to_be_visible()
    expect(page.get_by_role("link", name="Erase now…")).to_have_count(0)


def test_operator_sees_requests_and_nobodys_data(
    service: Service, project: Project, open_admin: Open
) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    page = open_admin("operator")
    page.goto("/admin/")
    expect(page.get_by_role("link", name="Persons")).to_have_count(0)
    page.get_by_role("link", name="Erasures").click()
    page.locator("#result_list tbody tr").first.get_by_role("link").first.click()
    expect(page.get_by_text("It is written when the erasure is complete")).to_be_visible()
    expect(page.get_by_role("link", name="Erase now…")).to_have_count(0)


def test_audit_log_is_read_and_filtered(
    service: Service, project: Project, open_admin: Open
) -> None:
    ask(service, "delete", project.secret_key, {"user_id": somebody()})
    page = open_admin("privacy officer")
    page.goto("/admin/")
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("#result_list")).to_contain_text("erasure asked for")
    page.locator("a", has_text="Filters").first.click()
    page.locator("select[name=action]").select_option("deletion.asked", force=True)
    page.get_by_role("button", name="Apply Filters").click()
    expect(page.locator("#result_list tbody tr").first).to_contain_text("erasure asked for")
