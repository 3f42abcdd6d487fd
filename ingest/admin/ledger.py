"""The ledger: every batch that arrived, and all that is known of one. Its payload isn't shown."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from ingest.admin.lists import (
    NOTHING,
    STATE_LABELS,
    AgeFilter,
    BoundedListPage,
    DayFilter,
    ErrorFilter,
    FormatFilter,
    ProjectFilter,
    StateFilter,
    batch_address,
    duration,
    moment,
    outcomes,
    size,
)
from ingest.models import Batch, BatchClaim, RejectedEvent
from ingest.selections import Looked, Selection

# Refused events of a batch that are written down are fewer.
MOST_REJECTED = 100


@admin.register(Batch)
class LedgerPage(BoundedListPage):
    title = "Ledger"
    list_display = (
        *("at", "in_project", "format", "in_state", "became", "why", "sizes", "took", "named"),
    )
    list_filter = (StateFilter, ProjectFilter, FormatFilter, AgeFilter, DayFilter, ErrorFilter)
    search_fields = ("batch_id",)
    search_help_text = "Batch id, ledger id or request id"
    empty = "No batch has arrived yet. Each one that passes authentication is listed here."

    def look(self, request: HttpRequest, term: str) -> Looked:
        selection = Selection.parse(request.GET.dict())
        return selection.find(term) if term else selection.look()

    @admin.display(description="received (UTC)")
    def at(self, batch: Batch) -> SafeString:
        return moment(batch.received_at)

    @display(description="state", label=STATE_LABELS)
    def in_state(self, batch: Batch) -> str:
        return batch.state

    @admin.display(description="events")
    def became(self, batch: Batch) -> str:
        return outcomes(batch)

    @admin.display(description="error")
    def why(self, batch: Batch) -> str:
        return batch.error or NOTHING

    @admin.display(description="size, wire / decoded")
    def sizes(self, batch: Batch) -> str:
        return f"{size(batch.wire_bytes)} / {size(batch.body_bytes)}"

    @admin.display(description="stored after")
    def took(self, batch: Batch) -> str:
        if batch.state == Batch.State.RECEIVED:
            return f"waits {duration(timezone.now() - batch.received_at)}"
        return _took(batch) or NOTHING

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """All that is known of one batch."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Batch.objects.defer("payload").select_related("project")
        batch = rows.with_key(object_id)
        if batch is None:
            raise Http404
        return self.detail(
            request,
            "admin/ingest/batch/detail.html",
            batch,
            f"Batch {batch.key}",
            batch=batch,
            facts=_facts(batch),
            label=STATE_LABELS[batch.state],
            repeated=_repeated(batch),
            rejected=_rejected(batch),
            dead=batch.state == Batch.State.DEAD and request.user.has_perm("ingest.view_deadbatch"),
        )


def _took(batch: Batch) -> str:
    """How long it took from the promise to the table; nothing where it never got there."""
    return duration(batch.stored_at - batch.received_at) if batch.stored_at else ""


def _facts(batch: Batch) -> list[tuple[str, Any]]:
    """What the ledger says of a batch, and the claim on its id."""
    claims = BatchClaim.objects.filter(project_id=batch.project_id, ledger_id=batch.pk)
    claim = claims.filter(key=batch.batch_id).first() if batch.batch_id else None
    stored = f"{batch.stored_at:%Y-%m-%d %H:%M:%S.%f} UTC" if batch.stored_at else NOTHING
    return [
        ("Batch id", batch.batch_id or "none: it was refused before one was claimed"),
        ("Ledger id", batch.pk),
        ("Request id", batch.request_id),
        ("Project", batch.project.slug),
        ("Format", batch.format),
        ("Received", f"{batch.received_at:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("Stored", stored),
        ("Stored after", _took(batch) or NOTHING),
        ("Events", f"{batch.received:,} received: {outcomes(batch)}"),
        ("Size", f"{size(batch.wire_bytes)} as sent, {size(batch.body_bytes)} decoded"),
        ("Workers that died at it", batch.attempts),
        ("Error", batch.error or NOTHING),
        ("Claims its id until", f"{claim.expires_at:%Y-%m-%d %H:%M} UTC" if claim else NOTHING),
    ]


def _repeated(batch: Batch) -> dict[str, str] | None:
    """What a duplicate is one of, and where that is."""
    if batch.duplicate_of is None:
        return None
    original = Batch.objects.claimed_by(batch.project_id, batch.duplicate_of)
    address = batch_address(original) if original is not None and original.pk != batch.pk else ""
    return {"batch_id": str(batch.duplicate_of), "address": address}


def _rejected(batch: Batch) -> list[RejectedEvent]:
    """Its refused events. Index: ingest_rejectedevent_batch, in one day's partition."""
    found = RejectedEvent.objects.filter(day=batch.day, project_id=batch.project_id, batch=batch.pk)
    return list(found.order_by("position", "id")[:MOST_REJECTED])
