"""`python -m tests.browser.screenshots`: the README's pictures, of the demo as it ends."""

import sys
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser

from tests.browser import tabs
from tests.harness import ROOT, Service, demonstrated

MOST_BYTES = 300_000
# The days before the demo ran: nearly all of what it sends is of the moment it is sent.
_TODAY = datetime.now(UTC).date()
_DAYS = f"from={_TODAY - timedelta(days=6)}&to={_TODAY - timedelta(days=1)}"
# Under docs/: what is seen, and how much of it.
PICTURES = {
    "dashboard.png": (f"/admin/aggregation/counting/dashboard/?{_DAYS}", 1230),
    "queues.png": ("/admin/telemetry_site/queue/", tabs.SIZE["height"]),
    "violations.png": ("/admin/ingest/ratelimitviolation/", tabs.SIZE["height"]),
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
        for name, (address, height) in PICTURES.items():
            page.set_viewport_size({**tabs.SIZE, "height": height})
            page.goto(address)
            page.wait_for_load_state("networkidle")
            picture = page.screenshot(path=ROOT / "docs" / name, animations="disabled")
            assert len(picture) < MOST_BYTES, name
            sys.stdout.write(f"docs/{name}: {len(picture):,} bytes\n")


if __name__ == "__main__":
    main()
