"""`GET /v1/query/accounting`: what became of every event, in sums that agree."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from ingest.models import OUTCOMES, Batch, LedgerSum
from ingest.models import Project as Row
from tests.harness import Answer, Project, Service
from tests.ingest.sending import accepted, accounting, batch, event, send, settled
from tests.ingest.traces import project_id

HOUR = timedelta(hours=1)
LONG_AGO = datetime(2001, 2, 3, 4, tzinfo=UTC)


def ask(service: Service, key: str, **parameters: str) -> Answer:
    query = f"?{urlencode(parameters)}" if parameters else ""
    return service.request("GET", f"/v1/query/accounting{query}", headers={"X-API-Key": key})


def lines(service: Service, project: Project, **parameters: str) -> list[dict[str, Any]]:
    answer = ask(service, project.secret_key, **parameters)
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json["formats"]
    return found


def counts(**given: int) -> dict[str, int]:
    return dict.fromkeys(OUTCOMES, 0) | given


def adds_up(line: dict[str, int]) -> bool:
    return line["received"] == sum(line[name] for name in OUTCOMES if name != "received")


def keep_sum(project: Project, hour: datetime, wire_format: str = "events", **given: int) -> None:
    kept = {name: count for name, count in counts(**given).items() if name != "waiting"}
    LedgerSum.objects.create(
        project_id=project_id(project), hour=hour, format=wire_format, batches=1, **kept
    )


def send_some_of_each(service: Service, project: Project) -> None:
    """Two stored and one rejected, the same again as duplicates, and two refused as a whole."""
    mixed = batch(event(), 7, event())
    for content in (mixed, mixed, batch(7, 7)):
        send(service, project, content)
    settled(service, project, mixed["batch_id"])


# --- the counts ---


def test_project_that_sent_nothing_has_no_lines(service: Service, project: Project) -> None:
    assert lines(service, project) == []


def test_every_event_is_counted_as_exactly_one_outcome(service: Service, project: Project) -> None:
    send_some_of_each(service, project)
    expected = counts(received=8, stored=2, duplicate=2, rejected=4)
    assert lines(service, project) == [{"format": "events", **expected}]


def test_counts_agree_with_what_the_clients_were_told(service: Service, project: Project) -> None:
    told = [send(service, project, batch(event(), 7, event())).json for _ in range(3)]
    for answer in told:
        settled(service, project, answer["batch_id"])
    found = accounting(service, project)
    assert found["received"] == sum(answer["received"] for answer in told)
    assert found["stored"] == sum(answer["accepted"] for answer in told)
    assert found["rejected"] == sum(answer["rejected"] for answer in told)


def test_body_that_was_never_decoded_is_a_batch_of_no_events(
    service: Service, project: Project
) -> None:
    send(service, project, b"{")
    assert lines(service, project) == [{"format": "events", **counts()}]


def test_accepted_events_are_counted_at_once_and_add_up_while_they_wait(
    service: Service, project: Project
) -> None:
    for size in range(1, 6):
        batch_id = accepted(send(service, project, batch(*(event() for _ in range(size)))))
        found = accounting(service, project)
        assert adds_up(found)
        assert found["received"] == size * (size + 1) // 2
        assert found["stored"] + found["waiting"] == found["received"]
        settled(service, project, batch_id)
    assert accounting(service, project) == counts(received=15, stored=15)


def test_dead_events_and_waiting_ones_are_told_apart(service: Service, project: Project) -> None:
    send(service, project, batch(7, 7))
    found = Batch.objects.filter(project_id=project_id(project))
    found.update(received=9, rejected=2, stored=3, dead=1, suppressed=1)
    expected = counts(received=9, rejected=2, stored=3, dead=1, suppressed=1, waiting=2)
    assert accounting(service, project) == expected


def test_hours_whose_ledger_is_dropped_are_answered_from_their_sums(
    service: Service, project: Project
) -> None:
    keep_sum(project, LONG_AGO, received=10, stored=6, duplicate=1, rejected=1, dead=2)
    keep_sum(project, LONG_AGO + HOUR, received=5, stored=4, suppressed=1)
    send_some_of_each(service, project)
    whole = accounting(service, project, "?from=2001-01-01T00:00:00Z")
    assert whole == counts(received=23, stored=12, duplicate=3, rejected=5, suppressed=1, dead=2)
    assert adds_up(whole)
    assert accounting(service, project)["received"] == 8, "by default the last day"


def test_formats_are_counted_apart(service: Service, project: Project) -> None:
    keep_sum(project, LONG_AGO, "metrics", received=3, stored=3)
    keep_sum(project, LONG_AGO, "events", received=2, rejected=2)
    found = lines(service, project, **{"from": "2001-01-01T00:00:00Z"})
    assert found == [
        {"format": "events", **counts(received=2, rejected=2)},
        {"format": "metrics", **counts(received=3, stored=3)},
    ]


def test_other_projects_are_never_counted(service: Service, project: Project) -> None:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    keep_sum(other, LONG_AGO, received=5, stored=5)
    send_some_of_each(service, other)
    assert lines(service, project, **{"from": "2001-01-01T00:00:00Z"}) == []
    settled(service, project, accepted(send(service, project, batch())))
    assert accounting(service, project) == counts(received=1, stored=1)


# --- the range ---


def test_answer_says_for_which_time_it_is(service: Service, project: Project) -> None:
    before = datetime.now(UTC)
    answer = ask(service, project.secret_key).json
    start, end = (datetime.fromisoformat(answer[name]) for name in ("from", "to"))
    assert before <= end <= datetime.now(UTC)
    assert end - start == timedelta(days=1)


def test_range_begins_at_from_and_ends_before_to(service: Service, project: Project) -> None:
    settled(service, project, accepted(send(service, project, batch())))
    at = Batch.objects.get(project_id=project_id(project)).received_at
    tick = timedelta(microseconds=1)

    def received(start: datetime, end: datetime) -> int:
        found = lines(service, project, **{"from": start.isoformat(), "to": end.isoformat()})
        return sum(line["received"] for line in found)

    assert received(at, at + tick) == 1
    assert received(at - HOUR, at) == 0
    assert received(at + tick, at + HOUR) == 0


def test_to_alone_asks_for_the_day_before_it(service: Service, project: Project) -> None:
    keep_sum(project, LONG_AGO, received=1, stored=1)
    for end, found in ((LONG_AGO + 24 * HOUR, 1), (LONG_AGO + 25 * HOUR, 0), (LONG_AGO, 0)):
        assert len(lines(service, project, to=end.isoformat())) == found, end


@pytest.mark.parametrize(
    "spelling",
    [
        "2001-02-03T04:00:00Z",
        "2001-02-03T04:00:00",
        "2001-02-03T06:30:00+02:30",
        "2001-02-02T23:00:00-05:00",
    ],
)
def test_moments_are_rfc_3339_and_utc_where_they_name_no_offset(
    service: Service, project: Project, spelling: str
) -> None:
    answer = ask(service, project.secret_key, **{"from": spelling}).json
    assert datetime.fromisoformat(answer["from"]) == LONG_AGO


def test_plus_sign_may_stand_in_the_query_as_it_is(service: Service, project: Project) -> None:
    query = "/v1/query/accounting?from=2001-02-03T06:00:00+02:00"
    answer = service.request("GET", query, headers={"X-API-Key": project.secret_key})
    assert datetime.fromisoformat(answer.json["from"]) == LONG_AGO


@pytest.mark.parametrize("parameter", ["from", "to"])
@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "1732096200",
        "2001-02-30T00:00:00Z",
        "2001-2-3",
        "\0",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_moment_that_is_none_is_refused_by_name(
    service: Service, project: Project, parameter: str, value: str
) -> None:
    answer = ask(service, project.secret_key, **{parameter: value})
    assert (answer.status, answer.json["code"]) == (400, "invalid_timestamp")
    assert parameter in answer.json["details"]


def test_first_and_last_moments_of_the_calendar_are_answered(
    service: Service, project: Project
) -> None:
    ends = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}
    assert lines(service, project, **ends) == []


def test_day_before_the_first_day_there_is_is_no_defect(service: Service, project: Project) -> None:
    assert ask(service, project.secret_key, to="0001-01-01T00:00:00Z").status in {200, 400}


@pytest.mark.parametrize("end", ["2001-02-03T04:00:00Z", "2001-02-03T03:59:59Z"])
def test_range_that_does_not_last_is_refused(service: Service, project: Project, end: str) -> None:
    answer = ask(service, project.secret_key, **{"from": "2001-02-03T04:00:00Z", "to": end})
    assert (answer.status, answer.json["code"]) == (400, "invalid_range")


# --- who may ask ---


def test_ingest_key_may_not_ask(service: Service, project: Project) -> None:
    answer = ask(service, project.ingest_key)
    assert (answer.status, answer.json["code"]) == (403, "wrong_scope")


def test_nobody_may_not_ask(service: Service, project: Project) -> None:
    answer = service.request("GET", "/v1/query/accounting")
    assert (answer.status, answer.json["code"]) == (401, "missing_key")


def test_key_in_the_url_is_no_key(service: Service, project: Project) -> None:
    answer = service.request("GET", f"/v1/query/accounting?key={project.secret_key}")
    assert answer.status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_accounting_is_only_read(service: Service, project: Project, method: str) -> None:
    answer = service.request(
        method, "/v1/query/accounting", headers={"X-API-Key": project.secret_key}
    )
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
