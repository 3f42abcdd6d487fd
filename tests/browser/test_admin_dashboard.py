"""The dashboard in Chromium: drawn, asked something else, narrow, dark, and without a script."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.harness import Project, Service

Open = Callable[[str], Page]

PAGE = "/admin/aggregation/counting/dashboard/"
SERIES = "name => Chart.getChart(document.querySelector(`#${name} canvas`)).data.datasets"
LABELS = f"name => ({SERIES})(name).map(one => one.label)"


def number(project: Project) -> int:
    from tests.ingest.traces import project_id

    return project_id(project)


@pytest.fixture
def counted(project: Project) -> Project:
    """Nine days of events of two names and versions, and a day of measurements of two nodes."""
    from aggregation.models import Dimension
    from tests.aggregation.planting import Happened, Measured, plant, plant_points, today

    Dimension.objects.create(project_id=number(project), name="version", path="client_version")
    plant(
        project,
        *(
            Happened(today(days, hour), range(40 - days), name, {"version": version})
            for days in range(9)
            for hour, name, version in ((0, "loaded", "2.0"), (1, "saved", "2.1"))
        ),
    )
    plant_points(
        project,
        *(
            Measured(today(1, hour), [1, 2, 3], node, kind="histogram", name="latency")
            for hour in range(3)
            for node in ("n1", "n2")
        ),
        Measured(today(1), [45.2], "n1", name="node.cpu_percent"),
    )
    return project


def opened(page: Page, project: Project, **asked: str) -> Page:
    more = "".join(f"&{name}={value}" for name, value in asked.items())
    page.goto(f"{PAGE}?project={number(project)}{more}")
    return page


def test_every_chart_is_drawn(counted: Project, open_admin: Open) -> None:
    page = opened(open_admin("viewer"), counted, range="7d")
    expect(page.locator("canvas")).to_have_count(4)
    assert page.evaluate(LABELS, "time") == ["Events", "People", "Events before", "People before"]
    assert page.evaluate(LABELS, "by-event") == ["loaded", "saved"]
    assert page.evaluate(LABELS, "by-version") == ["2.0", "2.1"]
    dashes = page.evaluate(f"name => ({SERIES})(name).map(one => one.borderDash.length)", "time")
    assert dashes == [0, 0, 2, 2]
    expect(page.locator("#tile-count")).to_contain_text("against before")
    expect(page.locator("#nodes tbody tr")).to_have_count(1)


def test_it_is_asked_something_else_and_keeps_what_was_asked_before(
    counted: Project, open_admin: Open
) -> None:
    page = opened(open_admin("viewer"), counted)
    page.get_by_label("Groups by").select_option("people")
    page.get_by_label("Time zone").fill("Etc/GMT-2")
    page.locator("#asked").get_by_role("button", name="Show").click()
    expect(page.locator(".preface")).to_contain_text("(Etc/GMT-2)")
    page.get_by_role("link", name="7 days").click()
    expect(page.locator(".choices .chosen")).to_have_text("7 days")
    expect(page.get_by_label("Groups by")).to_have_value("people")
    page.locator("#by-event").get_by_role("link", name="saved").click()
    expect(page.get_by_role("heading", name="Events and people: saved")).to_be_visible()
    page.locator(".narrowed a").click()
    expect(page.get_by_role("heading", name="Events and people", exact=True)).to_be_visible()
    expect(page.locator(".preface")).to_contain_text("(Etc/GMT-2)")


def test_any_days_are_shown_and_what_is_wrong_is_said(counted: Project, open_admin: Open) -> None:
    from tests.aggregation.planting import today

    page = opened(open_admin("viewer"), counted)
    page.get_by_label("From").fill(str(today(5).date()))
    page.get_by_label("To (inclusive)").fill(str(today(4).date()))
    page.locator("#asked").get_by_role("button", name="Show").click()
    expect(page.locator(".preface")).to_contain_text(f"{today(5).date()} 00:00")
    expect(page.locator("#tile-count")).to_contain_text("142")
    page.get_by_label("To (inclusive)").fill(str(today(8).date()))
    page.locator("#asked").get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert")).to_contain_text("must lie before to")
    expect(page.get_by_label("From")).to_have_value(str(today(5).date()))


def test_a_metric_is_chosen_and_grouped_where_it_is_shown(
    counted: Project, open_admin: Open
) -> None:
    page = opened(open_admin("viewer"), counted, range="7d")
    metric = page.locator("#metric")
    assert page.evaluate(LABELS, "metric")[:2] == ["p95", "p50"]
    metric.get_by_label("Grouped by").select_option("node")
    metric.get_by_role("button", name="Show").click()
    expect(metric.get_by_role("combobox", name="Number")).to_have_value("p95")
    assert page.evaluate(LABELS, "metric") == ["n1", "n2"]
    assert page.url.endswith("#metric")
    expect(metric.locator("tbody tr")).to_have_count(2)


def test_a_panel_is_saved_as_csv(counted: Project, open_admin: Open) -> None:
    page = opened(open_admin("viewer"), counted, range="7d")
    with page.expect_download() as saving:
        page.get_by_role("link", name="By version as CSV").click()
    assert saving.value.suggested_filename == f"{counted.project}-events.csv"
    text = Path(saving.value.path()).read_text()
    assert text.startswith("time,version,count,people,sessions,bytes,withheld")


def test_the_projects_page_leads_to_it(counted: Project, open_admin: Open) -> None:
    page = open_admin("viewer")
    page.goto(f"/admin/ingest/project/{number(counted)}/change/")
    page.locator(".shortcuts").get_by_role("link", name="Dashboard").click()
    expect(page.locator(".preface")).to_contain_text(counted.project)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (768, "light"), (1400, "dark")])
def test_nothing_is_wider_than_the_window(
    counted: Project, open_admin: Open, width: int, scheme: Literal["dark", "light"]
) -> None:
    page = open_admin("viewer")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    opened(page, counted, range="7d", number="people")
    page.locator("#time summary").click()
    expect(page.locator("#time tbody tr")).to_have_count(7)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_a_script_it_is_all_in_tables(
    browser: Browser, service: Service, counted: Project
) -> None:
    from tests.people import logged_in

    cookie = logged_in("viewer").cookies["sessionid"].value
    with browser.new_context(base_url=service.url, java_script_enabled=False) as context:
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": service.url}])
        page = opened(context.new_page(), counted, range="7d")
        expect(page.locator(".chart-box").first).to_be_hidden()
        page.locator("#time summary").click()
        expect(page.locator("#time tbody tr").first).to_be_visible()
        expect(page.locator("#by-version tbody tr")).to_have_count(2)
        page.get_by_label("Groups by").select_option("people")
        page.locator("#asked").get_by_role("button", name="Show").click()
        expect(page.get_by_label("Groups by")).to_have_value("people")
