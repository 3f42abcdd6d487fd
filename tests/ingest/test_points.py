"""Measurements on their way: from a request to rows, counted as what their clients sent."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import fields

from ingest.copying import TABLES
from ingest.models import Batch, Event, MetricPoint
from ingest.payloads import pack
from ingest.records import StoredPoint, StoredRecord
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import STORING_SECONDS, accepted, moment, send, settled

METRICS = "/v1/metrics"
SNAPSHOT = "/api/telemetry/snapshot"


def points(project: Project) -> list[MetricPoint]:
    found = MetricPoint.objects.filter(project__slug=project.project)
    return list(found.order_by("occurred_at", "position", "part"))


def metric(**fields: Any) -> dict[str, Any]:
    return {"name": "requests", "type": "counter", "value": 1, **fields}


def snapshot(**numbers: float) -> dict[str, Any]:
    return {"node_id": f"node-{uuid4().hex}", "timestamp": moment(), **numbers}


KINDS = [
    (metric(type="counter", value=3), {"kind": "counter", "value": 3.0, "cumulative": False}),
    (metric(type="counter", value=3, temporality="cumulative"), {"value": 3.0, "cumulative": True}),
    (metric(type="gauge", value=-1.5), {"kind": "gauge", "value": -1.5}),
    (metric(type="meter", value=2), {"kind": "meter", "value": 2.0}),
    (metric(type="histogram", value=[1, 2.5]), {"value": None, "samples": [1.0, 2.5]}),
    (metric(type="histogram", value=7), {"kind": "histogram", "samples": [7.0]}),
    (
        metric(type="summary", value={"count": 2, "sum": 3.5, "min": 1, "max": 2.5}),
        {
            "value": None,
            "samples": None,
            "weights": None,
            "count": 2,
            "sum": 3.5,
            "min": 1.0,
            "max": 2.5,
        },
    ),
]


@pytest.mark.parametrize(("sent", "columns"), KINDS, ids=[str(kind[1]) for kind in KINDS])
def test_each_kind_fills_its_columns(
    service: Service, project: Project, sent: dict[str, Any], columns: dict[str, Any]
) -> None:
    batch_id = accepted(send(service, project, {"metrics": [sent]}, path=METRICS))
    assert settled(service, project, batch_id)["stored"] == 1
    (point,) = points(project)
    assert {name: getattr(point, name) for name in columns} == columns


def test_metric_past_its_tables_retention_is_too_old(service: Service, project: Project) -> None:
    sent = [metric(timestamp=moment(timedelta(days=days))) for days in (29.9, 30.1)]
    answer = send(service, project, {"metrics": sent}, path=METRICS)
    assert settled(service, project, accepted(answer))["stored"] == 1
    (problem,) = answer.json["errors"]
    assert (problem["index"], problem["code"]) == (1, "too_old")
    assert "timestamp is more than 30 days ago" in problem["message"]


def test_metric_without_a_time_happened_when_it_came(service: Service, project: Project) -> None:
    batch_id = accepted(send(service, project, [metric()], path=METRICS))
    report = settled(service, project, batch_id)
    (point,) = points(project)
    assert point.occurred_at.isoformat() == report["received_at"].replace("Z", "+00:00")


def test_tags_and_node_are_kept_and_the_user_is_a_keyed_hash(
    service: Service, project: Project
) -> None:
    sent = metric(tags={"route": "/upload"}, user_id="somebody")
    batch_id = accepted(
        send(service, project, {"node_id": "10.1.2.3", "metrics": [sent]}, path=METRICS)
    )
    settled(service, project, batch_id)
    (point,) = points(project)
    assert (point.node, point.tags) == ("10.1.2.3", {"route": "/upload"})
    assert len(bytes(point.subject)) == 16


def test_snapshot_is_one_for_its_client_and_a_gauge_a_number_for_questions(
    service: Service, project: Project
) -> None:
    sent = snapshot(cpu_percent=45.2, process_count=234, gpu_percent=3)
    answer = send(service, project, sent, path=SNAPSHOT)
    batch_id = accepted(answer)
    assert (answer.json["received"], answer.json["accepted"]) == (1, 1)
    assert settled(service, project, batch_id)["stored"] == 1
    assert {(point.name, point.value) for point in points(project)} == {
        ("node.cpu_percent", 45.2),
        ("node.process_count", 234.0),
        ("node.gpu_percent", 3.0),
    }


def test_snapshot_sent_again_is_a_duplicate(service: Service, project: Project) -> None:
    sent = snapshot(cpu_percent=1)
    first = send(service, project, sent, path=SNAPSHOT)
    again = send(service, project, {**sent, "cpu_percent": 2}, path=SNAPSHOT)
    assert again.json["duplicate"] is True
    assert accepted(again) == accepted(first)
    settled(service, project, accepted(first))
    assert [point.value for point in points(project)] == [1.0]


def test_point_that_cannot_be_stored_makes_its_snapshot_dead_once(
    service: Service, project: Project
) -> None:
    """Two of its points are bad: that is one dead snapshot; the good point is stored."""
    batch_id = accepted(send(service, project, snapshot(a=1, b=2, c=3), path=SNAPSHOT))
    settled(service, project, batch_id)
    stored = points(project)
    poison = [_stored(point, name="bad\0") for point in stored[:2]] + [_stored(stored[2])]
    MetricPoint.objects.filter(batch_id=batch_id).delete()
    Batch.objects.filter(batch_id=batch_id).update(
        state=Batch.State.RECEIVED, stored=0, payload=pack(poison)
    )
    wait_for(
        lambda: Batch.objects.get(batch_id=batch_id).state == Batch.State.DEAD,
        STORING_SECONDS,
        "the snapshot to be dead",
    )
    batch = Batch.objects.get(batch_id=batch_id)
    assert (batch.received, batch.stored, batch.dead) == (1, 0, 1)
    assert len(points(project)) == 1


def test_events_and_points_of_one_group_are_stored_together(
    service: Service, project: Project
) -> None:
    event = {"event": "x", "timestamp": moment(), "user_id": uuid4().hex}
    sent = [
        accepted(send(service, project, event)),
        accepted(send(service, project, [metric()], path=METRICS)),
    ]
    for batch_id in sent:
        assert settled(service, project, batch_id)["state"] == "stored"
    assert Event.objects.filter(project__slug=project.project).count() == 1
    assert len(points(project)) == 1


@pytest.mark.parametrize("kind", [StoredRecord, StoredPoint])
def test_columns_of_a_table_follow_the_fields_of_its_records(kind: type) -> None:
    moments = {"occurred": "occurred_at", "started": "started_at"}
    names = [moments.get(field.name, field.name) for field in fields(kind)]
    assert list(TABLES[kind].columns) == names


def _stored(point: MetricPoint, **changes: Any) -> StoredPoint:
    values = {
        "position": point.position,
        "part": point.part,
        "occurred": int(point.occurred_at.timestamp() * 1_000_000),
        "name": point.name,
        "kind": point.kind,
        "subject": None,
        "node": point.node,
        "tags": b"{}",
        "cumulative": False,
        "value": point.value,
        "samples": None,
        "count": None,
        "sum": None,
        "min": None,
        "max": None,
    }
    return StoredPoint(**{**values, **changes})


def test_batch_id_of_a_snapshot_is_told_to_its_client(service: Service, project: Project) -> None:
    answer = send(service, project, snapshot(cpu_percent=1), path=SNAPSHOT)
    assert UUID(answer.json["batch_id"]).version == 5
