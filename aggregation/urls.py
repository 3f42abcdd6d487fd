"""Where numbers are asked for."""

from django.urls import path

from aggregation import views

urlpatterns = [
    path("v1/query/accounting", views.AccountingView.as_view(), name="accounting"),
]
