"""Recent events in Chromium: did my event arrive?"""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.harness import Project, Service
from tests.ingest.sending import batch, event, send

RECENT = "/admin/ingest/event/"
Open = Callable[[str], Page]


def test_event_shows_up_on_an_open_page(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_admin("operator")
    page.goto(RECENT)
    expect(page.get_by_text("Choose a project to see what arrives")).to_be_visible()
    page.get_by_label("Project").select_option(project.project)
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("Nothing of this has arrived.")).to_be_visible()
    send(service, project, batch(event("preset_saved")))
    expect(page.locator(".arrival")).to_contain_text("preset_saved", timeout=15_000)
    expect(page.locator(".arrival")).to_contain_text("1 stored")


def test_page_is_narrowed_to_one_batch(
    service: Service, project: Project, open_admin: Open
) -> None:
    from tests.ingest.traces import project_id

    wanted = batch(event("wanted"))
    for content in (batch(event("other")), wanted):
        send(service, project, content)
    page = open_admin("privacy officer")
    page.goto(f"{RECENT}?project={project_id(project)}")
    expect(page.locator(".arrival")).to_have_count(2)
    page.get_by_label("Batch id").fill(wanted["batch_id"])
    page.get_by_role("button", name="Look").click()
    expect(page.locator(".arrival")).to_have_count(1)
    expect(page.locator(".arrival")).to_contain_text("wanted", timeout=15_000)


def test_viewer_has_no_way_there(service: Service, project: Project, open_admin: Open) -> None:
    page = open_admin("viewer")
    page.goto("/admin/")
    expect(page.get_by_role("link", name="Ledger")).to_be_visible()
    expect(page.get_by_role("link", name="Recent events")).to_have_count(0)
