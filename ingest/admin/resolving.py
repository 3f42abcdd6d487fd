"""Deciding about all rows that match: started, watched and cancelled on the page of their list."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from django.core.exceptions import BadRequest, PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from ingest import resolutions
from ingest.admin.lists import BoundedListPage
from ingest.models import Project, Resolution
from ingest.models.resolutions import permission
from ingest.resolutions import AnySelection
from telemetry_site.pages import Refused, perform

_Selection = TypeVar("_Selection", bound=AnySelection)


class ResolvingPage(BoundedListPage, Generic[_Selection]):
    """A list of what can be settled: one, some that are selected, or all that match."""

    # Action -> the name that the audit log has for one.
    audited: Mapping[str, str] = {}

    def asked(self, given: Mapping[str, str]) -> _Selection:
        """What an address or a form asks for. Raises ValueError where it asks for nonsense."""
        raise NotImplementedError

    def words(self, selection: _Selection) -> str:
        """All that match, in words."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        views = {"resolve": self.resolve, "cancel": self.cancel, "progress": self.progress}
        return [
            *(path(f"{name}/", view(to), name=self._name(name)) for name, to in views.items()),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**self._progress(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def resolve(self, request: HttpRequest) -> HttpResponse:
        """Start doing something with all that match."""
        chosen = self.chosen(request)
        try:
            selection = self.asked(request.POST.dict())
        except ValueError as error:
            raise BadRequest from error
        if chosen == Resolution.Action.DISCARD and "confirmed" not in request.POST:
            hidden = {**selection.given, "action": chosen}
            return self.confirm(request, self.words(selection), hidden, request.path)

        def start(request: HttpRequest) -> str:
            assert request.user.pk is not None
            try:
                resolutions.start(chosen, selection, request.user.pk)
            except resolutions.AtWork:
                raise Refused(
                    "Another one is under way: wait until it is through, or cancel it."
                ) from None
            return f"Started to {_verb(chosen)} {self.words(selection)}."

        perform(request, self.opts.model, start, audit_as=f"{self.audited[chosen]}_all")
        return self.back()

    def cancel(self, request: HttpRequest) -> HttpResponse:
        """End what is under way; what is done stays done."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        ours = Resolution.objects.filter(action__in=self.audited)
        resolution = ours.filter(pk=_number(request.POST.get("id"))).first()
        if resolution is None:
            raise Http404
        if not request.user.has_perm(resolution.permission):
            raise PermissionDenied

        def cancel(request: HttpRequest) -> str:
            if not resolutions.cancel(resolution.pk):
                raise Refused("It had ended already.")
            asked = self.words(self.asked(resolution.matching))
            return f"Cancelled: {_verb(resolution.action)} {asked}."

        perform(request, self.opts.model, cancel)
        return self.back()

    def progress(self, request: HttpRequest) -> HttpResponse:
        """How far what was started last is, as a piece of the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        shown = self._progress(request)
        response = TemplateResponse(request, "admin/ingest/resolving/progress.html", shown)
        if shown["resolution"] is None or shown["resolution"].finished_at:
            # The rest of the page is as it was before.
            response["HX-Refresh"] = "true"
        return response

    def _progress(self, request: HttpRequest) -> dict[str, Any]:
        latest = (
            Resolution.objects.filter(action__in=self.audited)
            .select_related("started_by")
            .order_by("-pk")
            .first()
        )
        if latest is None:
            return {"resolution": None}
        return {
            "resolution": latest,
            "resolution_verb": _verb(latest.action),
            "resolution_words": self.words(self.asked(latest.matching)),
            "may_cancel": request.user.has_perm(latest.permission),
            "progress_url": reverse(f"admin:{self._name('progress')}"),
            "cancel_url": reverse(f"admin:{self._name('cancel')}"),
        }

    def chosen(self, request: HttpRequest) -> str:
        """The action that a form asks for, if its sender may do it."""
        if request.method != "POST":
            raise BadRequest
        chosen = request.POST.get("action", "")
        if chosen not in self.audited:
            raise BadRequest
        if not request.user.has_perm(permission(chosen)):
            raise PermissionDenied
        return chosen

    def confirm(
        self, request: HttpRequest, what: str, hidden: dict[str, Any], address: str
    ) -> HttpResponse:
        """Ask once more before something that can't be undone."""
        fields = [
            (name, value)
            for name, values in hidden.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        return TemplateResponse(
            request,
            "admin/ingest/resolving/confirm.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Discard {what}?",
                "opts": self.opts,
                "hidden": fields,
                "address": address,
                "back": self.back().url,
            },
        )

    def back(self) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse(f"admin:{self._name('changelist')}"))

    def _name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"


def of_project(number: int | None) -> str:
    """Of which project, in words; nothing where none is asked for."""
    if number is None:
        return ""
    project = Project.objects.filter(pk=number).first()
    return f" of {project.slug if project else 'an unknown project'}"


def _verb(action: str) -> str:
    return "replay" if action == Resolution.Action.FORWARD else action


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0
