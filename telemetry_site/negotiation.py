"""Content negotiation: there is nothing to negotiate. What OPTIONS says."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rest_framework.metadata import BaseMetadata
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

if TYPE_CHECKING:
    # rest_framework.views imports this module, by the settings' word.
    from rest_framework.views import APIView


class JsonOnly(BaseContentNegotiation):
    """Answers in JSON whatever `Accept` says: a client is told what went wrong, not 406."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class Methods(BaseMetadata):
    """OPTIONS: the methods there are, as `Allow` says them."""

    def determine_metadata(self, request: Request, view: "APIView") -> dict[str, list[str]]:
        return {"methods": view.allowed_methods}
