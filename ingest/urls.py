"""Where clients post, and where they ask what became of a batch."""

from django.urls import path

from ingest import views

urlpatterns = [
    path("v1/events", views.EventsView.as_view(), name="events"),
    path("v1/batches/<uuid:batch_id>", views.BatchView.as_view(), name="batch"),
    path("v1/ping", views.PingView.as_view(), name="ping"),
    path("v1/info", views.InfoView.as_view(), name="info"),
]
