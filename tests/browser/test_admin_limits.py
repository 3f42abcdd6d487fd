"""Violations, limits, blocks, projects and keys in Chromium: seen, changed, made, ended."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Error, Locator, Page, expect

from tests.harness import Project, Service
from tests.ingest.sending import batch, send

VIOLATIONS = "/admin/ingest/ratelimitviolation/"
Open = Callable[[str], Page]


@pytest.fixture(autouse=True)
def _unblocked(service: Service) -> Iterator[None]:
    yield
    from ingest.counters import counters
    from ingest.models import Block

    Block.objects.all().delete()
    counters.announce_change()


def number(project: Project) -> int:
    from tests.ingest.traces import project_id

    return project_id(project)


def post(service: Service, project: Project, **headers: str) -> Any:
    return send(service, project, batch(), {"X-User-ID": "ada", **headers})


def limit(project: Project, rate: str) -> None:
    from ingest.models import Project as Row

    row = Row.objects.get(slug=project.project)
    row.rate_limits = {"events.user": rate}
    row.save(update_fields=["rate_limits"])


def be_refused(service: Service, project: Project, address: str = "198.18.99.7") -> None:
    """Send more than the limit, and have it written down."""
    from ingest import tasks

    limit(project, "1/d")
    statuses = [post(service, project, **{"X-Forwarded-For": address}).status for _ in range(8)]
    assert 429 in statuses
    tasks.flush_violations()


def open_violations(open_admin: Open, project: Project, role: str = "operator") -> Page:
    page = open_admin(role)
    page.goto(f"{VIOLATIONS}?project={number(project)}")
    return page


def lines(page: Page, panel: str) -> Locator:
    return page.locator(f"#{panel} tbody tr")


# --- violations ---


def test_without_violations_the_page_says_so(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_violations(open_admin, project)
    expect(page.get_by_text("Nobody was refused in the last hour")).to_be_visible()
    page.get_by_role("link", name="Last 7 days").click()
    expect(page.get_by_text("Nobody was refused in the last 7 days")).to_be_visible()


def test_chart_is_drawn_and_its_bar_leads_to_what_is_in_it(
    service: Service, project: Project, open_admin: Open
) -> None:
    be_refused(service, project)
    page = open_violations(open_admin, project)
    page.get_by_role("link", name="Last 7 days").click()
    # Something stands in the newest bar; it is the last of 28.
    page.wait_for_function("Chart.getChart('refused')?.getDatasetMeta(0).data.length === 28")
    at = page.evaluate(
        "(() => { const bar = Chart.getChart('refused').getDatasetMeta(0).data[27];"
        " return [bar.x, (bar.y + bar.base) / 2]; })()"
    )
    page.locator("#refused").click(position={"x": at[0], "y": at[1]})
    expect(page).to_have_url(re.compile("bar="))
    expect(lines(page, "rows").first).to_contain_text("198.18.99.0/24")
    page.locator(".narrowed a", has_text=" UTC").click()
    expect(page).not_to_have_url(re.compile("bar="))


def test_filters_narrow_what_is_shown(service: Service, project: Project, open_admin: Open) -> None:
    be_refused(service, project)
    page = open_admin("viewer")
    page.goto(VIOLATIONS)
    page.get_by_label("Project").select_option(label=project.project)
    page.locator("select[name=rule]").select_option("events.user")
    page.get_by_role("button", name="Show").click()
    expect(lines(page, "groups")).to_have_count(1)
    lines(page, "callers").get_by_role("link").first.click()
    expect(page.locator(".narrowed a")).to_have_count(3)
    page.locator("select[name=rule]").select_option("browser.ip")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nobody was refused")).to_be_visible()


def test_viewer_sees_violations_limits_and_blocks_without_buttons(
    service: Service, project: Project, open_admin: Open
) -> None:
    be_refused(service, project)
    page = open_violations(open_admin, project, "viewer")
    expect(lines(page, "callers")).to_have_count(1)
    for button in ("Change limit", "Block…"):
        expect(page.get_by_role("link", name=button)).to_have_count(0)
    page.goto(f"/admin/ingest/project/{number(project)}/limits/")
    expect(page.get_by_role("cell", name="1 in 1 day")).to_be_visible()
    expect(page.get_by_role("button", name="Set", exact=True)).to_have_count(0)
    page.goto("/admin/ingest/block/")
    expect(page.get_by_text("Nobody is blocked.")).to_be_visible()
    expect(page.get_by_role("link", name="Block a key or a network")).to_have_count(0)


# --- limits ---


def test_limit_of_who_was_refused_is_raised_and_reset(
    service: Service, project: Project, open_admin: Open
) -> None:
    be_refused(service, project)
    page = open_violations(open_admin, project)
    lines(page, "groups").get_by_role("link", name="Change limit").click()
    rate = page.get_by_label("Rate of events.user")
    expect(page.locator("tr.chosen")).to_contain_text("one user's native batches")
    rate.fill("a lot")
    page.locator("tr.chosen").get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("tr.chosen .wrong")).to_contain_text("isn't a rate such as 10/m")
    expect(rate).to_have_value("a lot")
    rate.fill("5000/m")
    page.locator("tr.chosen").get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("is 5,000 in 1 minute; it was 1 in 1 day.")).to_be_visible()
    assert service.request("POST", "/v1/events", b"").status == 401  # hears of it
    assert post(service, project).status == 200
    page.locator("tr.chosen").get_by_role("button", name="Reset").click()
    expect(page.get_by_text("as everywhere")).to_be_visible()
    expect(page.get_by_role("button", name="Reset")).to_have_count(0)


# --- blocks ---


def test_who_was_refused_is_blocked_and_the_block_lifted(
    service: Service, project: Project, open_admin: Open
) -> None:
    be_refused(service, project)
    page = open_violations(open_admin, project)
    lines(page, "callers").get_by_role("link", name="Block…").click()
    expect(page.get_by_label("Network")).to_have_value("198.18.99.0/24")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Everybody of its 256 addresses is refused")).to_be_visible()
    page.get_by_role("button", name="Block", exact=True).click()
    expect(page.get_by_text("198.18.99.0/24 is blocked until")).to_be_visible()
    answer = post(service, project, **{"X-Forwarded-For": "198.18.99.200", "X-User-ID": "bob"})
    assert (answer.status, answer.json["policy"]) == (429, "block")
    page.get_by_role("button", name="Lift").click()
    expect(page.get_by_text("198.18.99.0/24 is not blocked any more.")).to_be_visible()
    expect(page.get_by_text("Ended in the last 30 days")).to_be_visible()


def test_absurd_network_is_refused_in_the_form(service: Service, open_admin: Open) -> None:
    page = open_admin("operator")
    page.goto("/admin/ingest/block/")
    page.get_by_role("link", name="Block a key or a network").click()
    page.get_by_label("Reason").fill("a test")
    for network, why in (
        ("0.0.0.0/0", "too wide"),
        ("127.0.0.0/24", "Your own address is in it"),
        ("", "Name a key or a network"),
    ):
        page.get_by_label("Network").fill(network)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".wrong")).to_contain_text(why)
        expect(page.get_by_label("Network")).to_have_value(network)


# --- projects and keys ---


def test_project_is_made_and_its_keys_are_shown_once(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_admin("operator")
    page.goto("/admin/ingest/project/add/")
    page.get_by_label("Name").fill(f"made in a browser {project.project}")
    page.get_by_role("button", name="Make it").dblclick()
    expect(page.locator(".secret")).to_have_count(3)
    keys = page.locator(".secret").all_inner_texts()
    assert not [key for key in keys if key in page.url]
    made = Project("made-in-a-browser", keys[0], keys[1], keys[2])
    assert post(service, made).status == 200
    page.get_by_role("link", name="I have noted it").click()
    expect(page.locator("#result_list")).to_be_visible()
    # The browser has kept nothing to go back to.
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        page.go_back()


def test_key_is_made_rotated_and_revoked(
    service: Service, project: Project, open_admin: Open
) -> None:
    page = open_admin("operator")
    page.goto(f"/admin/ingest/project/{number(project)}/change/")
    page.get_by_role("link", name="Make a key").click()
    page.get_by_label("Label").fill("a server's")
    page.get_by_role("button", name="Make it").click()
    first = page.locator(".secret").inner_text()
    assert post(service, Project(project.project, first, "", "")).status == 200

    page.get_by_role("link", name="I have noted it").click()
    open_key(page, first)
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_label("Both work").fill("0")
    page.get_by_role("button", name="Rotate").click()
    second = page.locator(".secret").inner_text()
    assert second != first

    page.get_by_role("link", name="I have noted it").click()
    open_key(page, second)
    page.get_by_role("link", name="Revoke…").click()
    expect(page.get_by_text("This can't be undone")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text(re.compile("is revoked 20"))).to_be_visible()
    expect(page.get_by_role("link", name="Revoke…")).to_have_count(0)
    assert service.request("POST", "/v1/events", b"").status == 401  # hears of it
    for key in (first, second):
        assert post(service, Project(project.project, key, "", "")).status == 401


def open_key(page: Page, key: str) -> None:
    """Find a key by its prefix, and open its page: the list may be long."""
    prefix = key.split("_")[1]
    page.locator("#searchbar").fill(prefix)
    page.locator("#searchbar").press("Enter")
    page.locator("#result_list").get_by_role("link", name=re.compile(prefix)).click()


@pytest.mark.parametrize("role", ["viewer", "privacy officer"])
def test_who_only_looks_has_no_button_to_make_or_end_keys(
    service: Service, project: Project, open_admin: Open, role: str
) -> None:
    from ingest.models import ApiKey

    key = ApiKey.objects.get(project__slug=project.project, scope="ingest")
    page = open_admin(role)
    for path in (f"/admin/ingest/apikey/{key.pk}/change/",
                 f"/admin/ingest/project/{number(project)}/change/"):  # fmt: skip
        page.goto(path)
        expect(page.get_by_text(project.project).first).to_be_visible()
        for button in ("Rotate…", "Revoke…", "Block for a while…", "Make a key"):
            expect(page.get_by_role("link", name=button)).to_have_count(0)
        if role == "viewer" or "apikey" in path:  # an officer changes what is of privacy
            expect(page.get_by_role("button", name="Save")).to_have_count(0)


# --- without Redis ---


def test_pages_are_shown_while_redis_hangs(
    service: Service, project: Project, open_admin: Open
) -> None:
    be_refused(service, project)
    page = open_admin("operator")
    (redis,) = service.processes("redis")
    redis.suspend()
    try:
        page.goto(f"{VIOLATIONS}?project={number(project)}")
        expect(lines(page, "callers")).to_have_count(1)
        page.goto(f"/admin/ingest/project/{number(project)}/limits/?rule=events.user")
        page.get_by_label("Rate of events.user").fill("7/m")
        page.locator("tr.chosen").get_by_role("button", name="Set", exact=True).click()
        expect(page.get_by_text("is 7 in 1 minute")).to_be_visible()
    finally:
        redis.resume()


def test_blocks_have_an_end_that_is_shown(
    service: Service, project: Project, open_admin: Open
) -> None:
    from django.utils import timezone

    from ingest.models import ApiKey, Block

    key = ApiKey.objects.get(project__slug=project.project, scope="ingest")
    until = timezone.now() - timedelta(hours=1)
    Block.objects.create(api_key=key, until=until, reason="bad release")
    page = open_admin("viewer")
    page.goto("/admin/ingest/block/")
    row = page.get_by_role("row").filter(has_text=str(key))
    expect(row).to_contain_text(f"ended {until:%Y-%m-%d %H:%M} UTC")
    expect(row).to_contain_text("bad release")
