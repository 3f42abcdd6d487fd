"""What our exporter sends to our receiver arrives with every field."""

import json
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from ingest.formats import FORMATS
from ingest.formats.otlp.logs import decode
from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.logs import logs
from ingest.forwarding.rendering.rows import EventRow
from ingest.models import Project as Row
from ingest.records import Envelope, MalformedBatch, Record, microseconds
from privacy.subjects import Pseudonyms
from tests.harness import Project, Service
from tests.ingest.rendering import PROJECT, as_attribute, event, event_of, same
from tests.ingest.round_trips import (
    MICROSECONDS,
    RESOURCE,
    another_project,
    both_encodings,
    export,
    rows_of,
)
from tests.ingest.sending import accepted, moment, send
from tests.ingest.sending import event as native
from tests.ingest.test_decoder_properties import ENVELOPE, any_item, encoded, fuzz

COLUMNS = (
    f"{MICROSECONDS}, {MICROSECONDS}, stored.name, subject, session, category, level, scope,"
    " client_version, message, properties::text"
)


def received(encoding: str, *rows: EventRow) -> list[Record]:
    """What our receiver makes of what our exporter sends."""
    body, content_type = encode(logs(PROJECT, rows), encoding)
    batches = [*decode(body, content_type, Envelope(users_optional=True))]
    assert [rejection for batch in batches for rejection in batch.rejections] == []
    return [record for batch in batches for record in batch.records]


@both_encodings
@pytest.mark.parametrize("name", ["events", "submit", "client_telemetry"])
@fuzz
@given(data=st.data())
def test_every_event_arrives_with_all_it_says(encoding: str, name: str, data: st.DataObject):
    items = data.draw(st.lists(any_item(name), min_size=1, max_size=3))
    batch = data.draw(st.fixed_dictionaries({"events": st.just(items)}, optional=ENVELOPE))
    try:
        decoded = FORMATS[name](encoded(batch), Envelope(users_optional=True))
    except MalformedBatch:
        return
    for record in decoded.records:
        row = event_of(record)
        (arrived,) = received(encoding, row)
        check(row, arrived)


def check(row: EventRow, arrived: Record) -> None:
    assert microseconds(arrived.occurred_at) == row.occurred_at
    # Pseudonyms now, which are made of again.
    assert arrived.user_id == (row.subject and row.subject.hex())
    assert arrived.session_id == (row.session and row.session.hex())
    # One in capitals looks like ours.
    assert arrived.level in {row.level, row.level and row.level.lower()}
    for field in ("name", "category", "scope", "client_version", "message"):
        assert getattr(arrived, field) == getattr(row, field), field
    expected = as_attribute(json.loads(row.properties))
    if "" in expected:
        expected["sent."] = expected.pop("")
    assert same(json.loads(arrived.properties), expected | {"resource": RESOURCE})


@both_encodings
@pytest.mark.parametrize(
    ("stored", "arrived"),
    [
        ({"requestId": "r"}, {"requestId": "r"}),
        ({"request.id": "r"}, {"requestId": "r"}),
        ({"requestId": "r", "request.id": "s"}, {"requestId": "r", "request.id": "s"}),
        ({"user.id": "u", "enduser.id": "v"}, {"sent.user.id": "u", "sent.enduser.id": "v"}),
        (
            {"session.id": 1, "sent.session.id": 2},
            {"sent.sent.session.id": 1, "sent.session.id": 2},
        ),
        ({"resource": {"host.name": "h"}}, {"sent.resource": {"host.name": "h"}}),
        ({"body": {"a": [1, None]}}, {"body": {"a": [1, None]}}),
        ({"body": "text"}, {"body": "text"}),
        (
            {"trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174"},
            {"trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174"},
        ),
        ({"span_id": "eee19b7ec3c1b174"}, {"span_id": "eee19b7ec3c1b174"}),
        ({"event.name": "n", "service.version": "v"}, {"event.name": "n", "service.version": "v"}),
        ({"event.category": "business"}, {"sent.event.category": "business"}),
        ({"large": 2**64 - 1}, {"large": str(2**64 - 1)}),
    ],
)
def test_a_property_of_a_name_that_means_something_arrives(
    encoding: str, stored: dict[str, Any], arrived: dict[str, Any]
):
    (record,) = received(encoding, event(properties=json.dumps(stored)))
    assert same(json.loads(record.properties), arrived | {"resource": RESOURCE})


@both_encodings
@pytest.mark.parametrize("level", ["info", "warning", "critical", "Warn", "chatty", None])
def test_a_level_arrives_as_it_is(encoding: str, level: str | None):
    (record,) = received(encoding, event(level=level))
    assert record.level == level


@both_encodings
def test_stored_events_are_stored_again(service: Service, project: Project, encoding: str) -> None:
    """With pseudonyms of their pseudonyms."""
    nested = {"list": [1, 2.5, None, {"a": {}}], "large": 2**63, "float": 1e300, "ok": True}
    sent = [
        native("paid", level="warn", message="Paid.", category="business", properties=nested),
        native("opened", session_id="s-1", properties={"user.id": "u", "requestId": 5}),
        native("closed", user_id=None, session_id="s-1"),
    ]
    line = {"level": "error", "scope": "cart", "sessionId": "s-2", "message": "Failed."}
    context = {"action": "click", "userId": "u-2"}
    page = [line | {"timestamp": moment(), "requestId": "r-1", "context": context}]
    Row.objects.filter(slug=project.project).update(users_optional=True)
    accepted(send(service, project, {"events": sent, "client_version": "1.2.3"}))
    send(service, project, {"events": page}, path="/api/client-telemetry")
    stored = [EventRow(*row) for row in rows_of(service, project, COLUMNS, "ingest_event", 4)]

    other = another_project()
    export(service, other, logs(PROJECT, stored), encoding, "/otlp/v1/logs")

    pseudonyms = Pseudonyms(settings.PEPPER, Row.objects.get(slug=other.project).pk)
    again = [EventRow(*row) for row in rows_of(service, other, COLUMNS, "ingest_event", 4)]
    for row, found in zip(stored, again, strict=True):
        assert found.occurred_at == row.occurred_at
        assert found.subject == (row.subject and pseudonyms.subject(row.subject.hex()))
        assert found.session == (row.session and pseudonyms.session(row.session.hex()))
        for field in ("name", "category", "level", "scope", "client_version", "message"):
            assert getattr(found, field) == getattr(row, field), field
        expected = as_attribute(json.loads(row.properties)) | {"resource": RESOURCE}
        if "user.id" in expected:
            expected["sent.user.id"] = expected.pop("user.id")
        assert same(as_attribute(json.loads(found.properties)), expected)
