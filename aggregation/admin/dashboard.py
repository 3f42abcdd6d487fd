"""A project's numbers over time: the dashboard, and the files of its panels.

What it shows is what `aggregation.queries` releases, to whoever may look at what is counted.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from typing import Any
from zoneinfo import available_timezones

from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from rest_framework.exceptions import ValidationError

from aggregation.dashboard import page
from aggregation.dashboard.asked import NUMBERS, RANGES, Asked, sentence
from aggregation.dashboard.panels import A_BUCKET
from aggregation.queries import events, metrics, nodes, parameters
from aggregation.queries.answers import Answer, Nodes
from aggregation.queries.parameters import INTERVALS
from aggregation.queries.spans import Span
from aggregation.spreadsheets import csv_response
from ingest.models import Project
from telemetry_site.pages import ModelAdmin

# What the files of panels are asked of: the questions of the query API.
FILES: dict[str, Callable[[QueryDict, int], Answer | Nodes]] = {
    "events": lambda query, project: events.over_time(parameters.events(query, project)),
    "metrics": lambda query, project: metrics.over_time(parameters.metrics(query, project)),
    "nodes": lambda query, project: nodes.latest(project),
}


def urls(of: ModelAdmin) -> list[URLPattern]:
    """The dashboard's addresses, below a model's admin whose permission it takes."""
    view = of.admin_site.admin_view
    return [
        path("dashboard/", view(partial(_dashboard, of)), name="aggregation_dashboard"),
        path("dashboard/file/", view(partial(_file, of)), name="aggregation_dashboard_file"),
    ]


def _dashboard(of: ModelAdmin, request: HttpRequest) -> HttpResponse:
    _check(of, request)
    projects = list(Project.objects.order_by("slug"))
    context: dict[str, Any] = {"projects": projects}
    if projects:
        project = _chosen(request, projects)
        context |= {"project": project, **_shown(Asked.of(project.pk, request.GET))}
    return TemplateResponse(
        request,
        "admin/aggregation/dashboard/page.html",
        {**of.admin_site.each_context(request), "title": "Dashboard", **context},
    )


def _file(of: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """What a panel shows as CSV, as the query API has it."""
    _check(of, request)
    query = request.GET.copy()
    project = _chosen(request, list(Project.objects.all()))
    what = query.get("what", "")
    if what not in FILES:
        raise BadRequest
    for name in ("project", "what"):
        query.pop(name, None)
    try:
        answer = FILES[what](query, project.pk)
    except ValidationError as refusal:
        return HttpResponse(sentence(refusal), status=400, content_type="text/plain")
    return csv_response(f"{project.slug}-{what}", answer.json, answer.table)


def _check(of: ModelAdmin, request: HttpRequest) -> None:
    if not of.has_view_permission(request):
        raise PermissionDenied


def _chosen(request: HttpRequest, projects: list[Project]) -> Project:
    """The project that the address names, the first where it names none."""
    text = request.GET.get("project", "")
    for project in projects:
        if text in ("", str(project.pk)):
            return project
    raise BadRequest


def _shown(asked: Asked) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "asked": asked,
        "ranges": [
            (asked.link(range=name, **{"from": "", "to": ""}), name, range.words)
            for name, range in RANGES.items()
        ],
        "intervals": INTERVALS,
        "numbers": NUMBERS,
        "zones": _zones(),
        "everything": asked.link(event=""),
    }
    try:
        found = page.look(asked)
        return {**shown, "dashboard": found, **_words(found)}
    except ValidationError as refusal:
        return {**shown, "wrong": sentence(refusal)}


def _words(dashboard: page.Dashboard) -> dict[str, Any]:
    """Times as the zone's clocks show them."""
    span, standing = dashboard.span, dashboard.standing
    return {
        "first": _clock(span, span.start),
        "last": _clock(span, span.end),
        "complete_until": _clock(span, standing.complete_until),
        "clean_until": _clock(span, standing.clean_until),
        "unit": span.level.label.lower(),
        "per": A_BUCKET[span.level] if len(span.starts) > 1 else "",
    }


def _clock(span: Span, moment: datetime) -> str:
    return f"{span.local(moment):%Y-%m-%d %H:%M}"


@cache
def _zones() -> list[str]:
    """What is offered; others that the database has are taken as well."""
    named = {name for name in available_timezones() if "/" in name and name[:3] != "Etc"}
    return ["UTC", *sorted(named)]
