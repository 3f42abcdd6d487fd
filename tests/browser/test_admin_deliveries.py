"""Deliveries and destinations in Chromium: seen, replayed, tried before their time."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.harness import Project, Service

DELIVERIES = "/admin/ingest/delivery/"
Open = Callable[[str], Page]


def test_dead_deliveries_are_found_looked_at_and_replayed(
    service: Service, project: Project, open_admin: Open
) -> None:
    from tests.ingest.outbox import backing_off, deliver

    destination = backing_off(project)
    rows = [deliver(destination, status=401, error="who are you?") for _ in range(4)]
    page = open_admin("operator")
    page.goto(f"{DELIVERIES}?project={destination.project_id}")
    listed = page.locator("#result_list tbody tr")
    expect(listed).to_have_count(4)
    expect(listed.first).to_contain_text("401 who are you?")
    page.get_by_placeholder("Batch id or ledger id").fill(str(rows[0].batch_id))
    page.keyboard.press("Enter")
    expect(listed).to_have_count(1)
    listed.first.get_by_role("link").first.click()
    expect(page.locator(".facts")).to_contain_text(str(rows[0].batch_id))
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 wait to be sent once more")).to_be_visible()
    page.goto(f"{DELIVERIES}?project={destination.project_id}&state=dead")
    expect(listed).to_have_count(3)
    listed.locator("input.action-select").first.check()
    page.locator("select[name=action]").select_option(label="Replay the selected deliveries")
    page.get_by_role("button", name="Run").click()
    expect(listed).to_have_count(2)
    page.get_by_role("button", name="Replay all that match").click()
    expect(page.locator("#progress")).to_contain_text("Done: 2 of 2 replayed", timeout=30_000)
    page.get_by_role("link", name="Destinations").click()
    line = page.locator("section.destination", has_text=project.project)
    expect(line).to_contain_text("backs off")
    line.get_by_role("button", name="Try now").click()
    expect(page.get_by_text("It is tried now")).to_be_visible()


def test_a_collector_is_set_in_the_projects_form(
    service: Service, project: Project, open_admin: Open
) -> None:
    from tests.ingest.traces import project_id

    page = open_admin("admin")
    page.goto(f"/admin/ingest/project/{project_id(project)}/change/")
    page.get_by_label("OTLP endpoint").fill("http://127.0.0.1:4318")
    page.get_by_label("OTLP headers", exact=True).fill("Authorization: Bearer secret")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("an address that isn't public")).to_be_visible()
    expect(page.get_by_label("OTLP headers", exact=True)).to_have_value("")
    page.get_by_label("OTLP endpoint").fill("https://collector.example.com")
    page.get_by_label("OTLP headers", exact=True).fill("Authorization: Bearer secret")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("Kept now: Authorization.")).to_be_visible()
