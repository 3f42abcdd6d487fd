"""The ledger and the rejected events in Chromium."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, send, settled

LEDGER = "/admin/ingest/batch/"
REJECTED = "/admin/ingest/rejectedevent/"
Open = Callable[[str], Page]


def number(project: Project) -> int:
    from tests.ingest.traces import project_id

    return project_id(project)


def test_batch_is_found_by_its_id_and_opened(
    service: Service, project: Project, open_admin: Open
) -> None:
    sent = batch(event(), 7)
    settled(service, project, accepted(send(service, project, sent)))
    page = open_admin("viewer")
    page.goto(LEDGER)
    page.get_by_placeholder("Batch id, ledger id or request id").fill(sent["batch_id"])
    page.keyboard.press("Enter")
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").first.click()
    expect(page.locator(".facts")).to_contain_text(sent["batch_id"])
    expect(page.locator(".facts")).to_contain_text("1 stored · 1 rejected")
    expect(page.get_by_role("heading", name="Rejected events")).to_be_visible()


def test_filters_are_chosen_and_hold(service: Service, project: Project, open_admin: Open) -> None:
    settled(service, project, accepted(send(service, project, batch())))
    send(service, project, b"{")
    page = open_admin("viewer")
    page.goto(f"{LEDGER}?project={number(project)}")
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(2)
    page.locator("a", has_text="Filters").first.click()
    page.locator("select[name=state]").select_option("rejected", force=True)
    page.get_by_role("button", name="Apply Filters").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("rejected")
    assert f"project={number(project)}" in page.url


@pytest.mark.parametrize("address", [LEDGER, REJECTED])
def test_list_with_nothing_in_it_says_so(
    service: Service, project: Project, open_admin: Open, address: str
) -> None:
    page = open_admin("viewer")
    page.goto(f"{address}?project={number(project)}")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()


def test_malformed_batches_are_found_from_the_rejected_events(
    service: Service, project: Project, open_admin: Open
) -> None:
    for _ in range(2):
        send(service, project, b"{")
    send(service, project, [{"event": "no time", "user_id": "u"}])
    page = open_admin("viewer")
    page.goto(f"{REJECTED}?project={number(project)}")
    expect(page.locator("#result_list")).to_contain_text("Missing required field: timestamp")
    page.get_by_role("link", name="malformed_json").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def test_rejected_event_leads_to_its_batch(
    service: Service, project: Project, open_admin: Open
) -> None:
    send(service, project, [{"event": "no time", "user_id": "u"}])
    page = open_admin("viewer")
    page.goto(f"{REJECTED}?project={number(project)}&code=missing_field")
    page.locator("#result_list tbody tr").get_by_role("link").first.click()
    expect(page.locator("table.plain")).to_contain_text("user_id: string")
