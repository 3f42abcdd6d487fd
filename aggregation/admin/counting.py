"""By what a project's events are counted, how few people are shown, and how long data is kept."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.urls import URLPattern

from aggregation.admin import dashboard
from aggregation.budgets import Series
from aggregation.dimensions import overlapping
from aggregation.models import Counting, Dimension, Mode, Policy
from ingest.admin.lists import NOTHING
from ingest.models import Project
from privacy import audit
from telemetry_site.pages import ModelAdmin, operator

if TYPE_CHECKING:
    from django.contrib.admin import StackedInline, TabularInline
else:
    from unfold.admin import StackedInline, TabularInline


_CHANGE = "aggregation.change_counting"
# How persons are protected is for whoever may change privacy rules.
_CHANGE_PRIVACY = "privacy.change_privacy_rules"
_PRIVACY = (
    "mode", "threshold", "daily_epsilon", "lifetime_epsilon", "most_events", "most_names",
)  # fmt: skip
_DAYS = ("event_days", "point_days")


class OfAProject:
    """Who may look at the page sees all of it."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("aggregation.view_counting")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm(_CHANGE)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_change_permission(request)


class Dimensions(BaseInlineFormSet):
    """A project's dimensions, which mustn't overlap."""

    def clean(self) -> None:
        super().clean()
        rows = [form.cleaned_data for form in self.forms if form.is_valid()]
        kept = [row for row in rows if row.get("path") and not row.get("DELETE")]
        if path := overlapping((row["path"], row["event"]) for row in kept):
            raise ValidationError(
                f"“{path}” can't count all events and those of one name as well: the difference "
                "would show small groups of the others. Choose one of the two."
            )


class DimensionInline(OfAProject, TabularInline):
    model = Dimension
    formset = Dimensions
    extra = 0
    max_num = Dimension.MOST

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        return super().get_formset(request, obj, validate_max=True, **kwargs)


class PolicyForm(ModelForm):
    """Saves what was changed, so that nothing is set back that changed since the page was read."""

    def save(self, commit: bool = True) -> Policy:
        policy: Policy = self.instance
        if not commit or policy._state.adding:
            super().save(commit)
        else:
            since = ["private_from"] if "mode" in self.changed_data else []
            policy.save(update_fields=[*self.changed_data, *since])
        return policy


class PolicyInline(OfAProject, StackedInline):
    model = Policy
    form = PolicyForm
    verbose_name_plural = "policy"
    can_delete = False
    min_num = max_num = 1
    fields = (*_PRIVACY, "noise", "spent", *_DAYS)
    readonly_fields = ("noise", "spent")

    @admin.display(description="noise")
    def noise(self, policy: Policy) -> str:
        """What the fields of private mode, as they are saved, make of the numbers."""
        terms = Policy.of(policy.pk).terms
        events, people, names = (terms.margin(series) for series in Series)
        return (
            f"With these settings 19 of 20 numbers of a day are within ± {events:,} events, "
            f"± {people:,} people, and by name ± {names:,} events; names of fewer than "
            f"{terms.threshold:,} events, at most {terms.most_of_a_name:,} a person, are withheld."
        )

    @admin.display(description="spent")
    def spent(self, policy: Policy) -> str:
        """How far the project's days are released, and for how many more there is a budget."""
        policy = Policy.of(policy.pk)
        if policy.mode != Mode.PRIVATE:
            return "The project isn't in private mode."
        spending = policy.spending
        return (
            f"{spending.epsilon} of {policy.lifetime_epsilon}, by {spending.days:,} days since "
            f"{policy.private_from}; enough for {spending.left:,} more."
        )

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Of some of it at least: `get_readonly_fields` says of which."""
        return request.user.has_perm(_CHANGE) or request.user.has_perm(_CHANGE_PRIVACY)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (
            *self.readonly_fields,
            *(() if request.user.has_perm(_CHANGE_PRIVACY) else _PRIVACY),
            *(() if request.user.has_perm(_CHANGE) else _DAYS),
        )

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        return super().get_formset(request, obj, validate_max=True, **kwargs)


@admin.register(Counting)
class CountingAdmin(OfAProject, ModelAdmin):
    empty = "There is no project yet. Each has dimensions and a policy of its own."
    list_display = ("slug", "name", "counted_by", "mode", "threshold")
    search_fields = ("slug", "name")
    ordering = ("slug",)
    fields = readonly_fields = ("slug", "name")
    inlines = (DimensionInline, PolicyInline)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Of some of it at least: the inlines say of which."""
        return request.user.has_perm(_CHANGE) or request.user.has_perm(_CHANGE_PRIVACY)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [*dashboard.urls(self), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> Any:
        found = super().get_queryset(request)
        return found.select_related("policy").prefetch_related("dimensions")

    @admin.display(description="counted by")
    def counted_by(self, project: Project) -> str:
        names = sorted(dimension.name for dimension in project.dimensions.all())
        return ", ".join(names) or NOTHING

    @admin.display(description="mode")
    def mode(self, project: Project) -> str:
        """A project without a policy of its own has the default's."""
        return Mode(getattr(project, "policy", Policy()).mode).name.lower()

    @admin.display(description="fewest people shown")
    def threshold(self, project: Project) -> int | str:
        policy = getattr(project, "policy", Policy())
        return NOTHING if policy.mode == Mode.PRIVATE else policy.threshold

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Whoever protects persons less, or in another way, or has data kept for another time is on
        record."""
        project = form.instance.pk
        before = Policy.of(project)
        super().save_related(request, form, formsets, change)
        for action, values in _changed(before, Policy.of(project)):
            audit.record(action, operator(request), project_id=project, **values)


def _changed(before: Policy, after: Policy) -> Iterator[tuple[str, dict[str, Any]]]:
    """What of a policy goes into the audit log, and what it was before."""
    if after.mode != before.mode:
        yield "mode.changed", {"before": before.mode, "after": after.mode}
    if after.threshold < before.threshold:
        yield "threshold.lowered", {"before": before.threshold, "after": after.threshold}
    for budget in ("daily", "lifetime"):
        was, new = (getattr(policy, f"{budget}_epsilon") for policy in (before, after))
        if new > was:
            values = {"budget": budget, "before": str(was), "after": str(new)}
            yield "epsilon.raised", values
    days = {
        name: getattr(after, name) or "as everywhere"
        for name in _DAYS
        if getattr(after, name) != getattr(before, name)
    }
    if days:
        yield "retention.changed", days
