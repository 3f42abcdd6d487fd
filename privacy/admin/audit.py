"""The audit log in the admin: who did what with persons' data, and where its chain ends."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter

from ingest.admin.lists import NOTHING, moment, short
from ingest.models import Project
from privacy.audit import ACTIONS, current_head
from privacy.models import AuditEntry
from telemetry_site.pages import ListPage

_OPERATOR = "operator #"


class _Choice(DropdownFilter):  # type: ignore[misc]
    """A field that equals what is chosen."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(**{self.parameter_name: value}) if value else queryset


class ActionFilter(_Choice):
    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return ACTIONS.items()


class ProjectFilter(_Choice):
    title = "project"
    parameter_name = "project_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        projects = Project.objects.order_by("slug").values_list("pk", "slug")
        return [(str(pk), slug) for pk, slug in projects]


class OperatorFilter(_Choice):
    title = "operator"
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        users = User.objects.filter(is_staff=True).order_by("username")
        return [(f"{_OPERATOR}{pk}", name) for pk, name in users.values_list("pk", "username")]


@admin.register(AuditEntry)
class AuditPage(ListPage):
    list_display = ("number", "done", "what", "by", "in_project", "on", "more")
    list_display_links = None
    list_filter = (ActionFilter, ProjectFilter, OperatorFilter)
    list_before_template = "admin/privacy/auditentry/head.html"
    # Index: the key, or audit_of_a_project, audit_of_an_action.
    ordering = ("-number",)
    sortable_by = ()
    empty = "Nothing was done with persons' data yet. What is done is written down here for good."

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._names = dict(User.objects.values_list("pk", "username"))
        self._projects = dict(Project.objects.values_list("pk", "slug"))
        context = {"title": "Audit log", "head": current_head(), **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description="at (UTC)")
    def done(self, entry: AuditEntry) -> SafeString:
        return moment(entry.at)

    @admin.display(description="what")
    def what(self, entry: AuditEntry) -> str:
        # An earlier version may have had others.
        return ACTIONS.get(entry.action, entry.action)

    @admin.display(description="by")
    def by(self, entry: AuditEntry) -> str:
        number = entry.actor.removeprefix(_OPERATOR)
        known = entry.actor.startswith(_OPERATOR) and number.isdecimal()
        return self._names.get(int(number), entry.actor) if known else entry.actor

    @admin.display(description="project")
    def in_project(self, entry: AuditEntry) -> str:
        if entry.project_id is None:
            return NOTHING
        return self._projects.get(entry.project_id, f"#{entry.project_id}")

    @admin.display(description="object")
    def on(self, entry: AuditEntry) -> SafeString:
        return short(entry.object)

    @admin.display(description="details")
    def more(self, entry: AuditEntry) -> str:
        return ", ".join(f"{name}: {value}" for name, value in entry.details.items())
