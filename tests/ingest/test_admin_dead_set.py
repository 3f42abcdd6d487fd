"""The dead set's page: grouped by error, looked at on the record, replayed or given up."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest import resolutions, storage
from ingest.admin import deadset
from ingest.models import Batch, Resolution
from ingest.selections import Selection
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import accounting, batch, send, status
from tests.ingest.traces import project_id
from tests.ingest.waiting import plant, record, reread
from tests.people import logged_in, person

DEAD = "/admin/ingest/deadbatch/"
STORING_SECONDS = 30


def dead(project: Project, error: str = "22P02: planted", **columns: Any) -> Batch:
    """A batch that is dead for a reason that is gone: replayed it is stored."""
    columns = {"dead": 1, "attempts": 3, **columns}
    return plant(project, [record()], state="dead", error=error, **columns)


def page_of(query: str = "", role: str = "operator") -> str:
    answer = logged_in(role).get(f"{DEAD}?{query}")
    assert answer.status_code == 200
    return answer.text


def settle(client: Client, row: Batch, action: str, **more: str) -> Any:
    return client.post(f"{DEAD}{row.key}/settle/", {"action": action, **more}, follow=True)


def stored(*rows: Batch) -> None:
    def look() -> bool:
        reread(*rows)
        return all(row.state == "stored" for row in rows)

    wait_for(look, STORING_SECONDS, "the replayed to be stored")


def finished() -> Resolution:
    """What was started last, once it has ended."""
    latest = Resolution.objects.order_by("-pk")
    return wait_for(
        lambda: latest.filter(finished_at__isnull=False).first()
        if not latest.filter(finished_at=None) else None,
        STORING_SECONDS, "the resolution to end",
    )  # fmt: skip


@pytest.fixture
def _nothing_under_way(service: Service) -> Iterator[None]:
    """Nothing is, and nobody else starts anything."""
    wait_for(lambda: not Resolution.objects.filter(finished_at=None), 30, "nothing under way")
    yield
    Resolution.objects.filter(finished_at=None).update(finished_at=timezone.now(), cancelled=True)


@pytest.fixture
def _no_worker(service: Service) -> Iterator[None]:
    """The workers of the default queue are stopped: what is started waits."""
    processes = service.processes("default")
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    yield
    for process in processes:
        process.send_signal(signal.SIGCONT)


# --- seeing ---


def test_dead_batches_are_grouped_by_error(service: Service, project: Project) -> None:
    for number in range(5):
        dead(project, "first: reason" if number < 3 else "second: reason", received=2, dead=2)
    groups = deadset._groups(deadset._latest_dead(Selection("dead", project_id(project))))
    assert [(g.error, g.batches, g.events) for g in groups] == [
        ("first: reason", 3, 6), ("second: reason", 2, 4),
    ]  # fmt: skip
    page = page_of(f"project={project_id(project)}")
    assert page.index("first: reason") < page.index("second: reason")


def test_list_is_filtered(service: Service, project: Project) -> None:
    one = dead(project, "first: reason", format="submit")
    other = dead(project, "second: reason", received_at=timezone.now() - timedelta(days=1))
    alive = plant(project, [record()], state="stored")
    for asked, rows in {
        "": {one, other},
        "format=submit": {one},
        "error=second: reason": {other},
        f"day={one.day}": {one},
    }.items():
        page = page_of(f"project={project_id(project)}&{asked}")
        shown = {row for row in (one, other, alive) if f"{DEAD}{row.key}/change/" in page}
        assert shown == rows, asked


def test_events_are_shown_scrubbed_and_looking_is_recorded(
    service: Service, project: Project
) -> None:
    payload = [record(0, b'{"plugin": nope}', subject=b"\xab" * 16, message="said <b>this</b>")]
    row = plant(project, payload, state="dead", error="22P02: planted", dead=1)
    page = logged_in("operator").get(f"{DEAD}{row.key}/change/").text
    for shown in ("planted", "{&quot;plugin&quot;: nope}", "ab" * 16, "said &lt;b&gt;this"):
        assert shown in page
    assert LogEntry.objects.filter(object_id=row.key).count() == 1


def test_events_are_hidden_from_who_may_not_look_and_nothing_is_recorded(
    service: Service, project: Project
) -> None:
    row = plant(project, [record(0, b'{"plugin": nope}')], state="dead", dead=1)
    page = logged_in("viewer").get(f"{DEAD}{row.key}/change/").text
    assert "nope" not in page
    assert "may not look" in page
    assert not LogEntry.objects.filter(object_id=row.key)


def test_payload_that_cannot_be_read_says_so(service: Service, project: Project) -> None:
    row = plant(project, b"not a payload", state="dead", dead=1)
    assert "The payload can" in logged_in("operator").get(f"{DEAD}{row.key}/change/").text


def test_what_is_shown_of_a_payload_is_bounded(service: Service, project: Project) -> None:
    records = [record(number, b'"' + b"x" * 9_000 + b'"') for number in range(200)]
    row = plant(project, records, state="dead", dead=200)
    page = logged_in("operator").get(f"{DEAD}{row.key}/change/").text
    assert "And 150 more" in page
    assert len(page) < 250_000


def test_number_of_queries_does_not_grow(service: Service, project: Project) -> None:
    client, address = logged_in("operator"), f"{DEAD}?project={project_id(project)}"
    counts = []
    for more in (1, 20):
        for _ in range(more):
            dead(project)
        with CaptureQueriesContext(connection) as captured:
            client.get(address)
        counts.append(len(captured))
        assert not [query for query in captured if "COUNT(" in query["sql"].upper()]
    assert counts[0] == counts[1] <= 30


# --- one, and a selection ---


def test_replayed_batch_is_stored_at_once(service: Service, project: Project) -> None:
    row = dead(project)
    told = settle(logged_in("operator"), row, "replay")
    assert "1 wait to be stored once more" in told.text
    stored(row)
    assert LogEntry.objects.filter(change_message__contains=f"batch {row.key}").exists()


def test_discarding_asks_first_and_is_for_good(service: Service, project: Project) -> None:
    row, client = dead(project), logged_in("operator")
    asked = settle(client, row, "discard")
    assert "undone" in asked.text
    reread(row)
    assert row.state == "dead"
    settle(client, row, "discard", confirmed="yes")
    reread(row)
    assert (row.state, row.payload, row.dead, row.waiting) == ("discarded", None, 1, 0)
    assert storage.replay([(row.day, row.pk)]) == 0
    assert "not dead any more" in settle(client, row, "replay").text
    counts = accounting(service, project)
    assert (counts["received"], counts["dead"]) == (1, 1)


def test_client_is_told_of_a_discarded_batch(service: Service, project: Project) -> None:
    sent = batch()
    send(service, project, sent)
    row = Batch.objects.get(batch_id=sent["batch_id"])
    wait_for(lambda: reread(row) or row.state == "stored", STORING_SECONDS, "it to be stored")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE ingest_batch SET state = 'dead', stored = 0, dead = 1 WHERE id = %s", [row.pk]
        )
    storage.discard([(row.day, row.pk)])
    report = status(service, project, sent["batch_id"]).json
    assert (report["state"], report["dead"], report["stored"]) == ("discarded", 1, 0)
    document = service.request("GET", "/api/schema/").json
    states = document["components"]["schemas"]["BatchReport"]["properties"]["state"]["enum"]
    assert "discarded" in states


def test_selected_batches_are_replayed_and_others_not(service: Service, project: Project) -> None:
    rows = [dead(project) for _ in range(3)]
    form = {"action": "replay_selected", "_selected_action": [row.pk for row in rows[:2]]}
    told = logged_in("operator").post(f"{DEAD}?project={project_id(project)}", form, follow=True)
    assert "2 wait to be stored once more" in told.text
    stored(*rows[:2])
    reread(rows[2])
    assert rows[2].state == "dead"


def test_selected_batches_are_discarded_once_confirmed(service: Service, project: Project) -> None:
    rows, client = [dead(project) for _ in range(3)], logged_in("operator")
    address = f"{DEAD}?project={project_id(project)}"
    form = {"action": "discard_selected", "_selected_action": [row.pk for row in rows[:2]]}
    assert "undone" in client.post(address, form).text
    reread(*rows)
    assert {row.state for row in rows} == {"dead"}
    client.post(address, {**form, "confirmed": "yes"})
    reread(*rows)
    assert [row.state for row in rows] == ["discarded", "discarded", "dead"]


# --- all that match ---


@pytest.mark.usefixtures("_nothing_under_way")
def test_all_that_match_are_replayed_and_others_not(service: Service, project: Project) -> None:
    rows = [dead(project, "first: reason") for _ in range(7)]
    others = [dead(project, "second: reason")]
    form = {"action": "replay", "project": project_id(project), "error": "first: reason"}
    assert (
        "Started to replay" in logged_in("operator").post(f"{DEAD}resolve/", form, follow=True).text
    )
    stored(*rows)
    ended = finished()
    assert (ended.total, ended.done, ended.percent) == (7, 7, 100)
    reread(*others)
    assert others[0].state == "dead"
    shown = logged_in("viewer").get(f"{DEAD}progress/").text
    assert "7 of 7" in shown
    assert "hx-get" not in shown, "it goes on asking though all is done"


@pytest.mark.usefixtures("_nothing_under_way")
def test_all_that_match_are_discarded_once_confirmed(service: Service, project: Project) -> None:
    rows, client = [dead(project) for _ in range(3)], logged_in("operator")
    form = {"action": "discard", "project": str(project_id(project))}
    assert "undone" in client.post(f"{DEAD}resolve/", form).text
    assert not Resolution.objects.filter(finished_at=None)
    client.post(f"{DEAD}resolve/", {**form, "confirmed": "yes"})
    assert finished().done == 3
    reread(*rows)
    assert {row.state for row in rows} == {"discarded"}


@pytest.mark.usefixtures("_nothing_under_way")
def test_what_is_started_while_redis_hangs_is_done_once_it_is_back(
    service: Service, project: Project
) -> None:
    rows = [dead(project) for _ in range(2)]
    form = {"action": "discard", "project": str(project_id(project)), "confirmed": "yes"}
    redis = service.processes("redis")
    for process in redis:
        process.send_signal(signal.SIGSTOP)
    try:
        told = logged_in("operator").post(f"{DEAD}resolve/", form, follow=True)
        assert "Started to discard" in told.text
    finally:
        for process in redis:
            process.send_signal(signal.SIGCONT)
    assert finished().done == 2
    reread(*rows)
    assert {row.state for row in rows} == {"discarded"}


@pytest.mark.usefixtures("_nothing_under_way", "_no_worker")
def test_one_resolution_is_under_way_at_a_time_and_may_be_cancelled(
    service: Service, project: Project
) -> None:
    row, client = dead(project), logged_in("operator")
    form = {"action": "replay", "project": str(project_id(project))}
    client.post(f"{DEAD}resolve/", form)
    assert "Another one is under way" in client.post(f"{DEAD}resolve/", form, follow=True).text
    (under_way,) = Resolution.objects.filter(finished_at=None)
    assert "Waits for the worker" in client.get(f"{DEAD}progress/").text
    for _ in range(2):
        client.post(f"{DEAD}cancel/", {"id": str(under_way.pk)})
    under_way.refresh_from_db()
    assert under_way.cancelled
    assert resolutions.go_on(5) is False
    reread(row)
    assert row.state == "dead"


@pytest.mark.usefixtures("_nothing_under_way", "_no_worker")
def test_resolution_goes_on_where_a_killed_worker_stopped(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it committed stays, what it was at is undone, and nothing is done twice."""
    monkeypatch.setattr(resolutions, "CHUNK", 2)
    rows = [dead(project) for _ in range(5)]
    selection = Selection("dead", project_id(project))
    resolutions.start("discard", selection, person("operator").pk)
    assert resolutions._chunk()
    (under_way,) = Resolution.objects.filter(finished_at=None)
    assert (under_way.total, under_way.done) == (5, 2)
    with transaction.atomic():  # a chunk that dies before it commits
        resolutions._chunk()
        transaction.set_rollback(True)
    late = dead(project)
    assert resolutions.go_on(30) is False
    under_way.refresh_from_db()
    assert (under_way.done, under_way.percent) == (5, 100)
    reread(*rows, late)
    assert {row.state for row in rows} == {"discarded"}
    assert late.state == "dead", "it died after the decision"


@pytest.mark.usefixtures("_nothing_under_way", "_no_worker")
def test_second_worker_leaves_a_resolution_to_the_first(service: Service, project: Project) -> None:
    row = dead(project)
    resolutions.start("discard", Selection("dead", project_id(project)), person("operator").pk)
    with service.database() as other, other.transaction():
        other.execute("SELECT FROM ingest_resolution WHERE finished_at IS NULL FOR UPDATE")
        assert resolutions.go_on(5) is False
    reread(row)
    assert row.state == "dead"


@pytest.mark.usefixtures("_nothing_under_way", "_no_worker")
def test_resolution_that_can_never_work_ends_with_its_error(service: Service) -> None:
    Resolution.objects.create(action="forget", matching={})
    resolutions.go_on(5)
    latest = Resolution.objects.latest("pk")
    assert (latest.error, latest.finished_at is None) == ("ValueError", False)


# --- who may ---


@pytest.mark.parametrize("role", ["viewer", "privacy officer"])
def test_who_may_only_look_settles_nothing(service: Service, project: Project, role: str) -> None:
    row, client = dead(project), logged_in(role)
    for action in ("replay", "discard"):
        assert settle(client, row, action, confirmed="yes").status_code == 403
        form = {"action": action, "project": str(project_id(project)), "confirmed": "yes"}
        assert client.post(f"{DEAD}resolve/", form).status_code == 403
        form = {"action": f"{action}_selected", "_selected_action": [row.pk], "confirmed": "yes"}
        client.post(DEAD, form)
    reread(row)
    assert row.state == "dead"
    page = page_of(f"project={project_id(project)}", role)
    assert "Replay all</button>" not in page
    assert "Discard all</button>" not in page


@pytest.mark.parametrize(
    ("below", "form"),
    [
        ("resolve/", {"action": "forget"}),
        ("resolve/", {"action": "replay", "project": "x"}),
        ("resolve/", {"action": "replay", "day": "soon"}),
        ("2026-01-01-1/settle/", {"action": ""}),
    ],
)
def test_nonsense_is_refused(service: Service, below: str, form: dict[str, str]) -> None:
    assert logged_in("operator").post(f"{DEAD}{below}", form).status_code == 400


@pytest.mark.parametrize("below", ["resolve/", "cancel/", "2026-01-01-1/settle/"])
def test_nothing_is_done_by_looking(service: Service, below: str) -> None:
    assert logged_in("operator").get(f"{DEAD}{below}").status_code in {400, 405}


def test_actions_are_refused_without_the_page_s_token(service: Service, project: Project) -> None:
    row = dead(project)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = logged_in("operator").cookies
    assert settle(strict, row, "replay").status_code == 403
    reread(row)
    assert row.state == "dead"
