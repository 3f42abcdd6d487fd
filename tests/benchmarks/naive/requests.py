"""Who is calling, and what a body holds."""

import gzip
import hashlib
import hmac
import json
from typing import Any

from cachetools import TTLCache
from django.conf import settings
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from tests.benchmarks.naive.models import ApiKey

_projects: TTLCache[str, int] = TTLCache(10_000, 5)


def digest_of(key: str) -> str:
    return hmac.new(settings.PEPPER, key.encode(), hashlib.sha256).hexdigest()


class KeyAuthentication(BaseAuthentication):
    """`X-API-Key`; a key that was looked up is remembered for a few seconds."""

    def authenticate(self, request: Request) -> tuple[None, int]:
        digest = digest_of(request.META.get("HTTP_X_API_KEY", ""))
        project = _projects.get(digest)
        if project is None:
            project = ApiKey.objects.filter(digest=digest).values_list("project_id").first()
            if project is None:
                raise exceptions.AuthenticationFailed("unknown key")
            project = _projects[digest] = project[0]
        return None, project


class GzipJSONParser(JSONParser):
    """JSON that came gzipped."""

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, Any]:
        body = stream.read()
        request: Request = (parser_context or {})["request"]
        if request.META.get("HTTP_CONTENT_ENCODING") == "gzip":
            body = gzip.decompress(body)
        try:
            return json.loads(body)
        except ValueError as error:
            raise exceptions.ParseError(f"JSON parse error - {error}") from None
