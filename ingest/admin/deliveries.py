"""Deliveries: what of which batch went to a collector, what it said, and another try."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from ingest.admin.lists import (
    NOTHING,
    Asked,
    DayFilter,
    ProjectFilter,
    duration,
    moment,
)
from ingest.admin.resolving import ResolvingPage, of_project
from ingest.forwarding import deliveries
from ingest.forwarding.selections import STATES, DeliverySelection
from ingest.models import Delivery, Resolution
from ingest.models.resolutions import permission
from ingest.selections import Looked
from telemetry_site.pages import perform

# Of an answer the list shows so much.
CHARACTERS_SHOWN = 100
_REPLAY = permission(Resolution.Action.FORWARD)
_State = Delivery.State
_LABELS = {
    _State.WAITING: "info",
    _State.DELIVERED: "success",
    _State.DEAD: "danger",
    _State.EXPIRED: "warning",
}


class StateFilter(Asked):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state, "dead or expired" if state == "undelivered" else state) for state in STATES]


class SignalFilter(Asked):
    title = "signal"
    parameter_name = "signal"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(signal.value, signal.value) for signal in Delivery.Signal]


class StoredDayFilter(DayFilter):
    title = "day stored (UTC)"


@admin.register(Delivery)
class DeliveriesPage(ResolvingPage[DeliverySelection]):
    title = "Deliveries"
    list_display = (
        *("at", "in_project", "signal", "in_state", "items", "attempts", "answered", "took"),
        "named",
    )
    list_filter = (StateFilter, ProjectFilter, SignalFilter, StoredDayFilter)
    search_fields = ("batch_id",)
    search_help_text = "Batch id or ledger id"
    list_before_template = "admin/ingest/delivery/above.html"
    actions = ("replay_selected",)
    empty = (
        "Nothing was forwarded yet. Set OTEL_COLLECTOR_ENDPOINT, or an OTLP endpoint on a "
        "project's page: what is stored from then on goes there, and is listed here."
    )
    audited: Mapping[str, str] = {Resolution.Action.FORWARD: "delivery.replay"}

    def look(self, request: HttpRequest, term: str) -> Looked:
        selection = self.asked(request.GET.dict())
        return selection.find(term) if term else selection.look()

    def asked(self, given: Mapping[str, str]) -> DeliverySelection:
        return DeliverySelection.parse(given)

    def words(self, selection: DeliverySelection) -> str:
        state = "dead and expired" if selection.state in ("", "undelivered") else selection.state
        words = f"all {state} deliveries{of_project(selection.project)}"
        if selection.signal:
            words += f" of {selection.signal}"
        return words + (f" stored on {selection.day}" if selection.day else "")

    def address(self, row: Delivery) -> str:
        return reverse("admin:ingest_delivery_change", args=[row.key])

    @admin.display(description="waiting since (UTC)")
    def at(self, delivery: Delivery) -> SafeString:
        return moment(delivery.waiting_since)

    @display(description="state", label=_LABELS)
    def in_state(self, delivery: Delivery) -> str:
        return delivery.state

    @admin.display(description="last answer")
    def answered(self, delivery: Delivery) -> SafeString:
        answer = _answer(delivery)
        cut = answer if len(answer) <= CHARACTERS_SHOWN else f"{answer[:CHARACTERS_SHOWN]}…"
        return format_html('<p class="answer" title="{}">{}</p>', answer, cut or NOTHING)

    @admin.display(description="settled after")
    def took(self, delivery: Delivery) -> SafeString:
        return format_html('<span class="moment">{}</span>', _took(delivery))

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(_REPLAY)

    def get_urls(self) -> list[URLPattern]:
        replay = self.admin_site.admin_view(self.replay)
        return [
            path("<str:key>/replay/", replay, name="ingest_delivery_replay"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {}
        try:
            selection = self.asked(request.GET.dict())
        except ValueError:
            pass  # the list itself refuses it
        else:
            if self.has_replay_permission(request) and selection.any_undelivered():
                context = {"asked": selection.given, "asked_words": self.words(selection)}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # --- one delivery ---

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """All that is known of one delivery."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        delivery = Delivery.objects.select_related("project").with_key(object_id)
        if delivery is None:
            raise Http404
        return self.detail(
            request,
            "admin/ingest/delivery/detail.html",
            delivery,
            f"Delivery {delivery.key}",
            delivery=delivery,
            label=_LABELS[_State(delivery.state)],
            facts=_facts(delivery),
            batch=f"{delivery.ledger_day}-{delivery.ledger_id}",
            may_replay=delivery.state in Delivery.UNDELIVERED
            and self.has_replay_permission(request),
        )

    def replay(self, request: HttpRequest, key: str) -> HttpResponse:
        """Send one delivery once more."""
        if request.method != "POST":
            raise BadRequest
        if not self.has_replay_permission(request):
            raise PermissionDenied
        delivery = Delivery.objects.undelivered().defer("moments", "places").with_key(key)
        if delivery is None:
            messages.warning(request, f"Delivery {key} is neither dead nor expired any more.")
        else:
            self._replay(request, [(delivery.day, delivery.pk)], f"delivery {key}")
        return self.back()

    # --- a selection ---

    @action(description="Replay the selected deliveries", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        keys = [*queryset.values_list("day", "id")]
        self._replay(request, keys, f"{len(keys)} selected deliveries")

    def _replay(self, request: HttpRequest, keys: list[tuple[date, int]], what: str) -> None:
        def replay(request: HttpRequest) -> str:
            replayed = deliveries.replay(keys)
            told = f"{replayed:,} wait to be sent once more, of {what}."
            if replayed < len(keys):
                told += " The others wait, are delivered, or have no collector to go to."
            return told

        perform(request, Delivery, replay, audit_as="delivery.replay")


def _answer(delivery: Delivery) -> str:
    """What was said last: the status and the words."""
    return " ".join(str(part) for part in (delivery.status, delivery.error) if part)


def _took(delivery: Delivery) -> str:
    """How long it has waited, since it was stored or replayed last."""
    if delivery.settled_at is None:
        return f"waits {duration(timezone.now() - delivery.waiting_since)}"
    return duration(delivery.settled_at - delivery.waiting_since)


def _facts(delivery: Delivery) -> list[tuple[str, Any]]:
    """What the outbox says of it; when its content occurred, and none of that itself."""
    settled = delivery.settled_at
    leased = delivery.leased_until
    is_leased = leased is not None and leased > timezone.now()
    return [
        ("Batch id", delivery.batch_id),
        ("Project", delivery.project.slug),
        ("Signal", delivery.get_signal_display()),
        ("Items", _items(delivery)),
        ("Occurred", _span(delivery)),
        ("Waiting since", f"{delivery.waiting_since:%Y-%m-%d %H:%M:%S} UTC"),
        ("Settled", f"{settled:%Y-%m-%d %H:%M:%S} UTC" if settled else NOTHING),
        ("Settled after", _took(delivery)),
        ("Attempts", delivery.attempts),
        ("Being sent until", f"{leased:%Y-%m-%d %H:%M:%S} UTC" if is_leased else NOTHING),
        ("Last answer", _answer(delivery) or NOTHING),
        ("Rejected by the collector", f"{delivery.rejected:,} of its request's items"),
    ]


def _items(delivery: Delivery) -> str:
    return f"{delivery.items:,}{', a part of the batch' if delivery.places else ''}"


def _span(delivery: Delivery) -> str:
    """From the first to the last moment; it isn't kept of what was delivered."""
    if not delivery.moments:
        return NOTHING
    ends = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (delivery.moments[0], delivery.moments[-1])]
    return f"{' to '.join(dict.fromkeys(ends))} UTC"
