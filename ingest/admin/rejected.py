"""Rejected events: which, why, and how they looked; and the batches refused as a whole."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display

from ingest.admin.lists import (
    BoundedListPage,
    DayFilter,
    FormatFilter,
    ProjectFilter,
    moment,
)
from ingest.models import Batch, RejectedEvent
from ingest.selections import Looked, Selection, look

# The latest that the counts by code are of.
COUNTED = 10_000


class CodeFilter(TextFilter):  # type: ignore[misc]
    title = "code"
    parameter_name = "code"

    def queryset(self, request: HttpRequest, queryset: Any) -> None:
        return None


class FieldFilter(CodeFilter):
    title = "field"
    parameter_name = "field"


class KeptDayFilter(DayFilter):
    days = settings.REJECTED_RETENTION_DAYS + 1


@admin.register(RejectedEvent)
class RejectedPage(BoundedListPage):
    title = "Rejected events"
    list_display = (
        "at", "project_slug", "format", "coded", "field", "message", "position", "fields_sent",
    )  # fmt: skip
    list_filter = (ProjectFilter, FormatFilter, KeptDayFilter, CodeFilter, FieldFilter)
    list_before_template = "admin/ingest/rejectedevent/codes.html"
    empty = (
        f"No event was rejected in the last {settings.REJECTED_RETENTION_DAYS} days. What a client "
        "sends malformed is listed here, with the reason it was told."
    )

    def look(self, request: HttpRequest, term: str) -> Looked:
        return _look(request.GET.dict())

    def address(self, row: RejectedEvent) -> str:
        return reverse("admin:ingest_batch_change", args=[f"{row.day}-{row.batch}"])

    @admin.display(description="received (UTC)")
    def at(self, event: RejectedEvent) -> SafeString:
        return moment(event.received_at)

    @admin.display(description="project")
    def project_slug(self, event: RejectedEvent) -> str:
        return event.project.slug

    @display(description="code", label="warning")
    def coded(self, event: RejectedEvent) -> str:
        return event.code

    @admin.display(description="its fields")
    def fields_sent(self, event: RejectedEvent) -> SafeString:
        shape: Iterable[tuple[str, str]] = event.shape.items()
        return format_html_join(", ", '<span title="{1}">{0}</span>', shape)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        given = request.GET.dict()
        try:
            context = {
                "codes": _codes(given),
                "refused": _refused(given),
                "counted": COUNTED,
                **(extra_context or {}),
            }
        except ValueError:
            context = {}  # the list itself refuses it
        return super().changelist_view(request, context)

    def get_urls(self) -> list[URLPattern]:
        """The list alone: what there is to say of one event is said on its batch's page."""
        list_of_all = self.admin_site.admin_view(self.changelist_view)
        return [path("", list_of_all, name="ingest_rejectedevent_changelist")]


def _look(given: dict[str, str]) -> Looked:
    """Refused events, latest first: of a project by ingest_rejectedevent_batch, else by the key."""
    rows = RejectedEvent.objects.select_related("project")
    order = ("day", "id")
    if given.get("project"):
        rows, order = rows.filter(project=int(given["project"])), ("batch", "id")
    if given.get("day"):
        rows = rows.filter(day=date.fromisoformat(given["day"]))
    asked = {name: given[name] for name in ("format", "code", "field") if given.get(name)}
    return look(rows, order, Q(**asked))


def _codes(given: dict[str, str]) -> list[dict[str, Any]]:
    """How many of the latest were rejected for which reason."""
    found = _look({name: value for name, value in given.items() if name != "code"})
    return _counted(found.first(COUNTED, "code", "received_at"), given, {}, "code")


def _refused(given: dict[str, str]) -> list[dict[str, Any]]:
    """How many of the latest batches were refused as a whole, by reason."""
    asked = {name: given.get(name, "") for name in ("project", "format", "day")}
    whole = {**asked, "state": Batch.State.REJECTED.value}
    found = Selection.parse(whole).look()
    return _counted(found.first(COUNTED, "error", "received_at"), asked, whole, "error")


def _counted(
    rows: Iterable[tuple[str, datetime]], asked: dict[str, str], fixed: dict[str, str], name: str
) -> list[dict[str, Any]]:
    """Reasons with their number, the time of the latest, and a query that asks for them."""
    counts: Counter[str] = Counter()
    latest: dict[str, datetime] = {}
    for reason, received_at in rows:
        counts[reason] += 1
        latest.setdefault(reason, received_at)
    return [
        {
            "reason": reason,
            "count": count,
            "latest": latest[reason],
            "query": urlencode(
                {key: value for key, value in {**asked, **fixed, name: reason}.items() if value}
            ),
        }
        for reason, count in counts.most_common()
    ]
