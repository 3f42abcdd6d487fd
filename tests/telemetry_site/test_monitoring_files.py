"""What is made from the tables of metrics and alerts: committed as made, and usable."""

import ast
import json
import re
from itertools import pairwise
from typing import Any

import pytest
import yaml

from telemetry_site import checks
from telemetry_site.monitoring import __name__ as package
from telemetry_site.monitoring.alerts import ALERTS, RUNBOOK, Alert
from telemetry_site.monitoring.documents import FILES, names_in
from telemetry_site.monitoring.table import COUNTER, GAUGE, HISTOGRAM, METRICS, Metric
from tests.harness import ROOT

# Whatever says who, or takes any value that somebody sends.
FORBIDDEN = {"project", "user", "key", "address", "ip", "network", "path", "url", "method", "id"}
PANELS = [panel for metric in METRICS.values() for panel in metric.panels]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/telemetry.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
SCRAPING: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())


@pytest.mark.parametrize("file", FILES)
def test_the_committed_file_is_what_the_tables_make(file: str) -> None:
    made = FILES[file]()
    assert (ROOT / file).read_text() == made, f"run python -m {package}"


# --- the table ---


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_named_and_described_as_prometheus_has_it(metric: Metric) -> None:
    assert re.fullmatch(r"telemetry(_[a-z]+)+", metric.name)
    assert metric.type in {COUNTER, GAUGE, HISTOGRAM}
    assert (metric.type == COUNTER) == metric.name.endswith("_total")
    assert metric.name.endswith("_seconds") == (metric.unit == "seconds")
    assert metric.help.endswith(".")
    assert len(metric.help) < 200
    assert not FORBIDDEN & set(metric.labels)
    assert bool(metric.buckets) == (metric.type == HISTOGRAM)
    assert all(lower < upper for lower, upper in pairwise(metric.buckets))


def test_what_the_code_counts_and_asks_is_the_table() -> None:
    def mentioned(module: str) -> set[str]:
        tree = ast.parse((ROOT / f"telemetry_site/monitoring/{module}.py").read_text())
        words = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        return {word for word in words if re.fullmatch(r"telemetry(_[a-z]+)+", str(word))}

    modules = {"telemetry_site"}
    counted = {name for name, metric in METRICS.items() if not metric.asked}
    assert mentioned("instruments") - modules == counted
    assert mentioned("figures") - modules == METRICS.keys() - counted


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_shown_or_wakes_somebody(name: str) -> None:
    queries = [query for panel in PANELS for query, _ in panel.queries]
    expressions = [alert.expression for alert in ALERTS]
    assert any(name in names_in(text) for text in queries + expressions)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("rate(telemetry_task_seconds_bucket[5m])", {"telemetry_task_seconds"}),
        (
            "telemetry_task_seconds_sum / telemetry_x_count",
            {"telemetry_task_seconds", "telemetry_x"},
        ),
        ('telemetry_tasks_total{task="a"}', {"telemetry_tasks_total"}),
        ('up{job="telemetry"} == 0', set()),
    ],
)
def test_the_names_in_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


# --- the dashboard ---


def check_expression(expression: str) -> None:
    """It asks for what there is, by labels that there are."""
    names = names_in(expression)
    assert names <= METRICS.keys()
    labels = {label for name in names for label in METRICS[name].labels} | {"le", "job"}
    matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = ",".join(re.findall(r"by \(([^)]*)\)", expression)).replace(",", " ").split()
    assert {*matched, *grouped} <= labels, expression
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing), expression


def shown() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_the_dashboard_asks_for_what_there_is() -> None:
    for panel in shown():
        for target in panel["targets"]:
            check_expression(target["expr"])
            assert names_in(target["expr"]), target


def test_the_dashboard_takes_whatever_prometheus_there_is() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    for panel in shown():
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"]["uid"] == f"${{{variable['name']}}}"


def test_the_dashboards_rows_are_those_that_operators_look_for() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Intake",
        "Storage",
        "Forwarding",
        "Tasks",
        "Limits",
        "Privacy",
        "Rollups",
        "Health",
    ]


def test_the_dashboards_panels_have_numbers_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        squares = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & squares, panel["title"]
        taken |= squares


# --- the alerts ---


@pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])
def test_an_alert_asks_for_what_there_is(alert: Alert) -> None:
    check_expression(alert.expression)
    assert alert.expression.startswith("up{") or names_in(alert.expression)
    assert re.fullmatch(r"[0-9]+[smh]", alert.lasting)
    assert alert.severity in {"warning", "critical"}
    assert alert.summary.endswith(".")


def test_every_check_wakes_somebody_when_it_fails() -> None:
    expressions = " ".join(alert.expression for alert in ALERTS)
    assert set(re.findall(r'check="(\w+)"', expressions)) == checks.CHECKS.keys()


def test_the_rules_are_the_alerts_and_lead_to_the_runbook() -> None:
    (group,) = RULES["groups"]
    for rule, alert in zip(group["rules"], ALERTS, strict=True):
        assert rule == {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasting,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook_url": RUNBOOK},
        }
    page, _, anchor = RUNBOOK.partition("#")
    titles = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_the_example_scrapes_where_the_metrics_are_with_the_alerts_beside_it() -> None:
    (job,) = SCRAPING["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("telemetry", "/metrics")
    assert job["authorization"]["type"] == "Bearer"
    assert SCRAPING["rule_files"] == ["alerts.yml"]
    assert (ROOT / "deploy/prometheus/alerts.yml").is_file()
