"""`/metrics`: what Prometheus reads."""

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest.authentication import bearer
from telemetry_site.monitoring.figures import everything
from telemetry_site.schema import ONLY_FROM_HERE, SCRAPE, WRONG_BEARER

# What a proxy adds, by WSGI's names. One that adds nothing must be told not to pass /metrics on.
_FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")


class _Everything(Collector):
    def collect(self) -> Any:
        return everything()


class ScrapeAuthentication(BaseAuthentication):
    """The server's token where it has one, else coming from this machine."""

    def authenticate(self, request: Request) -> None:
        if settings.METRICS_TOKEN:
            if not hmac.compare_digest(bearer(request).encode(), settings.METRICS_TOKEN.encode()):
                raise AuthenticationFailed(WRONG_BEARER, code="invalid_token")
        elif not _is_direct(request.META):
            raise PermissionDenied(ONLY_FROM_HERE, code="token_needed")

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="telemetry metrics"'


class ScrapeView(APIView):
    """`GET /metrics`: all there is to tell, as text."""

    authentication_classes = [ScrapeAuthentication]
    operation = SCRAPE

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(generate_latest(_Everything()), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _is_direct(meta: Mapping[str, Any]) -> bool:
    """Whether a request comes from this machine, and through no proxy."""
    if any(name.startswith(_FORWARDED) for name in meta):
        return False
    try:
        address = ipaddress.ip_address(meta.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
