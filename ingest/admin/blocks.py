"""Blocks: who is kept out for a while, by whom and why; making them and lifting them."""

import ipaddress
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from ingest.addresses import COARSE_BITS, Address, whole_address
from ingest.admin.asking import ask, changelist
from ingest.models import ApiKey, Block, RateLimitViolation
from ingest.models.blocks import Network
from ingest.validators import validate_network
from privacy.scrubbing import scrub_text
from telemetry_site.pages import Action, Page, Refused, perform

SHOWN = 200
# How long a block may last: minutes -> what it is called.
DURATIONS = {15: "15 minutes", 60: "1 hour", 1440: "1 day", 10_080: "7 days", 43_200: "30 days"}
# Where the confirmation looks for who it will hit.
_RECENTLY = timedelta(hours=1)


class KeyField(forms.ModelChoiceField):
    """A choice of keys."""

    def label_from_instance(self, obj: Any) -> str:
        return described(obj)


class BlockForm(forms.Form):
    """Whom, for how long, and why."""

    api_key = KeyField(
        ApiKey.objects.none(), required=False, label="API key", empty_label="none: a network"
    )
    network = forms.CharField(
        required=False, max_length=60, help_text="An address, or a prefix such as 203.0.113.0/24."
    )
    lasts = forms.TypedChoiceField(
        choices=list(DURATIONS.items()), coerce=int, initial=60, label="For"
    )
    reason = forms.CharField(max_length=200, help_text="For your colleagues. Name nobody.")

    def __init__(self, *args: Any, own: Address | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = own
        keys = ApiKey.objects.filter(revoked_at=None).select_related("project")
        field = self.fields["api_key"]
        assert isinstance(field, KeyField)
        field.queryset = keys.order_by("project__slug", "scope", "created_at")

    def clean_network(self) -> str:
        text = self.cleaned_data["network"].strip()
        if not text:
            return ""
        try:
            network = str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            network = text
        validate_network(network)
        if self._own is not None and self._own in ipaddress.ip_network(network):
            raise forms.ValidationError(
                "Your own address is in it: what you and those beside you send would be refused "
                "too. Block a narrower network, or a key."
            )
        return network

    def clean_reason(self) -> str:
        return scrub_text(self.cleaned_data["reason"])[:200]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if not self.errors and bool(found["api_key"]) == bool(found["network"]):
            raise forms.ValidationError("Name a key or a network, one of the two.")
        return found


@admin.register(Block)
class BlocksPage(Page):
    """What holds now, and what has ended lately."""

    template = "admin/ingest/block/blocks.html"
    title = "Blocks"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ingest.add_block")

    def actions_by_path(self) -> dict[str, tuple[str, Action]]:
        return {"lift": ("ingest.delete_block", _lift)}

    def context(self, request: HttpRequest) -> dict[str, Any]:
        blocks = Block.objects.select_related("api_key__project", "made_by").order_by("-made_at")
        ended = blocks.exclude(pk__in=Block.objects.active().values("pk"))
        return {
            "active": blocks.active()[:SHOWN],
            "ended": ended[:SHOWN],
            "may_add": self.has_add_permission(request),
        }

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask whom; say whom that hits; block."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        own = whole_address(request)
        if request.method != "POST":
            form = BlockForm(initial=_proposed(request), own=own)
            return ask(self, request, "Block a key or a network", "Go on", form=form)
        form = BlockForm(request.POST, own=own)
        if not form.is_valid():
            return ask(self, request, "Block a key or a network", "Go on", form=form)
        if "confirmed" not in request.POST:
            return self._confirm(request, form.cleaned_data)
        perform(request, Block, lambda request: _block(request, form.cleaned_data))
        return HttpResponseRedirect(changelist(self))

    def _confirm(self, request: HttpRequest, asked: dict[str, Any]) -> HttpResponse:
        key: ApiKey | None = asked["api_key"]
        hidden = {**asked, "api_key": key.pk if key else "", "confirmed": "yes"}
        # Titles are kept in histories.
        what = str(key) if key else "this network"
        lines = _hit_by_key(key) if key else _hit_by_network(asked["network"])
        lines += [
            f"They get 429 for {DURATIONS[asked['lasts']]}, and are told when to come again. You "
            "can lift it earlier."
        ]
        return ask(
            self, request, f"Block {what}?", "Block", lines=lines, hidden=hidden, danger=True
        )


def described(key: ApiKey) -> str:
    """A key as people know it."""
    return f"{key.project.slug}: {key}" + (f" ({key.label})" if key.label else "")


def _proposed(request: HttpRequest) -> dict[str, Any]:
    """What the page that led here wants blocked; of a network only its row's number is in the
    address."""
    number = request.GET.get("violation", "")
    if number.isdecimal():
        row = RateLimitViolation.objects.filter(pk=number[:18]).first()
        return {"network": row.network, "reason": f"Over {row.rule}"} if row else {}
    return {"api_key": request.GET.get("key", "")}


def _hit_by_key(key: ApiKey) -> list[str]:
    others = sum(other.is_usable for other in key.project.keys.exclude(pk=key.pk))
    everybody = (
        "It is publishable: every copy of the program that has it built in is refused."
        if key.scope == ApiKey.Scope.INGEST
        else "Every server that holds it is refused, sending and asking."
    )
    used = f"{key.last_used_at:%Y-%m-%d %H}:00 UTC" if key.last_used_at else "never"
    return [
        f"{described(key)}, last used {used}. {everybody}",
        f"Other usable keys of the project, which go on working: {others}.",
    ]


def _hit_by_network(text: str) -> list[str]:
    network = ipaddress.ip_network(text)
    lines = [
        f"{network}: everybody of its {network.num_addresses:,} addresses is refused, in all "
        "projects, sending and asking. The admin stays open to them."
    ]
    # Index: violation_once_a_minute, by its minutes.
    recent = RateLimitViolation.objects.filter(minute__gte=timezone.now() - _RECENTLY)
    rows = recent.exclude(network="").values_list("network", "project__slug", "key").distinct()
    hit = [(slug, key) for near, slug, key in rows[:10_000] if _overlap(network, near)]
    if slugs := sorted({slug for slug, _ in hit if slug}):
        callers = len({key for _, key in hit})
        lines += [
            f"From there or near it {callers:,} callers of {', '.join(slugs[:10])} were over a "
            "limit in the last hour; those who keep to the limits are refused too."
        ]
    return lines


def _overlap(network: Network, near: str) -> bool:
    other = ipaddress.ip_network(near)
    return network.version == other.version and network.overlaps(other)


def _block(request: HttpRequest, asked: dict[str, Any]) -> str:
    until = timezone.now() + timedelta(minutes=asked["lasts"])
    of = {"api_key": asked["api_key"], "network": asked["network"]}
    # One who clicks twice has one block.
    block = Block.objects.active().filter(**of).first() or Block(**of)
    block.until, block.reason, block.made_by_id = until, asked["reason"], request.user.pk
    block.save()
    return f"{_recorded(block)} is blocked until {until:%Y-%m-%d %H:%M} UTC."


def _lift(request: HttpRequest) -> str:
    number = request.POST.get("block", "")
    found = Block.objects.active().filter(pk=number[:18] if number.isdecimal() else 0)
    block = found.select_related("api_key").first()
    if block is None:
        raise Refused("That block has ended already.")
    block.lift()
    return f"{_recorded(block)} is not blocked any more."


def _recorded(block: Block) -> str:
    """What is blocked, as it may be kept on record: a single address only as what is around it."""
    if block.api_key is not None:
        return str(block.api_key)
    network = ipaddress.ip_network(block.network)
    coarse = COARSE_BITS[network.version]
    if network.prefixlen <= coarse:
        return str(network)
    return f"A /{network.prefixlen} of {network.supernet(new_prefix=coarse)}"
