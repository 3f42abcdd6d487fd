"""What a request's headers say."""

from django.conf import settings
from django.http import HttpRequest

from ingest.records import MalformedBatch

USER = "X-User-ID"


def text(request: HttpRequest, name: str) -> str | None:
    """A header's text, None where it is absent or empty. Raises MalformedBatch.

    As it came: HTTP itself takes spaces and tabs off its ends. WSGI hands its bytes out as Latin-1.
    """
    variable = "HTTP_" + name.upper().replace("-", "_")
    value: bytes = request.META.get(variable, "").encode("latin-1")
    if len(value) > settings.MAX_NAME_LENGTH:
        most = settings.MAX_NAME_LENGTH
        raise MalformedBatch("too_long", f"{name} is longer than {most} bytes")
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        raise MalformedBatch("invalid_utf8", f"{name} is not valid UTF-8") from None
