"""Who is calling: API keys, a project's own tokens, and where a project allows it, nobody.

What is looked up is kept in memory for a few seconds; see `memory`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from django.utils import timezone
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ingest import memory, tokens
from ingest.cors import origin_of
from ingest.models import ApiKey, Grant
from ingest.ratelimits import Caller, Limiter

if TYPE_CHECKING:
    # rest_framework.views imports this module, by the settings' word.
    from rest_framework.views import APIView

_INGEST = ApiKey.Scope.INGEST.value
_PREFIX = re.compile(r"[0-9a-f]{12}")


def check_key(text: str) -> Grant | None:
    """What the key `text` grants, or None where it grants nothing (any more)."""
    scope, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    key = memory.key(prefix) if _PREFIX.fullmatch(prefix) else None
    if key is None or key.scope != scope or not key.matches(secret):
        return None
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return None
    return key.grant


def refuse(request: Request, details: str, code: str) -> NoReturn:
    """401, or 429 for an address that was refused too often: raises either."""
    Limiter(Caller(request._request), ["auth.ip"]).check()
    raise exceptions.AuthenticationFailed(details, code=code)


class BearerAuthentication(BaseAuthentication):
    """What a refusal asks for."""

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="telemetry"'


class KeyAuthentication(BearerAuthentication):
    """`X-API-Key: <key>` or `Authorization: Bearer <key>`; `granted(request)` is what it grants."""

    def authenticate(self, request: Request) -> tuple[None, Grant] | None:
        text = request.META.get("HTTP_X_API_KEY", "").strip() or bearer(request)
        if not text or tokens.looks_like_one(text):
            return None
        grant = check_key(text)
        if grant is None:
            refuse(request, "This key is unknown, expired or revoked.", "invalid_key")
        return None, grant


class UrlKeyAuthentication(BearerAuthentication):
    """`?key=`, for beacons, which can't set headers: publishable keys only."""

    def authenticate(self, request: Request) -> tuple[None, Grant] | None:
        text = request.GET.get("key", "").strip()
        if not text:
            return None
        if not text.startswith(f"{_INGEST}_"):
            refuse(request, "Only publishable keys (ingest_…) may stand in a URL.", "invalid_key")
        grant = check_key(text)
        if grant is None:
            refuse(request, "This key is unknown, expired or revoked.", "invalid_key")
        return None, grant


class TokenAuthentication(BearerAuthentication):
    """`Authorization: Bearer <JWT>`, signed with the project's signing secret, to send only."""

    def authenticate(self, request: Request) -> tuple[None, Grant] | None:
        text = bearer(request)
        if not tokens.looks_like_one(text):
            return None
        try:
            return None, tokens.grant_of(text)
        except tokens.InvalidToken as error:
            refuse(request, str(error), "invalid_token")


class KeylessAuthentication(BearerAuthentication):
    """Nobody: pages of an origin whose project takes them so, and the instance's own project."""

    def authenticate(self, request: Request) -> tuple[None, Grant] | None:
        origin = origin_of(request._request)
        project = memory.keyless_project(origin) if origin else None
        project = project or memory.anonymous_project()
        return (None, project.grant(_INGEST)) if project is not None else None


def granted(request: Request) -> Grant:
    """What the caller may do; for views behind one of the permissions below."""
    grant = request.auth
    assert isinstance(grant, Grant)
    return grant


def bearer(request: Request) -> str:
    """What stands behind `Authorization: Bearer`; empty where nothing does."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# Who may send: tried in this order.
SENDERS: Sequence[type[BaseAuthentication]] = (
    KeyAuthentication,
    TokenAuthentication,
    UrlKeyAuthentication,
    KeylessAuthentication,
)


class _HasScope(BasePermission):
    """The caller has a key of one of `scopes`."""

    scopes: frozenset[str]

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if request.auth is None:
            refuse(
                request,
                "Send the project's key as X-API-Key or as Authorization: Bearer.",
                "missing_key",
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
