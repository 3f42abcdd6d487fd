"""Who is calling: API keys, looked up by prefix and kept in memory for a few seconds."""

import threading
from typing import TYPE_CHECKING, Any, cast

from cachetools import TTLCache
from django.conf import settings
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ingest.models import ApiKey, KeyGrant

if TYPE_CHECKING:
    # rest_framework.views imports this module, by the settings' word.
    from rest_framework.views import APIView

_KEYS_IN_MEMORY = 10_000
_UNKNOWN = object()


class KeyCache:
    """Keys by prefix, unknown prefixes included, for `TELEMETRY_KEY_CACHE_SECONDS`.

    So the hot path asks the database nothing about a key in use, and a flood of made-up prefixes
    can't fill the memory. A revocation works everywhere once that time has passed.
    """

    def __init__(self) -> None:
        self._keys: TTLCache[str, Any] = TTLCache(_KEYS_IN_MEMORY, settings.KEY_CACHE_SECONDS)
        self._lock = threading.Lock()

    def get(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, as it was at most a few seconds ago."""
        with self._lock:
            known = self._keys.get(prefix, _UNKNOWN)
        if known is not _UNKNOWN:
            return cast("ApiKey | None", known)
        key = ApiKey.objects.usable(prefix)
        if key is not None:
            key.note_use()
        with self._lock:
            self._keys[prefix] = key
        return key


_cache = KeyCache()


def check_key(text: str) -> KeyGrant | None:
    """What the key `text` grants, or None where it grants nothing (any more)."""
    scope, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    key = _cache.get(prefix) if len(prefix) == 12 and prefix.isascii() else None
    if key is None or key.scope != scope or not key.matches(secret):
        return None
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return None
    return key.grant


class KeyAuthentication(BaseAuthentication):
    """`X-API-Key: <key>` or `Authorization: Bearer <key>`; `granted(request)` is what it grants."""

    def authenticate(self, request: Request) -> tuple[None, KeyGrant] | None:
        text = request.META.get("HTTP_X_API_KEY", "").strip() or _bearer(request)
        if not text:
            return None
        grant = check_key(text)
        if grant is None:
            raise exceptions.AuthenticationFailed(
                "This key is unknown, expired or revoked.", code="invalid_key"
            )
        return None, grant

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="telemetry"'


def granted(request: Request) -> KeyGrant:
    """What the caller's key grants; for views behind one of the permissions below."""
    grant = request.auth
    assert isinstance(grant, KeyGrant)
    return grant


def _bearer(request: Request) -> str:
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class _HasScope(BasePermission):
    """The caller has a key of one of `scopes`."""

    scopes: frozenset[str]

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if request.auth is None:
            raise exceptions.NotAuthenticated(
                "Send the project's key as X-API-Key or as Authorization: Bearer.",
                code="missing_key",
            )
        if granted(request).scope not in self.scopes:
            raise exceptions.PermissionDenied(
                f"This needs a key of scope {' or '.join(sorted(self.scopes))}.",
                code="wrong_scope",
            )
        return True


class MayIngest(_HasScope):
    """Keys that may write: a server that holds the secret key may send events with it too."""

    scopes = frozenset({ApiKey.Scope.INGEST.value, ApiKey.Scope.SECRET.value})


class MayQuery(_HasScope):
    """Keys that may read."""

    scopes = frozenset({ApiKey.Scope.SECRET.value})
