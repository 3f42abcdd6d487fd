"""The site's own pages in the admin: the first one, who may log in, queues and schedules."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from telemetry_site.admin.entrance import LoginForm
from telemetry_site.admin.queues import QueueAdmin
from telemetry_site.admin.schedules import ScheduleAdmin
from telemetry_site.checks import CHECKS, examine
from telemetry_site.pages import ModelAdmin

__all__ = ["GroupAdmin", "QueueAdmin", "ScheduleAdmin", "UserAdmin", "first_page"]

admin.site.login_form = LoginForm
admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """Who may log in, and in which roles."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "roles", "is_active", "is_superuser", "last_login")
    list_filter = ("groups", "is_active")
    # Roles are what there is to give; single permissions belong to them.
    fieldsets = (
        (None, {"fields": ("username", "password", "email")}),
        ("Roles", {"fields": ("groups", "is_superuser", "is_active")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "password1", "password2", "groups")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only who may do everything makes others that may."""
        return () if request.user.is_superuser else ("is_superuser",)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """There is nothing to log in to but the admin: whoever is made may."""
        if not change:
            obj.is_staff = True
        super().save_model(request, obj, form, change)

    @admin.display(description="roles")
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """The roles, and what each may do."""


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What `admin/index.html` shows: how the service is."""
    findings = [
        (name, finding, finding.action or CHECKS[name].action)
        for name, finding in examine().items()
    ]
    return {**context, "title": "Health", "findings": findings}
