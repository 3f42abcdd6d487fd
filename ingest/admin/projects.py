"""Projects: made with their keys, their rules, and limits of their own."""

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.text import slugify

from ingest.admin.asking import ask, show_once
from ingest.admin.collectors import ForwardingForm
from ingest.admin.keys import may_hand_out
from ingest.admin.lists import moment
from ingest.forwarding.networks import place_of
from ingest.models import ApiKey, Project
from ingest.rules import PROJECTS_OWN, RULES, InvalidRate, check_overrides, windows
from telemetry_site.pages import ModelAdmin, perform, record, write_down

_CHANGE = "ingest.change_project"
# Of a project's settings those that are a matter of privacy, for whoever may change its rules.
_CHANGE_PRIVACY = "privacy.change_privacy_rules"
_OF_PRIVACY = ("scrubbing", "users_optional")
_FORWARDING = ("otlp_endpoint", "otlp_encoding")
# Asked beside the model's fields.
_HEADERS = ("collector_headers", "forget_headers")
_OTHERS = ("name", "origins", "keyless_browsers", *_FORWARDING)
_NOT_YOURS = (
    "Whoever has the signing secret may act for any user of the project: your role may not hand "
    "one out."
)
_PERIODS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


class ProjectForm(forms.Form):
    """What a new project is called."""

    name = forms.CharField(
        max_length=100, help_text="The product whose clients send here. Its slug is made of it."
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        slug = slugify(name)[:50]
        if not slug:
            raise forms.ValidationError("The name must have a letter or a digit.")
        if Project.objects.filter(slug=slug).exists():
            raise forms.ValidationError(f"There is a project {slug!r} already.")
        return name


class SigningForm(forms.Form):
    """How long both secrets hold. `version` is the one that held when this was asked."""

    overlap_hours = forms.FloatField(
        min_value=0,
        max_value=24 * 365,
        initial=24,
        label="Both hold for so many hours",
        help_text="0: tokens signed with the old one are refused from now on.",
    )
    version = forms.IntegerField(min_value=1, widget=forms.HiddenInput)

    def is_first(self, project: Project) -> bool:
        """Whether the secret is still the one that was to be replaced; says so if it isn't."""
        if self.cleaned_data["version"] == project.signing_version:
            return True
        self.add_error(None, "The secret was rotated since you opened this. Go on to do it again.")
        self.data = {**self.data.dict(), "version": project.signing_version}  # type: ignore[attr-defined]
        return False


@admin.register(Project)
class ProjectAdmin(ModelAdmin):
    empty = "There is no project yet. Make one: its keys are made with it, and shown once."
    list_display = ("slug", "name", "own_limits", "users_optional", "made")
    exclude = ("rate_limits", "privacy_rules")
    readonly_fields = ("slug", "signing_version", "signing_overlap_until", "made")
    search_fields = ("slug", "name")
    change_form_outer_before_template = "admin/ingest/project/above.html"

    @admin.display(description="own limits")
    def own_limits(self, project: Project) -> str:
        return ", ".join(f"{rule} {rate}" for rule, rate in sorted(project.rate_limits.items()))

    @admin.display(description="made (UTC)", ordering="created_at")
    def made(self, project: Project) -> SafeString:
        return moment(project.created_at)

    def has_change_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """Of some of its settings at least: `get_readonly_fields` says of which."""
        return request.user.has_perm(_CHANGE) or request.user.has_perm(_CHANGE_PRIVACY)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Project | None = None
    ) -> list[str] | tuple[Any, ...]:
        return (
            *super().get_readonly_fields(request, obj),
            *(() if request.user.has_perm(_CHANGE) else _OTHERS),
            *(() if request.user.has_perm(_CHANGE_PRIVACY) else _OF_PRIVACY),
        )

    def get_form(
        self, request: HttpRequest, obj: Project | None = None, change: bool = False, **kwargs: Any
    ) -> "type[forms.ModelForm[Project]]":
        if request.user.has_perm(_CHANGE):
            kwargs["form"] = ForwardingForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Project | None = None) -> Any:
        """Forwarding apart from the rest."""
        fields = self.get_fields(request, obj)
        forwarding = [*_FORWARDING, *(_HEADERS if request.user.has_perm(_CHANGE) else ())]
        return [
            (None, {"fields": [name for name in fields if name not in forwarding]}),
            ("Forwarding to OpenTelemetry", {"fields": forwarding}),
        ]

    def save_model(
        self, request: HttpRequest, obj: Project, form: "forms.ModelForm[Project]", change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if changed := form.changed_data:
            now = {name: getattr(obj, name) for name in _OF_PRIVACY if name in changed}
            if "otlp_endpoint" in changed:
                now["collector"] = place_of(obj.otlp_endpoint).host if obj.otlp_endpoint else ""
            write_down(
                request, "project.changed", obj.slug, project_id=obj.pk, fields=changed, **now
            )

    def has_delete_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """The data path's rows point here without a constraint."""
        return False

    def get_urls(self) -> list[URLPattern]:
        view, name = self.admin_site.admin_view, "ingest_project"
        return [
            path("<int:number>/limits/", view(self.limits_view), name=f"{name}_limits"),
            path("<int:number>/signing/", view(self.signing_view), name=f"{name}_signing"),
            *super().get_urls(),
        ]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask for a name; make the project and its keys, and show them."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ProjectForm(request.POST or None)
        if not form.is_valid():
            return ask(self, request, "Make a project", "Make it", form=form)
        project, keys = Project.objects.create_with_keys(form.cleaned_data["name"])
        record(request, Project, "made it, with its keys", of=project.slug, audit_as="project.made")
        secrets = {
            "Ingest key: publishable, for clients": keys["ingest"],
            "Secret key: for your own servers, to ask and to erase": keys["secret"],
            "Signing secret: for tokens that your servers make": project.signing_secret,
        }
        then = "The keys are kept as hashes; a lost one is replaced under API keys."
        title = f"Project {project.slug} is made"
        return show_once(self, request, title, secrets, then)

    def signing_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Ask how long both secrets shall hold; make the next one, and show it."""
        if not request.user.has_perm(_CHANGE):
            raise PermissionDenied
        if not may_hand_out(request, ApiKey.Scope.SECRET):
            messages.error(request, _NOT_YOURS)
            return HttpResponseRedirect(reverse("admin:ingest_project_change", args=[number]))
        with transaction.atomic():
            project = Project.objects.select_for_update(no_key=True).filter(pk=number).first()
            if project is None:
                raise Http404
            form = SigningForm(request.POST or None, initial={"version": project.signing_version})
            if not (form.is_valid() and form.is_first(project)):
                title = f"Rotate the signing secret of {project.slug}"
                return ask(self, request, title, "Rotate", form=form)
            project.rotate_signing_secret(timedelta(hours=form.cleaned_data["overlap_hours"]))
            told = "rotated its signing secret"
            record(request, Project, told, of=project.slug, audit_as="signing.rotated")
        secrets = {f"Signing secret of {project.slug}": project.signing_secret}
        until = project.signing_overlap_until
        then = f"The one before holds until {until:%Y-%m-%d %H:%M} UTC."
        return show_once(self, request, "The signing secret is rotated", secrets, then)

    def limits_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Each rule with what holds for this project, to be changed and to be reset."""
        project = Project.objects.filter(pk=number).first()
        if not self.has_view_permission(request, project):
            raise PermissionDenied
        if project is None:
            raise Http404
        if request.method != "POST":
            return self._limits(request, project, request.GET.get("rule", ""))
        if not request.user.has_perm(_CHANGE):
            raise PermissionDenied
        rule, rate = request.POST.get("rule", ""), _tidy(request.POST.get("rate", ""))
        try:
            check_overrides({rule: rate or "0"})
        except InvalidRate as error:
            return self._limits(request, project, rule, rate=rate, wrong=str(error))
        perform(request, Project, lambda _: _change(number, rule, rate))
        return HttpResponseRedirect(f"{request.path}?rule={rule}")

    def _limits(
        self, request: HttpRequest, project: Project, rule: str, *, rate: str = "", wrong: str = ""
    ) -> HttpResponse:
        return TemplateResponse(
            request,
            "admin/ingest/project/limits.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Limits of {project.slug}",
                "opts": self.opts,
                "original": project,
                "project": project,
                "limits": [_limit(project, name) for name in PROJECTS_OWN],
                "chosen": rule,
                "rate": rate,
                "wrong": wrong,
                "may_change": request.user.has_perm(_CHANGE),
                "violations": reverse("admin:ingest_ratelimitviolation_changelist"),
            },
        )


def _limit(project: Project, rule: str) -> dict[str, Any]:
    default, own = settings.RATE_LIMITS[rule], project.rate_limits.get(rule)
    return {
        "rule": rule,
        "purpose": RULES[rule].purpose,
        "default": default,
        "own": own,
        "budget": budget(own or default),
    }


def budget(rate: str) -> str:
    """A rate in words."""
    parts = [f"{window.quota:,} in {_period(window.seconds)}" for window in windows(rate)]
    return " and ".join(parts) or "no limit"


def _period(seconds: int) -> str:
    length, name = next(period for period in _PERIODS if seconds % period[0] == 0)
    number = seconds // length
    return f"{number:,} {name}s" if number > 1 else f"1 {name}"


def _tidy(rate: str) -> str:
    return ",".join(part.strip() for part in rate[:200].split(","))


def _change(number: int, rule: str, rate: str) -> str:
    """Give the project a rate of its own, or where `rate` is empty the instance's again."""
    with transaction.atomic():
        # Two who change two rules at once both get their way.
        project = Project.objects.select_for_update(no_key=True).get(pk=number)
        before = project.rate_limits.get(rule) or settings.RATE_LIMITS[rule]
        project.rate_limits.pop(rule, None)
        if rate:
            project.rate_limits[rule] = rate
        project.save(update_fields=["rate_limits"])
    after = rate or settings.RATE_LIMITS[rule]
    own = "" if rate else ", as everywhere"
    return f"{rule} of {project.slug} is {budget(after)}{own}; it was {budget(before)}."
