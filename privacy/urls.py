"""Where persons, or their project's server, ask about their data."""

from django.urls import path

from privacy.views import consent, deletions, exports, persons

urlpatterns = [
    path("v1/telemetry/tokens", persons.TokensView.as_view(), name="tokens"),
    path("v1/telemetry/export", exports.ExportView.as_view(), name="exports"),
    path(
        "v1/telemetry/exports/<uuid:export_id>", exports.ExportStatusView.as_view(), name="export"
    ),
    path(
        "v1/telemetry/exports/<uuid:export_id>/download",
        exports.ExportDownloadView.as_view(),
        name="export-download",
    ),
    path("api/schema/export/", exports.ExportSchemaView.as_view(), name="export-schema"),
    path("v1/telemetry/delete", deletions.DeleteView.as_view(), name="delete"),
    path(
        "v1/telemetry/delete/status", deletions.DeletionStatusView.as_view(), name="delete-status"
    ),
    path(
        "v1/telemetry/delete/cancel", deletions.DeletionCancelView.as_view(), name="delete-cancel"
    ),
    path("v1/telemetry/consent", consent.ConsentView.as_view(), name="consent"),
]
