"""A project's dimensions and policy in Chromium: added, refused, shown again."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Project, Service

Open = Callable[[str], Page]


@pytest.fixture
def address(project: Project) -> str:
    from tests.ingest.traces import project_id

    return f"/admin/aggregation/counting/{project_id(project)}/change/"


def test_a_dimension_is_added_and_one_that_tells_persons_apart_refused(
    service: Service, address: str, open_admin: Open
) -> None:
    page = open_admin("admin")
    page.goto(address)
    page.get_by_text("Add another Dimension").click()
    page.locator("#id_dimensions-0-name").fill("plugin")
    page.locator("#id_dimensions-0-path").fill("properties.user_id")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("“user_id” can't be counted by")).to_be_visible()
    page.locator("#id_dimensions-0-path").fill("properties.plugin")
    page.locator("#id_policy-0-threshold").fill("10")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    expect(page.locator("#id_dimensions-0-path")).to_have_value("properties.plugin")


def test_a_viewer_reads_them(service: Service, address: str, open_admin: Open) -> None:
    page = open_admin("viewer")
    page.goto(address)
    expect(page.get_by_text("Groups of fewer people are withheld").first).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)


def test_a_dimension_is_taken_away(
    service: Service, project: Project, address: str, open_admin: Open
) -> None:
    from aggregation.models import Dimension
    from tests.ingest.traces import project_id

    Dimension.objects.create(project_id=project_id(project), name="version", path="client_version")
    page = open_admin("operator")
    page.goto(address)
    page.locator("td.delete label").click()
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    expect(page.locator("#id_dimensions-0-path")).to_have_count(0)


def test_a_policy_out_of_bounds_is_refused_beside_its_field(
    service: Service, address: str, open_admin: Open
) -> None:
    page = open_admin("privacy officer")
    page.goto(address)
    page.locator("#id_policy-0-threshold").fill("1001")
    # What the browser would have said itself is for the server to say.
    page.locator("form").evaluate_all("forms => forms.forEach(form => form.noValidate = true)")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("less than or equal to 1000")).to_be_visible()
    expect(page.locator("#id_policy-0-threshold")).to_have_value("1001")


def test_the_list_and_the_projects_page_lead_to_it(
    service: Service, project: Project, address: str, open_admin: Open
) -> None:
    page = open_admin("operator")
    page.goto(f"/admin/aggregation/counting/?q={project.project}")
    page.get_by_role("link", name=project.project).click()
    page.wait_for_url(f"**{address}*")
    page.goto(address.replace("aggregation/counting", "ingest/project"))
    page.locator(".shortcuts").get_by_role("link", name="Counting").click()
    page.wait_for_url(f"**{address}")
