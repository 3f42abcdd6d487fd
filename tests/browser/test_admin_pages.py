"""Every page the sidebar leads to, in Chromium: as each role, with nothing in it, without Redis."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.tabs import first_administrator
from tests.harness import Service

Open = Callable[[str], Page]

# What says that nothing is there, by the page's title; the others are never empty.
EMPTY = {
    "Queues": "No task waits",
    "Recent events": "Choose a project",
    "Dashboard": "There is no project yet",
    "Ledger": "No batch",
    "Dead set": "No batch is dead",
    "Rejected events": "No event",
    "Deliveries": "Nothing was forwarded yet",
    "Destinations": "Nothing is forwarded",
    "Violations": "Nobody was refused",
    "Blocks": "Nobody is blocked",
    "Persons": "There is no project yet",
    "Erasures": "Nobody has asked to be erased yet",
    "Copies": "Nobody has asked for a copy",
    "Audit log": "Nothing was done with persons' data yet",
    "Projects": "There is no project yet",
    "API keys": "There is no key yet",
}


def sidebar(page: Page) -> dict[str, str]:
    """Title and address of each page in it."""
    page.goto("/admin/")
    links = page.locator("#nav-sidebar a[href^='/admin/']").all()
    found = {re.sub(r"^[a-z_0-9]+\s+", "", link.inner_text().strip()): link for link in links}
    return {title: link.get_attribute("href") or "" for title, link in found.items()}


def opened(page: Page, address: str) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 200, address
    expect(page.locator("h1, h2").first).to_be_visible()


@pytest.mark.parametrize("role", ["viewer", "operator", "privacy officer", "admin"])
def test_each_page_opens_for_those_who_see_it_in_the_sidebar(open_admin: Open, role: str) -> None:
    page = open_admin(role)
    addresses = sidebar(page)
    assert "Health" in addresses
    for address in addresses.values():
        opened(page, address)


def test_each_page_opens_while_redis_hangs(open_admin: Open, service: Service) -> None:
    page = open_admin("admin")
    addresses = sidebar(page)
    (redis,) = service.processes("redis")
    redis.suspend()
    try:
        for address in addresses.values():
            opened(page, address)
    finally:
        redis.resume()


@pytest.fixture(scope="module")
def empty() -> Iterator[Service]:
    """A service nobody has sent anything to."""
    service = Service().start()
    yield service
    service.remove()


def test_the_first_administrator_finds_every_page_and_what_would_be_on_it(
    browser: Browser, empty: Service
) -> None:
    with first_administrator(browser, empty) as page:
        addresses = sidebar(page)
        assert set(EMPTY) < set(addresses)
        for title, address in addresses.items():
            opened(page, address)
            if title in EMPTY:
                expect(page.get_by_text(EMPTY[title]).first).to_be_visible()
