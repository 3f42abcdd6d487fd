"""The dead set: what could not be stored, why, what is in it, and another try or an end."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.decorators import action

from ingest import resolutions, restrictions, storage
from ingest.admin.lists import (
    BoundedListPage,
    DayFilter,
    ErrorFilter,
    FormatFilter,
    ProjectFilter,
    moment,
    short,
    size,
)
from ingest.models import Batch, DeadBatch, Project, Resolution
from ingest.nudges import nudger
from ingest.payloads import UNREADABLE, unpack
from ingest.records import StoredPoint, StoredRecord
from ingest.selections import Looked, Selection
from telemetry_site.pages import Refused, perform, record

# Dead batches that the groups are counted from, the latest.
GROUPED = 10_000
# Of a payload so many events are shown, and so many characters of each.
EVENTS_SHOWN = 50
CHARACTERS_SHOWN = 2_000


@dataclass
class Group:
    """Dead batches that failed for the same reason."""

    error: str
    batches: int = 0
    events: int = 0
    latest: datetime | None = None
    earliest: datetime | None = None

    @property
    def query(self) -> str:
        return urlencode({"error": self.error})


@admin.register(DeadBatch)
class DeadSetPage(BoundedListPage):
    title = "Dead set"
    list_display = ("at", "in_project", "format", "events", "error", "sent", "named")
    list_filter = (ProjectFilter, FormatFilter, DayFilter, ErrorFilter)
    list_before_template = "admin/ingest/deadbatch/groups.html"
    actions = ("replay_selected", "discard_selected")
    empty = (
        "No batch is dead. What PostgreSQL refuses, or what workers die at three times, is kept "
        "here until you replay or discard it."
    )

    def look(self, request: HttpRequest, term: str) -> Looked:
        return _selection(request.GET.dict()).look()

    def address(self, row: Batch) -> str:
        return reverse("admin:ingest_deadbatch_change", args=[row.key])

    @admin.display(description="received (UTC)")
    def at(self, batch: Batch) -> SafeString:
        return moment(batch.received_at)

    @admin.display(description="project")
    def in_project(self, batch: Batch) -> str:
        return batch.project.slug

    @admin.display(description="dead events")
    def events(self, batch: Batch) -> str:
        return f"{batch.dead:,} of {batch.received:,}"

    @admin.display(description="size")
    def sent(self, batch: Batch) -> str:
        return size(batch.body_bytes)

    @admin.display(description="batch id")
    def named(self, batch: Batch) -> SafeString:
        return short(batch.batch_id)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.replay_deadbatch")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.discard_deadbatch")

    def has_payload_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.view_payload")

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "ingest_deadbatch"
        return [
            path("resolve/", view(self.resolve), name=f"{name}_resolve"),
            path("cancel/", view(self.cancel), name=f"{name}_cancel"),
            path("progress/", view(self.progress), name=f"{name}_progress"),
            path("<str:key>/settle/", view(self.settle), name=f"{name}_settle"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            selection = _selection(request.GET.dict())
        except ValueError:
            selection = _selection({})  # the list itself refuses it
        shown = replace(selection, error="")
        found = _latest_dead(shown)
        context = {
            "groups": _groups(found[:GROUPED]),
            "group_cap": GROUPED if len(found) > GROUPED else None,
            "asked": selection.given,
            "asked_words": _words(selection),
            **self._progress(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    # --- one batch ---

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Why one batch is dead, and its events for those who may look at them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        batch = DeadBatch.objects.dead().select_related("project").with_key(object_id)
        if batch is None:
            raise Http404
        shown: dict[str, Any] = {}
        if self.has_payload_permission(request):
            record(
                request,
                DeadBatch,
                "looked at its events",
                of=batch.key,
                audit_as="payload.looked_at",
            )
            shown = _payload(batch)
        return self.detail(
            request,
            "admin/ingest/deadbatch/detail.html",
            batch,
            f"Dead batch {batch.key}",
            batch=batch,
            may_replay=self.has_replay_permission(request),
            may_discard=self.has_discard_permission(request),
            may_look=self.has_payload_permission(request),
            **shown,
        )

    def settle(self, request: HttpRequest, key: str) -> HttpResponse:
        """Replay or discard one batch."""
        chosen = self._chosen(request)
        batch = DeadBatch.objects.dead().defer("payload").with_key(key)
        if batch is None:
            messages.warning(request, f"Batch {key} is not dead any more.")
        elif chosen == Resolution.Action.DISCARD and "confirmed" not in request.POST:
            return self._confirm(
                request, f"batch {key}", {"action": chosen}, request.get_full_path()
            )
        else:
            self._settle(request, chosen, [(batch.day, batch.pk)], f"batch {key}")
        return HttpResponseRedirect(reverse("admin:ingest_deadbatch_changelist"))

    # --- a selection ---

    @action(description="Replay the selected batches", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Batch]) -> None:
        keys = [*queryset.values_list("day", "id")]
        self._settle(request, Resolution.Action.REPLAY, keys, f"{len(keys)} selected batches")

    @action(description="Discard the selected batches", permissions=["discard"])
    def discard_selected(
        self, request: HttpRequest, queryset: QuerySet[Batch]
    ) -> HttpResponse | None:
        keys = [*queryset.values_list("day", "id")]
        what = f"{len(keys)} selected batches"
        if "confirmed" not in request.POST:
            selected = [str(ledger_id) for _, ledger_id in keys]
            hidden = {"action": "discard_selected", "_selected_action": selected}
            return self._confirm(request, what, hidden, request.get_full_path())
        self._settle(request, Resolution.Action.DISCARD, keys, what)
        return None

    def _settle(
        self, request: HttpRequest, chosen: str, keys: Iterable[tuple[Any, int]], what: str
    ) -> None:
        def settle(request: HttpRequest) -> str:
            if chosen == Resolution.Action.DISCARD:
                return f"{storage.discard(keys):,} discarded, of {what}."
            replayed = storage.replay(keys)
            nudger.request()
            return f"{replayed:,} wait to be stored once more, of {what}."

        perform(request, DeadBatch, settle, audit_as=f"dead.{chosen}")

    # --- all that match ---

    def resolve(self, request: HttpRequest) -> HttpResponse:
        """Start replaying or discarding all that match."""
        chosen = self._chosen(request)
        try:
            selection = _selection(request.POST.dict())
        except ValueError as error:
            raise BadRequest from error
        if chosen == Resolution.Action.DISCARD and "confirmed" not in request.POST:
            hidden = {**selection.given, "action": chosen}
            return self._confirm(request, _words(selection), hidden, request.path)

        def start(request: HttpRequest) -> str:
            assert request.user.pk is not None
            try:
                resolutions.start(chosen, selection, request.user.pk)
            except resolutions.AtWork:
                raise Refused(
                    "Another one is under way: wait until it is through, or cancel it."
                ) from None
            return f"Started to {chosen} {_words(selection)}."

        perform(request, DeadBatch, start, audit_as=f"dead.{chosen}_all")
        return HttpResponseRedirect(reverse("admin:ingest_deadbatch_changelist"))

    def cancel(self, request: HttpRequest) -> HttpResponse:
        """End what is under way; what is done stays done."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        resolution = Resolution.objects.filter(pk=_number(request.POST.get("id"))).first()
        if resolution is None:
            raise Http404
        if not request.user.has_perm(resolution.permission):
            raise PermissionDenied

        def cancel(request: HttpRequest) -> str:
            if not resolutions.cancel(resolution.pk):
                raise Refused("It had ended already.")
            return f"Cancelled: {resolution.action} {_words(Selection.parse(resolution.matching))}."

        perform(request, DeadBatch, cancel)
        return HttpResponseRedirect(reverse("admin:ingest_deadbatch_changelist"))

    def progress(self, request: HttpRequest) -> HttpResponse:
        """How far what was started last is, as a piece of the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        shown = self._progress(request)
        response = TemplateResponse(request, "admin/ingest/deadbatch/progress.html", shown)
        if shown["resolution"] is None or shown["resolution"].finished_at:
            # The rest of the page is as it was before.
            response["HX-Refresh"] = "true"
        return response

    def _progress(self, request: HttpRequest) -> dict[str, Any]:
        latest = Resolution.objects.select_related("started_by").order_by("-pk").first()
        if latest is None:
            return {"resolution": None}
        return {
            "resolution": latest,
            "resolution_words": _words(Selection.parse(latest.matching)),
            "may_cancel": request.user.has_perm(latest.permission),
        }

    def _chosen(self, request: HttpRequest) -> str:
        """The action that a form asks for, if its sender may do it."""
        if request.method != "POST":
            raise BadRequest
        chosen = request.POST.get("action", "")
        if chosen not in Resolution.Action.values:
            raise BadRequest
        if not request.user.has_perm(f"ingest.{chosen}_deadbatch"):
            raise PermissionDenied
        return chosen

    def _confirm(
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
            "admin/ingest/deadbatch/confirm.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Discard {what}?",
                "opts": self.opts,
                "hidden": fields,
                "address": address,
            },
        )


def _selection(given: dict[str, str]) -> Selection:
    """What is asked of the dead ones."""
    asked = {name: given.get(name, "") for name in ("project", "format", "day", "error")}
    return Selection.parse(asked | {"state": Batch.State.DEAD.value})


def _words(selection: Selection) -> str:
    """A selection of dead batches in words."""
    words = "all dead batches"
    if selection.project is not None:
        project = Project.objects.filter(pk=selection.project).first()
        words += f" of {project.slug if project else 'an unknown project'}"
    if selection.day is not None:
        words += f" received on {selection.day}"
    if selection.format:
        words += f" in format {selection.format}"
    return words + (f" with the error “{selection.error}”" if selection.error else "")


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0


def _latest_dead(selection: Selection) -> list[tuple[str, int, datetime]]:
    """Error, events and time of the latest, one more than are grouped. Index: ingest_batch_dead."""
    return selection.look().first(GROUPED + 1, "error", "dead", "received_at")


def _groups(found: Iterable[tuple[str, int, datetime]]) -> list[Group]:
    """The latest first in `found`; the largest group first in what is returned."""
    groups: dict[str, Group] = {}
    for error, events, received_at in found:
        group = groups.setdefault(error, Group(error, latest=received_at))
        group.batches += 1
        group.events += events
        group.earliest = received_at
    return sorted(groups.values(), key=lambda group: -group.batches)


def _payload(batch: Batch) -> dict[str, Any]:
    """The scrubbed, pseudonymised events that couldn't be stored, the first of them."""
    try:
        records = unpack(bytes(batch.payload or b""))
    except UNREADABLE as error:
        return {"unreadable": str(error)}
    shown = restrictions.shown(batch.project_id, records)
    return {
        "events": [_shown(record) for record in shown[:EVENTS_SHOWN]],
        "more": max(0, len(shown) - EVENTS_SHOWN),
        "withheld": len(records) - len(shown),
    }


def _shown(record: StoredRecord | StoredPoint) -> dict[str, Any]:
    """One event for the page: bounded, and readable even where PostgreSQL couldn't read it."""
    if isinstance(record, StoredPoint):
        kind, message, content = record.kind, "", record.tags
    else:
        kind, message, content = record.category, record.message or "", record.properties
    return {
        "position": record.position,
        "occurred_at": record.occurred_at,
        "name": record.name[:CHARACTERS_SHOWN],
        "kind": kind,
        "subject": record.subject.hex() if record.subject else "",
        "message": _cut(message),
        "content": _cut(content.decode(errors="replace")),
    }


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[:CHARACTERS_SHOWN]}…"
