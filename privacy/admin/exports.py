"""Copies of persons' data that were asked for."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.decorators import display

from ingest.admin.lists import NOTHING, moment, short, size
from privacy.models import ExportRequest
from telemetry_site.pages import ListPage

LABELS = {
    "waiting": "info",
    "running": "info",
    "done": "success",
    "failed": "danger",
    "expired": "default",
}


@admin.register(ExportRequest)
class ExportsPage(ListPage):
    list_display = ("named", "project", "in_state", "asked", "found", "size", "until", "error")
    list_display_links = None
    list_filter = ("state", "project")
    list_select_related = ("project",)
    ordering = ("-requested_at",)
    sortable_by = ()
    empty = "Nobody has asked for a copy of their data yet."

    @admin.display(description="request")
    def named(self, request: ExportRequest) -> SafeString:
        return short(request.pk)

    @display(description="state", label=LABELS)
    def in_state(self, request: ExportRequest) -> str:
        return request.state

    @admin.display(description="asked for (UTC)")
    def asked(self, request: ExportRequest) -> SafeString:
        return moment(request.requested_at)

    @admin.display(description="found")
    def found(self, request: ExportRequest) -> str:
        return f"{request.events:,} events, {request.points:,} measurements"

    @admin.display(description="size")
    def size(self, request: ExportRequest) -> str:
        return size(request.bytes)

    @admin.display(description="kept until (UTC)")
    def until(self, request: ExportRequest) -> SafeString | str:
        return moment(request.expires_at) if request.expires_at else NOTHING
