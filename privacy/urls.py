"""Where persons, or their project's server, ask about their data."""

from django.urls import path

from privacy import views

urlpatterns = [
    path("v1/telemetry/tokens", views.TokensView.as_view(), name="tokens"),
    path("v1/telemetry/export", views.ExportView.as_view(), name="exports"),
    path("v1/telemetry/exports/<uuid:export_id>", views.ExportStatusView.as_view(), name="export"),
    path(
        "v1/telemetry/exports/<uuid:export_id>/download",
        views.ExportDownloadView.as_view(),
        name="export-download",
    ),
    path("api/schema/export/", views.ExportSchemaView.as_view(), name="export-schema"),
    path("v1/telemetry/delete", views.DeleteView.as_view(), name="delete"),
    path("v1/telemetry/delete/status", views.DeletionStatusView.as_view(), name="delete-status"),
    path("v1/telemetry/delete/cancel", views.DeletionCancelView.as_view(), name="delete-cancel"),
    path("v1/telemetry/consent", views.ConsentView.as_view(), name="consent"),
]
