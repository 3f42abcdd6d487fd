"""The one endpoint, and what says that the server is up."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.benchmarks.naive.views import EventsView


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("v1/events", EventsView.as_view()), path("healthz", healthz)]
