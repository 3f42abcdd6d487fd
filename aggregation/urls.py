"""Where numbers are asked for."""

from django.urls import path

from aggregation import views

urlpatterns = [
    path("v1/query/events", views.EventsView.as_view(), name="query-events"),
    path("v1/query/metrics", views.MetricsView.as_view(), name="query-metrics"),
    path("v1/query/nodes", views.NodesView.as_view(), name="query-nodes"),
    path("v1/query/daily", views.DailyView.as_view(), name="query-daily"),
    path("v1/query/accounting", views.AccountingView.as_view(), name="accounting"),
]
