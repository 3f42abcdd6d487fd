"""`python -m tests.browser.screenshots`: the README's pictures, of the demo as it ends."""

import sys

from playwright.sync_api import Browser

from tests.browser import tabs
from tests.harness import ROOT, Service, demonstrated

MOST_BYTES = 300_000
# Under docs/: what is seen.
PICTURES = {
    "queues.png": "/admin/telemetry_site/queue/",
    "violations.png": "/admin/ingest/ratelimitviolation/",
}


def main() -> None:
    """Run the demo in a folder of its own, look at each page, end it."""
    path = tabs.chromium()
    assert path is not None, f"install one of {', '.join(tabs.NAMES)}"
    with demonstrated() as service, tabs.launched(path) as browser:
        take(browser, service)


def take(browser: Browser, service: Service) -> None:
    """One picture a page."""
    with tabs.first_administrator(browser, service) as page:
        for name, address in PICTURES.items():
            page.goto(address)
            page.wait_for_load_state("networkidle")
            picture = page.screenshot(path=ROOT / "docs" / name, animations="disabled")
            assert len(picture) < MOST_BYTES, name
            sys.stdout.write(f"docs/{name}: {len(picture):,} bytes\n")


if __name__ == "__main__":
    main()
