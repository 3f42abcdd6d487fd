"""The dead set in Chromium: seen, replayed, discarded; one, a selection, and all that match."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Project, Service, wait_for

DEAD = "/admin/ingest/deadbatch/"
STORING_SECONDS = 30
Open = Callable[[str], Page]


def plant_dead(project: Project, count: int, error: str = "22P02: planted") -> list[Any]:
    from tests.ingest.waiting import plant, record

    return [
        plant(project, [record(message="said")], state="dead", error=error, dead=1)
        for _ in range(count)
    ]


def number(project: Project) -> int:
    from tests.ingest.traces import project_id

    return project_id(project)


def become(rows: list[Any], state: str) -> None:
    from tests.ingest.waiting import reread

    def look() -> bool:
        reread(*rows)
        return all(row.state == state for row in rows)

    wait_for(look, STORING_SECONDS, f"the batches to become {state}")


def open_list(open_admin: Open, project: Project, role: str = "operator") -> Page:
    page = open_admin(role)
    page.goto(f"{DEAD}?project={number(project)}")
    return page


def test_empty_dead_set_says_so(service: Service, project: Project, open_admin: Open) -> None:
    page = open_list(open_admin, project)
    expect(page.get_by_text("Nothing matches.")).to_be_visible()


def test_one_batch_is_looked_at_and_replayed(
    service: Service, project: Project, open_admin: Open
) -> None:
    rows = plant_dead(project, 1)
    page = open_list(open_admin, project)
    page.locator("#result_list tbody tr").get_by_role("link").first.click()
    expect(page.locator("td.content")).to_contain_text("said")
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 wait to be stored once more")).to_be_visible()
    become(rows, "stored")


def test_one_batch_is_discarded_once_confirmed(
    service: Service, project: Project, open_admin: Open
) -> None:
    rows = plant_dead(project, 1)
    page = open_admin("operator")
    page.goto(f"{DEAD}{rows[0].key}/change/")
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("can't be undone")).to_be_visible()
    page.get_by_role("link", name="Keep").click()
    become(rows, "dead")
    page.goto(f"{DEAD}{rows[0].key}/change/")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("1 discarded")).to_be_visible()
    become(rows, "discarded")


@pytest.mark.parametrize(("action", "state"), [("Replay", "stored"), ("Discard", "discarded")])
def test_selection_is_settled(
    service: Service, project: Project, open_admin: Open, action: str, state: str
) -> None:
    rows = plant_dead(project, 3)
    page = open_list(open_admin, project)
    boxes = page.locator("#result_list tbody input.action-select")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.locator("select[name=action]").select_option(label=f"{action} the selected batches")
    page.get_by_role("button", name="Run").click()
    if action == "Discard":
        page.get_by_role("button", name="Discard").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    become(rows[1:], state)
    become(rows[:1], "dead")


def test_all_of_an_error_are_replayed_with_progress_shown(
    service: Service, project: Project, open_admin: Open
) -> None:
    rows, others = plant_dead(project, 5), plant_dead(project, 1, "other: reason")
    page = open_list(open_admin, project)
    group = page.locator("table.plain tr", has_text="22P02: planted")
    expect(group).to_contain_text("5")
    group.get_by_role("button", name="Replay all").click()
    expect(page.locator("#progress")).to_contain_text("Done: 5 of 5 replayed", timeout=30_000)
    become(rows, "stored")
    become(others, "dead")


def test_all_that_match_are_discarded_once_confirmed(
    service: Service, project: Project, open_admin: Open
) -> None:
    rows = plant_dead(project, 3)
    page = open_list(open_admin, project)
    page.get_by_role("button", name="Discard all that match").click()
    expect(page.get_by_text("can't be undone")).to_be_visible()
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("#progress")).to_contain_text("Done: 3 of 3 discarded", timeout=30_000)
    become(rows, "discarded")


def test_viewer_sees_why_and_no_buttons(
    service: Service, project: Project, open_admin: Open
) -> None:
    rows = plant_dead(project, 1)
    page = open_list(open_admin, project, "viewer")
    expect(page.locator("table.plain")).to_contain_text("22P02: planted")
    expect(page.locator("#content button:visible")).to_have_count(0)
    page.goto(f"{DEAD}{rows[0].key}/change/")
    expect(page.get_by_text("Your role may not look at them.")).to_be_visible()
    expect(page.locator("#content button:visible")).to_have_count(0)
