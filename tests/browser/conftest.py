"""A real Chromium, the system's own: `.ci/run` installs it; elsewhere these tests need it there."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.harness import Service

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        message = f"none of {', '.join(NAMES)} is installed"
        assert "CI" not in os.environ, message
        pytest.skip(message)
    # Playwright keeps an event loop in this thread, in which Django would refuse to query.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        # As root Chromium has no sandbox; what it opens here are our own pages.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=path, args=arguments)
        yield found
        found.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


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

    complaints: list[str] = []

    def open_tab(role: str) -> Page:
        cookie = logged_in(role).cookies["sessionid"].value
        context = tabs.enter_context(
            browser.new_context(base_url=service.url, viewport={"width": 1400, "height": 900})
        )
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": service.url}])
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}")
                if said.type in {"error", "warning"} else None)  # fmt: skip
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda answer: complaints.append(f"{answer.status} {answer.url}")
                if answer.status >= 500 else None)  # fmt: skip
        return page

    with ExitStack() as tabs:
        yield open_tab
    assert not complaints
