"""Where clients post, and where they ask what became of a batch."""

from django.urls import path

from ingest import views
from ingest.otlp import views as otlp

urlpatterns = [
    path("v1/events", views.EventsView.as_view(), name="events"),
    path("v1/submit", views.SubmitView.as_view(), name="submit"),
    path("v1/submit/ping", views.PingView.as_view(), name="submit-ping"),
    path("v1/metrics", views.MetricsView.as_view(), name="metrics"),
    path("api/client-telemetry", views.ClientTelemetryView.as_view(), name="client-telemetry"),
    path("api/telemetry/snapshot", views.SnapshotView.as_view(), name="snapshot"),
    path("otlp/v1/logs", otlp.LogsView.as_view(), name="otlp-logs"),
    path("otlp/v1/metrics", otlp.MetricsView.as_view(), name="otlp-metrics"),
    path("otlp/v1/traces", otlp.TracesView.as_view(), name="otlp-traces"),
    path("v1/batches/<uuid:batch_id>", views.BatchView.as_view(), name="batch"),
    path("v1/ping", views.PingView.as_view(), name="ping"),
    path("v1/info", views.InfoView.as_view(), name="info"),
]
