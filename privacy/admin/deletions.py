"""Requests for erasure: which are due, which are late, what was erased."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from ingest.admin.asking import ask
from ingest.admin.lists import NOTHING, moment, short
from privacy import deletions
from privacy.models import DeletionRequest
from telemetry_site.pages import ListPage, Refused, operator, perform

LABELS = {
    "pending": "info",
    "running": "info",
    "completed": "success",
    "cancelled": "default",
    "failed": "danger",
    "overdue": "danger",
}
DUE = "due"


class StateFilter(DropdownFilter):  # type: ignore[misc]
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("open", "open"), ("overdue", "overdue"), *DeletionRequest.State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value in ("open", "overdue"):
            queryset = queryset.filter(state__in=DeletionRequest.OPEN)
            if value == "overdue":
                queryset = queryset.filter(requested_at__lt=timezone.now() - deletions.PROMISE)
            return queryset
        return queryset.filter(state=value) if value else queryset


@admin.register(DeletionRequest)
class DeletionsPage(ListPage):
    list_display = ("named", "project", "in_state", "asked", "begins", "promised", "ended", "error")
    list_filter = (StateFilter, "project")
    list_select_related = ("project",)
    ordering = ("-requested_at",)
    sortable_by = ()
    empty = "Nobody has asked to be erased yet. POST /v1/telemetry/delete does, or Persons here."

    @admin.display(description="request")
    def named(self, request: DeletionRequest) -> SafeString:
        return short(request.pk)

    @display(description="state", label=LABELS)
    def in_state(self, request: DeletionRequest) -> str:
        return "overdue" if request.is_overdue else request.state

    @admin.display(description="asked for (UTC)")
    def asked(self, request: DeletionRequest) -> SafeString:
        return moment(request.requested_at)

    @admin.display(description="begins (UTC)")
    def begins(self, request: DeletionRequest) -> SafeString:
        return moment(request.due_at)

    @admin.display(description="promised in")
    def promised(self, request: DeletionRequest) -> str:
        if request.state not in DeletionRequest.OPEN:
            return NOTHING
        left = (request.deadline - timezone.now()).days
        return f"{left} days" if left >= 0 else f"{-left} days ago"

    @admin.display(description="ended (UTC)")
    def ended(self, request: DeletionRequest) -> SafeString | str:
        return moment(request.finished_at) if request.finished_at else NOTHING

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "privacy_deletionrequest"
        return [
            path("<uuid:number>/run/", view(self.run), name=f"{name}_run"),
            path("<uuid:number>/cancel/", view(self.cancel), name=f"{name}_cancel"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """How far one request is, and its receipt."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        wish = _wish(object_id)
        may_act = request.user.has_perm("privacy.run_deletion")
        return self.detail(
            request,
            "admin/privacy/deletionrequest/detail.html",
            wish,
            f"Erasure {wish.pk}",
            wish=wish,
            label=LABELS["overdue" if wish.is_overdue else wish.state],
            facts=_facts(wish),
            receipt=wish.receipt,
            may_run=may_act and wish.state in (wish.State.PENDING, wish.State.FAILED),
            may_cancel=may_act and wish.state == wish.State.PENDING,
        )

    def run(self, request: HttpRequest, number: Any) -> HttpResponse:
        """Ask once more; let the erasure begin now."""
        wish = self._to_act_on(request, number)
        if request.method != "POST":
            lines = [
                "What is stored of the person is erased within a minute, and can't be brought "
                "back; the request can't be cancelled any more."
            ]
            return ask(self, request, f"Erase now: {wish.pk}", "Erase", lines=lines, danger=True)

        def run(request: HttpRequest) -> str:
            if not deletions.bring_forward(wish, operator(request)):
                raise Refused("It isn't pending any more.")
            return "The erasure begins within a minute."

        perform(request, DeletionRequest, run, of=str(wish.pk))
        return HttpResponseRedirect(_address(wish))

    def cancel(self, request: HttpRequest, number: Any) -> HttpResponse:
        """Ask once more; end the request before its erasure."""
        wish = self._to_act_on(request, number)
        if request.method != "POST":
            lines = ["Nothing is erased, and what the person sends is stored again."]
            return ask(self, request, f"Cancel {wish.pk}", "Cancel the erasure", lines=lines)

        def cancel(request: HttpRequest) -> str:
            try:
                deletions.cancel(wish, operator(request))
            except deletions.TooLate as error:
                raise Refused(f"It can't be cancelled any more: it is {error.state}.") from None
            return "The erasure is cancelled."

        perform(request, DeletionRequest, cancel, of=str(wish.pk))
        return HttpResponseRedirect(_address(wish))

    def _to_act_on(self, request: HttpRequest, number: Any) -> DeletionRequest:
        if not request.user.has_perm("privacy.run_deletion"):
            raise PermissionDenied
        return _wish(number)


def _wish(number: Any) -> DeletionRequest:
    try:
        return DeletionRequest.objects.select_related("project").get(pk=number)
    except (DeletionRequest.DoesNotExist, ValidationError):
        raise Http404 from None


def _address(wish: DeletionRequest) -> str:
    return reverse("admin:privacy_deletionrequest_change", args=[wish.pk])


def _moment(when: Any) -> str:
    return f"{when:%Y-%m-%d %H:%M}" if when else NOTHING


def _facts(wish: DeletionRequest) -> list[tuple[str, str]]:
    clock = _moment(wish.request_timestamp)
    return [
        ("Project", wish.project.slug),
        ("Asked for", f"{_moment(wish.requested_at)} UTC (the client's clock said {clock})"),
        ("Begins", f"{_moment(wish.due_at)} UTC"),
        ("Promised for", f"{_moment(wish.deadline)} UTC"),
        ("Begun", _moment(wish.started_at)),
        ("Ended", _moment(wish.finished_at)),
        ("Tries", str(wish.attempts)),
        ("Error", wish.error or NOTHING),
    ]
