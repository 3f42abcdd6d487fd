"""Chromium, the system's own, and tabs in it that notice what goes wrong."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from tests.harness import Service

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1400, "height": 900}


def chromium() -> str | None:
    """Where it is; `.ci/run` installs it."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """One headless Chromium."""
    # Playwright keeps an event loop in this thread, in which Django would refuse to query.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        # As root Chromium has no sandbox; what it opens here are our own pages.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


def complaints(page: Page) -> list[str]:
    """Grows with each error or warning in its console, and each answer that is a 5xx."""
    found: list[str] = []
    page.on("console", lambda said: found.append(f"{said.type}: {said.text}")
            if said.type in {"error", "warning"} else None)  # fmt: skip
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("response", lambda answer: found.append(f"{answer.status} {answer.url}")
            if answer.status >= 500 else None)  # fmt: skip
    return found


@contextmanager
def first_administrator(browser: Browser, service: Service) -> Iterator[Page]:
    """A tab in which the one whose password `up` has shown logged in, by the form.

    Raises AssertionError at its end where a page complained.
    """
    password = re.search(r"password +(\S+)", service.output)
    assert password is not None, "it is shown on a folder's first start alone"
    with browser.new_context(base_url=service.url, viewport=SIZE) as context:
        page = context.new_page()
        found = complaints(page)
        page.goto("/admin/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(password[1])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/")
        yield page
    assert not found
