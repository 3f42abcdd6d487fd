"""What is made from the tables: the list of metrics for people, the dashboard, the alerts."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any

from telemetry_site.monitoring.alerts import ALERTS, RUNBOOK, Alert
from telemetry_site.monitoring.table import METRICS, Metric, Panel

COMMAND = "python -m telemetry_site.monitoring"
# What follows a histogram's name in a query.
_NAME = re.compile(r"\btelemetry_\w+?(?=(?:_bucket|_sum|_count)?\b)")
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    return set(_NAME.findall(expression))


# --- docs/metrics.md ---


def metrics_page() -> str:
    """All metrics and alerts as tables."""
    metrics = "\n".join(_metric_row(metric) for metric in METRICS.values())
    alerts = "\n".join(_alert_row(alert) for alert in ALERTS)
    return f"""\
# Metrics

What `GET /metrics` tells; [operations](operations.md#metrics) has how to scrape it. This page is
made by `{COMMAND}`, and so are the dashboard and the alerts in `deploy/`.

No label says who: there is no project, key, person, address or raw path among them. What is
*counted* is the sum over all processes of the `manage.py up` that answers, since its start. What is
*asked* is looked up when somebody scrapes, at most every five seconds; each `up` on the same
database says the same of it. A histogram has `_bucket`, `_sum` and `_count`, as usual.

| metric | type | labels | in | what it says | how | alerts |
| --- | --- | --- | --- | --- | --- | --- |
{metrics}

## Alerts

| alert | severity | fires when | has held for | says |
| --- | --- | --- | --- | --- |
{alerts}
"""


def _metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    alerts = ", ".join(a.name for a in ALERTS if metric.name in names_in(a.expression))
    how = "asked" if metric.asked else "counted"
    words = (f"`{metric.name}`", metric.type, labels, metric.unit, metric.help, how, alerts)
    return _row(words)


def _alert_row(alert: Alert) -> str:
    expression = f"`{alert.expression}`"
    return _row((alert.name, alert.severity, expression, alert.lasting, alert.summary))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# --- deploy/prometheus/alerts.yml ---


def alert_rules() -> str:
    """Prometheus' rules. Strings are written as JSON has them, which YAML takes."""
    rules = "".join(
        f"""\
      - alert: {alert.name}
        expr: {json.dumps(alert.expression)}
        for: {alert.lasting}
        labels:
          severity: {alert.severity}
        annotations:
          summary: {json.dumps(alert.summary)}
          runbook_url: {RUNBOOK}
"""
        for alert in ALERTS
    )
    return f"""\
# Made by `{COMMAND}` from telemetry_site/monitoring/alerts.py.
groups:
  - name: telemetry
    rules:
{rules}"""


# --- deploy/grafana/telemetry.json ---


def dashboard() -> str:
    """A dashboard for Grafana, whatever its Prometheus is called."""
    content = {
        "title": "Telemetry",
        "uid": "telemetry",
        "tags": ["telemetry"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "timezone": "browser",
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [_datasource_variable()]},
        "panels": [
            {**panel, "id": number} for number, panel in enumerate(_placed_panels(), start=1)
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def _datasource_variable() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _placed_panels() -> Iterator[dict[str, Any]]:
    """A row of the dashboard after the other, each with its panels three abreast."""
    panels = [panel for metric in METRICS.values() for panel in metric.panels]
    y = 0
    for row, in_row in groupby(panels, key=lambda panel: panel.row):
        yield {
            "type": "row",
            "title": row,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
            "panels": [],
        }
        y += 1
        x = 0
        for panel in in_row:
            if x == _COLUMNS:
                x, y = 0, y + _HEIGHT
            yield _panel(panel, {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT})
            x += _WIDTH
        y += _HEIGHT


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": _described(panel),
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _described(panel: Panel) -> str:
    """What the panel's metrics say, each once, in the order of its queries."""
    names = {name: None for expression, _ in panel.queries for name in names_in(expression)}
    return " ".join(METRICS[name].help for name in names)


# Where each is kept, from the repository's root.
FILES: Mapping[str, Callable[[], str]] = {
    "docs/metrics.md": metrics_page,
    "deploy/prometheus/alerts.yml": alert_rules,
    "deploy/grafana/telemetry.json": dashboard,
}
