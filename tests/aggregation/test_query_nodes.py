"""`GET /v1/query/nodes`: the latest snapshot of each node."""

import pytest

from aggregation import sealing
from aggregation.models import Kind, Level, Seal
from aggregation.queries import nodes
from tests.aggregation.planting import (
    DAY,
    HOUR,
    Measured,
    answered,
    ask,
    month,
    plant_points,
    today,
)
from tests.harness import Project, Service
from tests.ingest.traces import project_id


def gauge(field: str, node: str, value: float, ago: int = 1) -> Measured:
    return Measured(today(ago, hour=5), [value], node, name=f"node.{field}")


def test_the_latest_snapshot_of_each_node(service: Service, project: Project) -> None:
    plant_points(
        project,
        gauge("cpu_percent", "b", 10, ago=2),
        gauge("gone", "b", 1, ago=2),
        gauge("cpu_percent", "b", 45.2),
        gauge("memory_percent", "b", 67.8),
        gauge("cpu_percent", "a", 3, ago=1),
        Measured(today(), [1], "b", name="nodes"),
        Measured(today(), [1], "c", name="node.requests", kind="counter"),
    )
    answer = answered(service, project, "nodes")
    at = f"{today(1, hour=5):%Y-%m-%dT%H:%M:%SZ}"
    assert answer["nodes"] == [
        {"node_id": "a", "timestamp": at, "fields": {"cpu_percent": 3}},
        {"node_id": "b", "timestamp": at, "fields": {"cpu_percent": 45.2, "memory_percent": 67.8}},
    ]
    assert {"complete_until", "clean_until"} < answer.keys()


def test_a_node_that_fell_silent_is_still_there(service: Service, project: Project) -> None:
    plant_points(project, gauge("cpu_percent", "a", 3, ago=20))
    (node,) = answered(service, project, "nodes")["nodes"]
    assert node["timestamp"] == f"{today(20, hour=5):%Y-%m-%dT%H:%M:%SZ}"


def test_what_somebody_is_named_in_is_not_a_nodes(service: Service, project: Project) -> None:
    plant_points(project, Measured(today(1), [1], "a", people=[1], name="node.cpu_percent"))
    assert answered(service, project, "nodes")["nodes"] == []


def test_what_sealing_left_of_somebodys_is_no_snapshot(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(nodes._LOOKED_AT, Level.DAY, 100 * DAY)
    start = month()
    plant_points(
        project,
        Measured(start, [1], "a", people=range(6), name="node.cpu_percent"),
        Measured(start + DAY, [1], "a", people=range(2), name="node.cpu_percent"),
    )
    seal = Seal.objects.create(project_id=project_id(project), kind=Kind.POINTS, month=start)
    list(sealing.wipe(seal))
    assert nodes.latest(project_id(project)).snapshots == []


def test_nodes_as_csv_have_a_column_a_field(service: Service, project: Project) -> None:
    plant_points(project, gauge("cpu_percent", "=b", 1), gauge("load_avg_1m", "a", 2.5))
    answer = ask(service, project, "nodes", format="csv")
    at = today(1, hour=5).isoformat()
    assert answer.text.split("\r\n") == [
        "node_id,timestamp,cpu_percent,load_avg_1m",
        f"'=b,{at},1.0,",
        f"a,{at},,2.5",
        "",
    ]


def test_nodes_of_other_hours_of_today(service: Service, project: Project) -> None:
    """A day's rollup may be behind its hours."""
    from aggregation.models import MetricDay, MetricMonth

    plant_points(project, Measured(today() + 0 * HOUR, [1], "a", name="node.x"))
    plant_points(project, Measured(today() - 40 * DAY, [1], "old", name="node.x"))
    for table in (MetricDay, MetricMonth):
        table.objects.filter(project_id=project_id(project)).delete()
    assert {node["node_id"] for node in answered(service, project, "nodes")["nodes"]} <= {"a"}
