"""The pages of queues and schedules in a browser: each action, as each role, without Redis."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from telemetry_site.celery import QUEUES
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accepted, batch, send, settled
from tests.people import ROLES

pytestmark = pytest.mark.usefixtures("service")

OpenAdmin = Callable[[str], Page]
# More than the page's own pace, and a task's.
SHOWN_MS = 20_000


@pytest.fixture(autouse=True)
def _resumed(service: Service) -> Iterator[None]:
    yield
    from telemetry_site import queues
    from telemetry_site.models import Pause

    Pause.objects.all().delete()
    queues.tell_of_pauses()


@pytest.fixture
def queues_page(open_admin: OpenAdmin, service: Service) -> Page:
    """The queues, as an operator sees them."""
    page = open_admin("operator")
    page.goto("/admin/telemetry_site/queue/")
    return page


def pause(page: Page, queue: str) -> None:
    page.get_by_text(f"Pause {queue}…").click()
    page.locator(f"#queue-{queue}").get_by_label("Why").fill("a test")
    page.locator(f"#queue-{queue}").get_by_role("button", name="Pause it").click()
    expect(page.get_by_text(f"{queue} is paused: a test.")).to_be_visible()


def put() -> str:
    """A task in the queue `default`; its id."""
    from telemetry_site.celery import app, broker_connection

    with broker_connection() as broker:
        sent = app.send_task(
            "ingest.tasks.expire_claims", queue="default", connection=broker, retry=False
        )
    return str(sent.id)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_the_queues_and_its_buttons(
    open_admin: OpenAdmin, service: Service, role: str
) -> None:
    page = open_admin(role)
    page.goto("/admin/")
    page.get_by_role("link", name="Queues").click()
    for heading in ("Ledger", *(f"Queue {queue}" for queue in QUEUES), "Workers"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
    buttons = len(QUEUES) if role in ("operator", "admin") else 0
    expect(page.get_by_text(re.compile("^Pause .*…$"))).to_have_count(buttons)


def test_an_operator_pauses_the_ledger_and_resumes_it(
    queues_page: Page, service: Service, project: Project
) -> None:
    pause(queues_page, "ingest")
    batch_id = accepted(send(service, project, batch()))
    waiting = queues_page.locator("#ledger-waiting")
    expect(waiting).not_to_have_text("0", timeout=SHOWN_MS)  # without a reload
    queues_page.get_by_role("button", name="Resume ingest").click()
    expect(queues_page.get_by_text("ingest is resumed.")).to_be_visible()
    assert settled(service, project, batch_id)["state"] == "stored"


def test_a_pause_needs_a_reason(queues_page: Page) -> None:
    queues_page.get_by_text("Pause default…").click()
    queues_page.locator("#queue-default").get_by_role("button", name="Pause it").click()
    assert queues_page.locator("#queue-default input:invalid").count() == 1


def test_a_waiting_task_is_revoked_after_a_second_click(queues_page: Page) -> None:
    pause(queues_page, "default")
    first, second = put(), put()
    line = queues_page.get_by_role("row").filter(has=queues_page.get_by_title(first))
    line.get_by_text("Revoke…").click(timeout=SHOWN_MS)
    line.get_by_role("button", name="Revoke it").click()
    expect(queues_page.get_by_text(f"Task {first} is revoked")).to_be_visible()
    expect(queues_page.get_by_title(first)).to_have_count(0)
    expect(queues_page.get_by_title(second)).to_have_count(1)


def test_what_somebody_has_open_stays_open(queues_page: Page) -> None:
    queues_page.get_by_text("Pause default…").click()
    why = queues_page.locator("#queue-default").get_by_label("Why")
    why.fill("half a sent")
    with pytest.raises(AssertionError):
        expect(why).to_have_count(0, timeout=5_000)
    expect(why).to_have_value("half a sent")


def test_a_running_task_is_stopped(queues_page: Page, service: Service, project: Project) -> None:
    with service.database() as other, other.transaction():
        other.execute("LOCK TABLE ingest_event")
        batch_id = accepted(send(service, project, batch()))
        # Others may wait for the table as well.
        storing = queues_page.locator("#workers tr").filter(has_text="store_batches")
        storing.get_by_text("Stop…").click(timeout=SHOWN_MS)
        storing.get_by_role("button", name="Ask it to stop").click()
        expect(queues_page.get_by_text("is asked to stop;")).to_be_visible()
    assert settled(service, project, batch_id)["state"] == "stored"


def test_the_page_says_that_redis_hangs_and_recovers(queues_page: Page, service: Service) -> None:
    (redis,) = service.processes("redis")
    redis.suspend()
    try:
        expect(queues_page.get_by_text("Redis does not answer:")).to_be_visible(timeout=SHOWN_MS)
        expect(queues_page.get_by_role("heading", name="Ledger")).to_be_visible()
    finally:
        redis.resume()
    expect(queues_page.get_by_text("Redis does not answer:")).to_have_count(0, timeout=SHOWN_MS)


def test_the_page_works_without_javascript(
    open_admin: OpenAdmin, service: Service, request: pytest.FixtureRequest
) -> None:
    cookies = open_admin("operator").context.cookies()
    browser = request.getfixturevalue("browser")
    with browser.new_context(java_script_enabled=False) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"{service.url}/admin/telemetry_site/queue/")
        pause(page, "default")
        page.get_by_role("button", name="Resume default").click()
        expect(page.get_by_text("default is resumed.")).to_be_visible()


# --- schedules ---


@pytest.fixture
def schedules_page(open_admin: OpenAdmin, service: Service) -> Page:
    from django_celery_beat.models import PeriodicTask

    rows = PeriodicTask.objects.filter(name="expire claims")
    wait_for(rows.exists, 30, "the schedules to be seeded")
    page = open_admin("operator")
    page.goto("/admin/")
    page.get_by_role("link", name="Schedules").click()
    return page


def line_of(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def test_a_schedule_is_run_now(schedules_page: Page) -> None:
    line_of(schedules_page, "expire claims").get_by_role("button", name="Run now").click()
    expect(
        schedules_page.get_by_text("expire claims is sent to the queue default.")
    ).to_be_visible()


def test_a_schedule_is_disabled_and_enabled(schedules_page: Page) -> None:
    line_of(schedules_page, "expire claims").get_by_role("button", name="Disable").click()
    expect(schedules_page.get_by_text("expire claims is disabled.")).to_be_visible()
    line_of(schedules_page, "expire claims").get_by_role("button", name="Enable").click()
    expect(schedules_page.get_by_text("expire claims is enabled.")).to_be_visible()


def test_an_interval_is_changed(schedules_page: Page) -> None:
    for every in ("3601", "3600"):
        schedules_page.get_by_role("link", name="expire claims", exact=True).click()
        schedules_page.get_by_label("Every").fill(every)
        schedules_page.get_by_role("button", name="Save", exact=True).click()
        expect(line_of(schedules_page, "expire claims")).to_contain_text(f"every {every} seconds")


def test_a_viewer_sees_schedules_and_no_buttons(open_admin: OpenAdmin, service: Service) -> None:
    page = open_admin("viewer")
    page.goto("/admin/django_celery_beat/periodictask/")
    expect(page.get_by_role("link", name="expire claims", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Run now")).to_have_count(0)
