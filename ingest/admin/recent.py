"""Recent events of a project, as they arrive. Opening the page is recorded, its refreshing not."""

from dataclasses import asdict
from typing import Any

from django.contrib import admin
from django.core import signing
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from ingest.admin.lists import STATE_LABELS, duration, outcomes
from ingest.formats import NAMES
from ingest.models import Event, MetricPoint, Project
from ingest.recent import Arrival, Arrivals, Asked, arrivals
from telemetry_site.pages import Page, record

# Of a batch so many events are shown, and so many characters of each.
ROWS_SHOWN = 10
CHARACTERS_SHOWN = 300
# An opened page refreshes itself for so long; then looking is recorded anew.
OPENED_SECONDS = 8 * 3600
_SALT = "recent events"
# Ends htmx's polling.
_STOP = 286


class RecentEvents(Page):
    template = "admin/ingest/event/recent.html"
    title = "Recent events"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="ingest_event_changelist"),
            path("latest/", view(self.latest), name="ingest_event_latest"),
        ]

    def context(self, request: HttpRequest) -> dict[str, Any]:
        asked = _asked(request)
        context: dict[str, Any] = {
            "projects": Project.objects.order_by("slug"),
            "formats": NAMES,
            "asked": asked,
        }
        if asked is None:
            return context
        project = Project.objects.filter(pk=asked.project).first()
        if project is None:
            raise BadRequest
        record(
            request,
            Event,
            f"looked at recent events of {project.slug}",
            of=project.slug,
            audit_as="events.looked_at",
        )
        opened = signing.dumps({**asdict(asked), "by": request.user.pk}, salt=_SALT)
        return {**context, "opened": opened, **_shown(arrivals(asked))}

    def latest(self, request: HttpRequest) -> HttpResponse:
        """The same again, for a page that was opened and recorded: its token says so."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            opened = signing.loads(
                request.GET.get("opened", ""), salt=_SALT, max_age=OPENED_SECONDS
            )
        except signing.SignatureExpired:
            return HttpResponse("<p>Reload the page to go on looking.</p>", status=_STOP)
        except signing.BadSignature:
            raise PermissionDenied from None
        if opened.pop("by") != request.user.pk:
            raise PermissionDenied
        return TemplateResponse(
            request, "admin/ingest/event/arrivals.html", _shown(arrivals(Asked(**opened)))
        )


def _asked(request: HttpRequest) -> Asked | None:
    """What the form asks for; None before a project is chosen."""
    project = request.GET.get("project", "")
    if not project:
        return None
    if not project.isdecimal() or len(project) > 9:
        raise BadRequest
    words = {name: request.GET.get(name, "").strip()[:200] for name in ("batch", "name", "format")}
    return Asked(int(project), **words)


def _shown(found: Arrivals) -> dict[str, Any]:
    return {"arrivals": [_block(one) for one in found.latest], "complete": found.complete}


def _block(arrival: Arrival) -> dict[str, Any]:
    batch = arrival.batch
    return {
        "batch": batch,
        "label": STATE_LABELS[batch.state],
        "outcomes": outcomes(batch),
        "after": duration(batch.stored_at - batch.received_at) if batch.stored_at else "",
        "rows": [_line(row) for row in arrival.rows[:ROWS_SHOWN]],
        "others": arrival.others + len({row.position for row in arrival.rows[ROWS_SHOWN:]}),
    }


def _line(row: Event | MetricPoint) -> dict[str, Any]:
    """One event or measurement; a person is a short pseudonym."""
    if isinstance(row, Event):
        kind, parts = row.category, (row.level, row.message, _pairs(row.properties))
    else:
        kind, parts = row.kind, (_number(row), row.node, _pairs(row.tags))
    return {
        "occurred_at": row.occurred_at,
        "name": row.name,
        "kind": kind,
        "subject": bytes(row.subject).hex()[:8] if row.subject else "",
        "content": _cut(" ".join(filter(None, parts))),
    }


def _number(point: MetricPoint) -> str:
    """What was measured: a value, a summary (of buckets too), or samples."""
    if point.value is not None:
        return f"{point.value:g}"
    if point.samples is not None and point.weights is None:
        return ", ".join(f"{sample:g}" for sample in point.samples)
    return f"{point.count} of {point.min} to {point.max}, sum {point.sum}"


def _pairs(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fields.items())


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[:CHARACTERS_SHOWN]}…"


# `register` refuses a composite key, which Django's lists and forms can't handle. This is neither.
admin.site._registry[Event] = RecentEvents(Event, admin.site)
