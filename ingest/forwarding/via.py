"""What we sent ourselves: a collector's URL that leads back here would send it round for ever.

Each request names this instance in `Via` (RFC 9110, 7.6.3), as a proxy would.
"""

import hashlib
import hmac
from functools import cache

from django.conf import settings
from django.http import HttpRequest

from ingest.records import MalformedBatch


@cache
def name() -> str:
    """This instance's, the same in each of its processes."""
    digest = hmac.new(settings.PEPPER, b"via", hashlib.sha256).hexdigest()
    return f"client-telemetry-{digest[:16]}"


def check_is_not_ours(request: HttpRequest) -> None:
    """Refuse what this instance sent."""
    if name() in request.META.get("HTTP_VIA", ""):
        raise MalformedBatch(
            "loop", "This server forwarded the request itself: its collector's URL leads back here."
        )
