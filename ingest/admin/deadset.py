"""The dead set: what could not be stored, why, what is in it, and another try or an end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.decorators import action

from ingest import restrictions, storage
from ingest.admin.lists import (
    DayFilter,
    ErrorFilter,
    FormatFilter,
    ProjectFilter,
    moment,
    size,
)
from ingest.admin.resolving import ResolvingPage, of_project
from ingest.models import Batch, DeadBatch, Resolution
from ingest.nudges import nudger
from ingest.payloads import UNREADABLE, unpack
from ingest.records import StoredPoint, StoredRecord
from ingest.selections import Looked, Selection
from telemetry_site.pages import perform, record

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
class DeadSetPage(ResolvingPage[Selection]):
    title = "Dead set"
    list_display = ("at", "in_project", "format", "events", "error", "sent", "named")
    list_filter = (ProjectFilter, FormatFilter, DayFilter, ErrorFilter)
    list_before_template = "admin/ingest/deadbatch/groups.html"
    actions = ("replay_selected", "discard_selected")
    empty = (
        "No batch is dead. What PostgreSQL refuses, or what workers die at three times, is kept "
        "here until you replay or discard it."
    )
    audited: Mapping[str, str] = {
        Resolution.Action.REPLAY: "dead.replay",
        Resolution.Action.DISCARD: "dead.discard",
    }

    def look(self, request: HttpRequest, term: str) -> Looked:
        return self.asked(request.GET.dict()).look()

    def asked(self, given: Mapping[str, str]) -> Selection:
        """What is asked of the dead ones."""
        asked = {name: given.get(name, "") for name in ("project", "format", "day", "error")}
        return Selection.parse(asked | {"state": Batch.State.DEAD.value})

    def words(self, selection: Selection) -> str:
        words = f"all dead batches{of_project(selection.project)}"
        if selection.day is not None:
            words += f" received on {selection.day}"
        if selection.format:
            words += f" in format {selection.format}"
        return words + (f" with the error “{selection.error}”" if selection.error else "")

    def address(self, row: Batch) -> str:
        return reverse("admin:ingest_deadbatch_change", args=[row.key])

    @admin.display(description="received (UTC)")
    def at(self, batch: Batch) -> SafeString:
        return moment(batch.received_at)

    @admin.display(description="dead events")
    def events(self, batch: Batch) -> str:
        return f"{batch.dead:,} of {batch.received:,}"

    @admin.display(description="size")
    def sent(self, batch: Batch) -> str:
        return size(batch.body_bytes)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.replay_deadbatch")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.discard_deadbatch")

    def has_payload_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.view_payload")

    def get_urls(self) -> list[URLPattern]:
        settle = self.admin_site.admin_view(self.settle)
        return [
            path("<str:key>/settle/", settle, name="ingest_deadbatch_settle"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            selection = self.asked(request.GET.dict())
        except ValueError:
            selection = self.asked({})  # the list itself refuses it
        shown = replace(selection, error="")
        found = _latest_dead(shown)
        context = {
            "groups": _groups(found[:GROUPED]),
            "group_cap": GROUPED if len(found) > GROUPED else None,
            "asked": selection.given,
            "asked_words": self.words(selection),
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
        chosen = self.chosen(request)
        batch = DeadBatch.objects.dead().defer("payload").with_key(key)
        if batch is None:
            messages.warning(request, f"Batch {key} is not dead any more.")
        elif chosen == Resolution.Action.DISCARD and "confirmed" not in request.POST:
            return self.confirm(
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
            return self.confirm(request, what, hidden, request.get_full_path())
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

        perform(request, DeadBatch, settle, audit_as=self.audited[chosen])


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
