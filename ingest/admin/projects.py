"""The intake's tables in the admin: projects and their keys."""

from django.contrib import admin
from django.http import HttpRequest

from ingest.models import ApiKey, Project, RateLimitViolation
from telemetry_site.pages import ListPage, ModelAdmin


@admin.register(Project)
class ProjectAdmin(ModelAdmin):
    list_display = ("slug", "name", "users_optional", "created_at")
    readonly_fields = ("slug", "signing_version", "created_at")
    search_fields = ("slug", "name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Projects come with keys, which are shown once: by `manage.py create_project`."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        """The data path's rows point here without a constraint."""
        return False


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("prefix", "project", "scope", "label", "state", "last_used_at")
    list_filter = ("scope", "project")
    list_select_related = ("project",)
    search_fields = ("prefix", "label")
    fields = ("project", "scope", "prefix", "label", "state", "created_at", "last_used_at")
    readonly_fields = ("project", "scope", "prefix", "state", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Keys are shown once: by `manage.py keys create`."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Keys are revoked, by `manage.py keys revoke`, and stay on record."""
        return False


@admin.register(RateLimitViolation)
class RateLimitViolationAdmin(ListPage):
    list_display = ("minute", "project", "rule", "count", "key", "network")
    list_filter = ("rule", "project", "minute")
    list_select_related = ("project",)
    ordering = ("-minute", "-count")
    date_hierarchy = "minute"
