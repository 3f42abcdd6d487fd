"""Every route of the service."""

from django.contrib import admin
from django.urls import include, path

from telemetry_site import health

urlpatterns = [
    path("", include("ingest.urls")),
    path("", include("aggregation.urls")),
    path("healthz", health.HealthView.as_view(), name="healthz"),
    path("readyz", health.ReadyView.as_view(), name="readyz"),
    path("admin/", admin.site.urls),
]

handler400 = "telemetry_site.errors.bad_request"
handler403 = "telemetry_site.errors.permission_denied"
handler404 = "telemetry_site.errors.not_found"
handler500 = "telemetry_site.errors.server_error"
