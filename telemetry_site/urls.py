"""Every route of the service."""

from django.contrib import admin
from django.urls import include, path

from telemetry_site import document, health
from telemetry_site.monitoring.views import ScrapeView

urlpatterns = [
    path("", include("ingest.urls")),
    path("", include("privacy.urls")),
    path("", include("aggregation.urls")),
    path("healthz", health.HealthView.as_view(), name="healthz"),
    path("readyz", health.ReadyView.as_view(), name="readyz"),
    path("metrics", ScrapeView.as_view(), name="scrape"),
    path("api/schema/", document.DocumentView.as_view(), name="schema"),
    path("api/schema/docs/", document.PageView.as_view(), name="schema-docs"),
    path("admin/", admin.site.urls),
]

handler400 = "telemetry_site.errors.bad_request"
handler403 = "telemetry_site.errors.permission_denied"
handler404 = "telemetry_site.errors.not_found"
handler500 = "telemetry_site.errors.server_error"
