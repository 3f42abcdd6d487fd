"""API keys: made, rotated and revoked. A key is shown once, in the answer to what made it."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from ingest.admin.asking import ask, show_once
from ingest.admin.lists import moment
from ingest.models import ApiKey, Project
from telemetry_site.pages import ModelAdmin, Refused, perform, record

_LOST = "It is kept as a hash: if it gets lost, rotate it."


def _newest() -> int:
    return ApiKey.objects.aggregate(newest=Max("pk"))["newest"] or 0


class MakingForm(forms.Form):
    """Makes one key however often it is sent; `newest` is the newest there was when it was asked.

    Sent twice, the second answer would take the place of the one that shows the key.
    """

    newest = forms.IntegerField(min_value=0, widget=forms.HiddenInput, initial=_newest)

    def is_first(self, project_id: int) -> bool:
        """Whether the project has got no key since; else says so, and may be sent once more.

        In a transaction: whoever comes at the same time waits.
        """
        Project.objects.select_for_update(no_key=True).get(pk=project_id)
        since = ApiKey.objects.filter(project=project_id, pk__gt=self.cleaned_data["newest"])
        made = since.order_by("-pk").first()
        if made is None:
            return True
        self.add_error(None, f"{made} was made since you opened this. Go on to make one more.")
        self.data = {**self.data.dict(), "newest": made.pk}  # type: ignore[attr-defined]
        return False


class NewKeyForm(MakingForm):
    """What a new key is for."""

    project = forms.ModelChoiceField(Project.objects.order_by("slug"), empty_label=None)
    scope = forms.ChoiceField(choices=ApiKey.Scope.choices)
    label = forms.CharField(
        max_length=100, required=False, help_text="What it is for: a program, a server, a team."
    )
    expires_in_days = forms.IntegerField(
        min_value=1, max_value=36_500, required=False, help_text="Empty: it works until revoked."
    )


class RotateForm(MakingForm):
    """How long both keys work."""

    overlap_hours = forms.FloatField(
        min_value=0,
        max_value=24 * 365,
        initial=24,
        label="Both work for so many hours",
        help_text="0: the old one ends now.",
    )


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    empty = "There is no key yet. A project is made with one to send and one to ask."
    list_display = ("__str__", "project", "label", "state", "made", "last_used")
    list_filter = ("scope", "project")
    list_select_related = ("project",)
    search_fields = ("prefix", "label")
    ordering = ("project__slug", "-created_at")
    fields = ("project", "scope", "prefix", "label", "state", "made", "last_used")
    readonly_fields = ("project", "scope", "prefix", "state", "made", "last_used")
    change_form_outer_before_template = "admin/ingest/apikey/above.html"

    @admin.display(description="made (UTC)", ordering="created_at")
    def made(self, key: ApiKey) -> SafeString:
        return moment(key.created_at)

    @admin.display(description="last used (UTC, to the hour)", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return _used(key)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Keys are revoked, and stay on record."""
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:number>/rotate/", view(self.rotate_view), name="ingest_apikey_rotate"),
            path("<int:number>/revoke/", view(self.revoke_view), name="ingest_apikey_revoke"),
            *super().get_urls(),
        ]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask what for; make the key, and show it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewKeyForm(request.POST or None, initial={"project": request.GET.get("project")})
        with transaction.atomic():
            if form.is_valid() and not may_hand_out(request, form.cleaned_data["scope"]):
                form.add_error("scope", _NOT_YOURS)
            if not (form.is_valid() and form.is_first(form.cleaned_data["project"].pk)):
                return ask(self, request, "Make an API key", "Make it", form=form)
            key, text = _make(form.cleaned_data)
            told = f"made it for {key.project.slug}"
            record(request, ApiKey, told, of=str(key), audit_as="key.made")
        return show_once(self, request, "The key is made", {str(key): text}, _LOST)

    def rotate_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Ask how long both shall work; make the successor, and show it."""
        key = self._key(request, number)
        if not key.is_usable:
            messages.error(request, f"{key} is {key.state}: make a new key instead.")
            return HttpResponseRedirect(_page_of(key))
        if not may_hand_out(request, key.scope):
            messages.error(request, _NOT_YOURS)
            return HttpResponseRedirect(_page_of(key))
        lines = [
            f"A new key of {key.project.slug} takes its place, with the same scope and label. Give "
            "it to those who use the old one before that ends."
        ]
        form = RotateForm(request.POST or None)
        with transaction.atomic():
            if not (form.is_valid() and form.is_first(key.project_id)):
                return ask(self, request, f"Rotate {key}", "Rotate", form=form, lines=lines)
            successor, text = key.rotate(timedelta(hours=form.cleaned_data["overlap_hours"]))
            told = f"rotated it: {successor} takes its place"
            record(request, ApiKey, told, of=str(key), audit_as="key.rotated")
        then = f"{key} works until {key.expires_at:%Y-%m-%d %H:%M} UTC. {_LOST}"
        return show_once(self, request, "The key is rotated", {str(successor): text}, then)

    def revoke_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Ask once more; end the key."""
        key = self._key(request, number)
        if request.method == "POST":
            perform(request, ApiKey, lambda _: _revoke(key), of=str(key), audit_as="key.revoked")
            return HttpResponseRedirect(_page_of(key))
        lines = [
            f"{key} of {key.project.slug}, last used (UTC): {_used(key)}. Who uses it is "
            "refused from now on. This can't be undone; to keep them out for a while only, block "
            "the key."
        ]
        return ask(self, request, f"Revoke {key}?", "Revoke", lines=lines, danger=True)

    def _key(self, request: HttpRequest, number: int) -> ApiKey:
        if not self.has_change_permission(request):
            raise PermissionDenied
        key = ApiKey.objects.select_related("project").filter(pk=number).first()
        if key is None:
            raise Http404
        return key


def _used(key: ApiKey) -> str:
    """When a key was used last, to the hour as it is kept."""
    return f"{key.last_used_at:%Y-%m-%d %H}h" if key.last_used_at else "never"


def _page_of(key: ApiKey) -> str:
    return reverse("admin:ingest_apikey_change", args=[key.pk])


def _make(asked: dict[str, Any]) -> tuple[ApiKey, str]:
    days = asked["expires_in_days"]
    end = timezone.now() + timedelta(days=days) if days else None
    return ApiKey.objects.issue(
        asked["project"], asked["scope"], label=asked["label"], expires_at=end
    )


def _revoke(key: ApiKey) -> str:
    if key.revoked_at is not None:
        raise Refused(f"{key} is {key.state} already.")
    key.revoke()
    return f"{key} of {key.project.slug} is {key.state}."


_NOT_YOURS = "Whoever has a secret key may ask about persons: your role may not hand one out."


def may_hand_out(request: HttpRequest, scope: str) -> bool:
    """Whether somebody may be shown a key: a secret one opens persons' data, as their role must."""
    return scope != ApiKey.Scope.SECRET or request.user.has_perm("privacy.act_for_person")
