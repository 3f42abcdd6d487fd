"""The demo's traffic is the same each time, and its report counts what it was told."""

import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from telemetry_site.demo import report, traffic
from telemetry_site.demo.sending import Answered, Credentials
from telemetry_site.demo.traffic import Sending

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def fleet(seed: int = 1) -> traffic.Fleet:
    return traffic.Fleet(random.Random(seed), NOW)


def test_a_seed_and_a_moment_make_the_same_traffic() -> None:
    assert fleet().day() == fleet().day() != fleet(2).day()


def test_every_client_is_in_it_and_no_address_sends_more_batches_than_it_may() -> None:
    clients = Counter(sending.client for sending in fleet().day())
    assert clients.keys() == report.FORMATS.keys()
    assert clients["plug-ins"] < 600  # events.ip
    assert clients["pages"] > 2 * 100  # browser.ip, in two windows


def test_half_of_an_unstorable_batch_is() -> None:
    for sending in fleet().unstorable():
        events = json.loads(gzip.decompress(sending.body))["events"]
        assert sum(event["event"] == traffic.UNSTORABLE for event in events) == 5
        assert sending.events == 10


def test_a_wrong_key_is_wrong_and_a_page_shows_its_own_in_the_address() -> None:
    credentials = Credentials("ingest_0123456789ab_secret", "token")
    sending = Sending("pages", "/", b"", 1)
    assert credentials.of(sending) == ({"X-API-Key": "ingest_0123456789ab_secret"}, "")
    wrong, _ = credentials.of(Sending("pages", "/", b"", 1, credential="wrong"))
    assert wrong["X-API-Key"] != "ingest_0123456789ab_secret"
    headers, query = credentials.of(Sending("pages", "/", b"", 1, credential="url key"))
    assert (headers, query) == ({}, "?key=ingest_0123456789ab_secret")


@pytest.mark.parametrize(
    ("status", "body", "counts"),
    [
        (200, {"accepted": 4, "rejected": 1}, {"received": 5, "stored": 4, "rejected": 1}),
        (
            200,
            {"accepted": 4, "rejected": 1, "duplicate": True},
            {"received": 5, "duplicate": 4, "rejected": 1},
        ),
        (204, {}, {"received": 5, "stored": 5}),
        (400, {}, {"received": 5, "rejected": 5}),
        (401, {}, {"refused": 5}),
        (429, {}, {"limited": 5}),
        (0, {}, {"refused": 5}),
    ],
)
def test_an_answer_says_where_its_events_ended(
    status: int, body: dict[str, int], counts: dict[str, int]
) -> None:
    answer = Answered(Sending("tools", "/v1/submit", b"", 5), status, body)
    expected = Counter({"batches": 1, "events": 5, **counts})
    assert +report.told([answer])["tools"] == expected


def test_what_does_not_add_up_is_named() -> None:
    answers = report.told([Answered(Sending("tools", "", b"", 5), 204, {})])
    kept = {"format": "submit", "received": 5, "stored": 2, "dead": 3}
    accounting = report.accounted({"formats": [kept]})
    assert report.differences(answers, accounting) == []
    lost = report.accounted({"formats": [{**kept, "stored": 1}]})
    assert report.differences(answers, lost) == ["tools, stored: 5 told, 4 kept"]


def test_the_table_has_a_line_a_client_and_a_sum() -> None:
    answers = report.told([Answered(Sending("tools", "", b"", 1500), 204, {})])
    accounting = report.accounted({"formats": [{"format": "submit", "stored": 1500}]})
    lines = report.table(answers, accounting)
    assert [line.split()[0] for line in lines if not line.startswith("-")] == [
        "client", *report.FORMATS, "all",
    ]  # fmt: skip
    assert "1,500" in lines[-1]
    assert len({len(line) for line in lines}) == 1


def test_days_are_shown_as_they_are_answered() -> None:
    rows = [
        {"date": "2026-11-21", "total_events": 16588, "unique_users": 197},
        {"date": "2026-11-20", "total_events": None, "unique_users": None},
    ]
    daily = {"days": rows, "threshold": 5, "withheld": {"groups": 0, "cells": 1}}
    head, line, first, second, why = report.days(daily)
    assert head.split() == ["date", "total_events", "unique_users"]
    assert first.split() == ["2026-11-21", "16,588", "197"]
    assert second.split() == ["2026-11-20", "withheld", "withheld"]
    assert len({len(head), len(line), len(first), len(second)}) == 1
    assert "fewer than 5 people" in why
    assert len(report.days({**daily, "withheld": {"groups": 0, "cells": 0}})) == 4


def test_nodes_are_shown_with_all_fields_there_are() -> None:
    of_one = {"node_id": "a", "timestamp": "2026-11-21T10:00:07Z", "fields": {"cpu_percent": 3.5}}
    of_other = {**of_one, "node_id": "b", "fields": {"process_count": 1200.0}}
    head, _, first, second = report.nodes({"nodes": [of_one, of_other]})
    assert head.split() == ["node_id", "time", "cpu_percent", "process_count"]
    assert first.split() == ["a", "10:00:07", "3.5", "-"]
    assert second.split() == ["b", "10:00:07", "-", "1,200.0"]
