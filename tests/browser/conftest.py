"""A real Chromium: without one these tests are skipped, but not in CI."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import tabs
from tests.harness import Service


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    path = tabs.chromium()
    if path is None:
        message = f"none of {', '.join(tabs.NAMES)} is installed"
        assert "CI" not in os.environ, message
        pytest.skip(message)
    with tabs.launched(path) as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab in a session of its own."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def open_admin(browser: Browser, service: Service) -> Iterator[Callable[[str], Page]]:
    """Opens tabs in which somebody new of a role is logged in; paths are the service's.

    Fails the test at its end where a page complained in the console, or an answer was a 5xx.
    """
    from tests.people import logged_in

    found: list[list[str]] = []

    def open_tab(role: str) -> Page:
        cookie = logged_in(role).cookies["sessionid"].value
        context = opened.enter_context(
            browser.new_context(base_url=service.url, viewport=tabs.SIZE)
        )
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": service.url}])
        page = context.new_page()
        found.append(tabs.complaints(page))
        return page

    with ExitStack() as opened:
        yield open_tab
    assert not any(found), found
