"""A project's privacy rules over HTTP: in every format, and as soon as they are changed."""

from typing import Any
from uuid import uuid4

import pytest

from ingest.models import Event, MetricPoint
from ingest.models import Project as Row
from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, moment, send, settled, status
from tests.ingest.traces import project_id, traces

RULES = [
    {"property": "serial", "do": "drop"},
    {"property": "licence", "do": "hash"},
    {"property": "age", "do": "bucketise", "edges": [18, 65]},
    {"property": "at", "do": "truncate_time", "to": "day"},
    {"property": "version", "do": "generalise", "segments": 2},
]
LEFT = {"age": "18-65", "at": "2026-11-21T00:00:00Z", "version": "1.2"}


def sent(secret: str) -> dict[str, Any]:
    return {
        "serial": {"deep": [secret]},
        "licence": f"L-{secret}",
        "age": 42,
        "at": "2026-11-21T10:30:00Z",
        "version": "1.2.3",
    }


def rule(project: Project, rules: list[Any]) -> None:
    row = Row.objects.get(slug=project.project)
    row.privacy_rules = rules
    row.save(update_fields=["privacy_rules"])


def bodies(secret: str) -> dict[str, dict[str, Any]]:
    """A batch in each format that has properties, by its path."""
    about = {"batch_id": str(uuid4())}
    log = {"level": "info", "scope": "page", "sessionId": "s-1", "message": "told",
           "timestamp": moment(), "context": sent(secret)}  # fmt: skip
    mine = {"eventType": "opened", "timestamp": moment(), "userId": "u-1",
            "eventData": sent(secret)}  # fmt: skip
    tags = {"name": "depth", "type": "gauge", "value": 1,
            "tags": {**sent(secret), "serial": secret}}  # fmt: skip
    return {
        "/v1/events": batch(event(properties=sent(secret))),
        "/v1/submit": {**about, "events": [mine]},
        "/api/client-telemetry": {**about, "events": [log]},
        "/v1/metrics": {**about, "metrics": [tags]},
    }


def stored(service: Service, project: Project, batch_id: str) -> dict[str, Any]:
    """The properties, or the tags, of the one item of a batch."""
    assert settled(service, project, batch_id)["state"] == "stored"
    number = project_id(project)
    found = [
        *Event.objects.filter(project_id=number).values_list("properties", flat=True),
        *MetricPoint.objects.filter(project_id=number).values_list("tags", flat=True),
    ]
    (one,) = found
    return dict(one)


@pytest.mark.parametrize("path", bodies(""))
def test_rules_hold_in_every_format_and_leave_no_trace(
    service: Service, project: Project, path: str
) -> None:
    rule(project, RULES)
    secret = f"planted{uuid4().hex}"
    body = bodies(secret)[path]
    assert send(service, project, body, path=path).status in {200, 204}
    found = stored(service, project, body["batch_id"])
    assert found.pop("licence").startswith("[hash:")
    assert found == LEFT
    assert not traces(service, secret)


def test_keep_list_leaves_what_it_names(service: Service, project: Project) -> None:
    rule(project, [{"keep": ["version", "message"]}])
    body = batch(event(properties=sent("x"), message="told"), client_version="9.9")
    accepted(send(service, project, body))
    assert stored(service, project, body["batch_id"]) == {"version": "1.2.3"}
    one = Event.objects.get(project_id=project_id(project))
    assert (one.message, one.client_version) == ("told", None)


def test_scrubbing_comes_first_and_learns_ids_from_what_rules_drop(
    service: Service, project: Project
) -> None:
    other = f"user-{uuid4().hex}"
    properties = {"user_id": other, "note": f"met {other}", "mail": "alice@example.com"}
    nested = batch(event(properties={"inner": properties}))
    rule(project, [{"property": "*.user_id", "do": "drop"},
                   {"property": "*.mail", "do": "generalise", "segments": 1}])  # fmt: skip
    accepted(send(service, project, nested))
    found = stored(service, project, nested["batch_id"])["inner"]
    assert set(found) == {"note", "mail"}
    assert found["note"].startswith("met subject:")
    assert found["mail"] == "[email]"


def test_rules_hold_at_once_and_are_lifted_at_once(service: Service, project: Project) -> None:
    def left() -> dict[str, Any]:
        name = f"opened-{uuid4().hex}"
        body = batch(event(name, properties={"serial": "s", "a": 1}))
        # The process hears of a change when it next asks the counters.
        assert service.request("POST", "/v1/events", b"").status == 401
        accepted(send(service, project, body, {"X-User-ID": uuid4().hex}))
        settled(service, project, body["batch_id"])
        return dict(Event.objects.get(project_id=project_id(project), name=name).properties)

    assert left() == {"serial": "s", "a": 1}
    rule(project, RULES)
    assert left() == {"a": 1}
    rule(project, [])
    assert left() == {"serial": "s", "a": 1}


def test_rebuilt_batch_is_known_by_what_was_sent(service: Service, project: Project) -> None:
    """Two batches that differ in what the rules drop are two; the same one again is not."""
    rule(project, RULES)
    one = event(properties={"serial": "a"})
    first, other, again = (
        batch({**one, "properties": {"serial": secret}}) for secret in ("a", "b", "a")
    )
    for body in (first, other, again):
        accepted(send(service, project, body))
    for body, state in ((first, "stored"), (other, "stored"), (again, "duplicate")):
        assert settled(service, project, body["batch_id"])["state"] == state
    assert status(service, project, first["batch_id"]).status == 200


def test_nothing_is_stored_under_rules_that_cant_be_read(
    service: Service, project: Project
) -> None:
    """As only somebody with the database's password can write them."""
    rule(project, [{"property": "a", "do": "obscure"}])
    assert service.request("POST", "/v1/events", b"").status == 401
    assert send(service, project, batch(event(properties={"a": 1}))).status == 500
    rule(project, [])
    assert service.request("POST", "/v1/events", b"").status == 401
    good = send(service, project, batch(event("after")))
    settled(service, project, accepted(good))
    names = Event.objects.filter(project_id=project_id(project)).values_list("name", flat=True)
    assert [*names] == ["after"]
