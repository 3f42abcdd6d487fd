"""Refusals below `/otlp/` are OTLP's, wherever they come from: a view, a route that there isn't, a
host that isn't ours, a defect."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from ingest.otlp.answers import PATHS, as_status


class OtlpRefusals:
    """Says them in other words (`answers.as_status`)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code >= 400 and request.path_info.startswith(PATHS):
            return as_status(request, response)
        return response
