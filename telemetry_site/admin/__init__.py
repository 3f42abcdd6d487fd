"""The site's own pages in the admin: the first one, who may log in, queues and schedules."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from telemetry_site.admin.queues import QueueAdmin
from telemetry_site.admin.schedules import ScheduleAdmin
from telemetry_site.checks import CHECKS, examine
from telemetry_site.pages import ModelAdmin

__all__ = ["GroupAdmin", "QueueAdmin", "ScheduleAdmin", "UserAdmin", "first_page"]

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Who may log in, and in which roles."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """The roles, and what each may do."""


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What `admin/index.html` shows: how the service is."""
    findings = [(name, finding, CHECKS[name].action) for name, finding in examine().items()]
    return {**context, "title": "Health", "findings": findings}
