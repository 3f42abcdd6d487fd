"""The beat schedule: what runs how often. What a schedule runs is the code's, and never edited."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat import admin as theirs
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from telemetry_site.admin.queues import OPERATE
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection
from telemetry_site.pages import ModelAdmin, Refused, perform

# One page in place of its five: an interval is changed where it is used.
for _model in (
    theirs.PeriodicTask,
    theirs.IntervalSchedule,
    theirs.CrontabSchedule,
    theirs.SolarSchedule,
    theirs.ClockedSchedule,
):
    admin.site.unregister(_model)

CHANGE = "django_celery_beat.change_periodictask"
PERIODS = [(unit, unit) for unit in ("seconds", "minutes", "hours", "days")]


class ScheduleForm(forms.ModelForm):
    """How often a schedule runs, and whether it does."""

    every = forms.IntegerField(min_value=1, widget=UnfoldAdminIntegerFieldWidget)
    period = forms.ChoiceField(choices=PERIODS, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = PeriodicTask
        fields = ("enabled",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if interval := self.instance.interval:
            self.initial.update(every=interval.every, period=interval.period)
        else:
            # A crontab made in the shell: shown, and changed there.
            del self.fields["every"], self.fields["period"]

    def save(self, commit: bool = True) -> PeriodicTask:
        """With an interval shared by all schedules that run as often."""
        if {"every", "period"} & set(self.changed_data):
            every, period = self.cleaned_data["every"], self.cleaned_data["period"]
            self.instance.interval, _ = IntervalSchedule.objects.get_or_create(
                every=every, period=period
            )
            # As the seed has it: none pile up while no worker runs.
            seconds = timedelta(**{period: every}).total_seconds()
            self.instance.expire_seconds = int(seconds)
        saved: PeriodicTask = super().save(commit)
        return saved


@admin.register(PeriodicTask)
class ScheduleAdmin(ModelAdmin):
    form = ScheduleForm
    list_display = ("name", "purpose", "how_often", "sent_to", "last_run", "enabled")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    list_display_links = ("name",)
    ordering = ("name",)
    readonly_fields = ("purpose", "runs", "sent_to", "how_often", "last_run")
    actions = None

    class Media:
        css = {"all": ("telemetry_site/queues.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Schedules come with the code that they run."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Beat would make it again: it is disabled instead."""
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """No interval to be edited where there is none."""
        may_change = self.has_change_permission(request, obj)
        interval = ["every", "period"] if may_change and obj and obj.interval else []
        return [*self.readonly_fields, "enabled", *interval]

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        """Buttons for those who may press them."""
        buttons = [name for name, button in BUTTONS.items() if _may(request, button.permission)]
        return (*self.list_display, *buttons)

    @admin.display(description="What for", ordering="description")
    def purpose(self, schedule: PeriodicTask) -> str:
        return str(schedule.description)

    @admin.display(description="Task")
    def runs(self, schedule: PeriodicTask) -> str:
        return str(schedule.task)

    @admin.display(description="Queue", ordering="queue")
    def sent_to(self, schedule: PeriodicTask) -> str:
        return schedule.queue or "default"

    @admin.display(description="How often")
    def how_often(self, schedule: PeriodicTask) -> str:
        return str(schedule.scheduler)

    @admin.display(description="Last run", ordering="last_run_at")
    def last_run(self, schedule: PeriodicTask) -> str:
        """As beat writes it down, every three minutes."""
        at = schedule.last_run_at
        return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "not yet"

    @admin.display(description="Run")
    def run(self, schedule: PeriodicTask) -> SafeString:
        return _button("run", schedule, "Run now")

    @admin.display(description="Switch")
    def switch(self, schedule: PeriodicTask) -> SafeString:
        return _button("switch", schedule, "Disable" if schedule.enabled else "Enable")

    def get_urls(self) -> list[URLPattern]:
        buttons = [
            path(
                f"<int:schedule_id>/{name}/",
                self.admin_site.admin_view(self._view(button)),
                name=f"django_celery_beat_periodictask_{name}",
            )
            for name, button in BUTTONS.items()
        ]
        return [*buttons, *super().get_urls()]

    def _view(self, button: "Button") -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, schedule_id: int) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not _may(request, button.permission):
                raise PermissionDenied
            perform(request, PeriodicTask, lambda _: button.press(_schedule(schedule_id)))
            return HttpResponseRedirect(reverse("admin:django_celery_beat_periodictask_changelist"))

        return view


def _run(schedule: PeriodicTask) -> str:
    try:
        with broker_connection() as broker:
            app.send_task(
                schedule.task,
                json.loads(schedule.args),
                json.loads(schedule.kwargs),
                queue=schedule.queue,
                expires=schedule.expires_,
                connection=broker,
                retry=False,
            )
    except BROKER_ERRORS:
        raise Refused("Redis does not answer: nothing was sent.") from None
    return f"{schedule.name} is sent to the queue {schedule.queue or 'default'}."


def _switch(schedule: PeriodicTask) -> str:
    schedule.enabled = not schedule.enabled
    schedule.save()
    return f"{schedule.name} is {'enabled' if schedule.enabled else 'disabled'}."


@dataclass(frozen=True)
class Button:
    """What a button in a schedule's line does, and the permission it takes."""

    permission: str
    press: Callable[[PeriodicTask], str]


BUTTONS = {"run": Button(OPERATE, _run), "switch": Button(CHANGE, _switch)}


def _may(request: HttpRequest, permission: str) -> bool:
    return bool(request.user.has_perm(permission))


def _schedule(schedule_id: int) -> PeriodicTask:
    schedule = PeriodicTask.objects.filter(pk=schedule_id).first()
    if schedule is None:
        raise Refused("There is no such schedule.")
    return schedule


def _button(name: str, schedule: PeriodicTask, text: str) -> SafeString:
    """In the form of the list, which carries the token: it works without JavaScript."""
    where = reverse(f"admin:django_celery_beat_periodictask_{name}", args=[schedule.pk])
    return format_html(
        '<button type="submit" class="line-button" formaction="{}">{}</button>', where, text
    )
