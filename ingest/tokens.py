"""Tokens of a project's own: JWTs signed with its signing secret.

`aud` is the project's slug, `scope` says what the token is for: a node's may send (`ingest`); `exp`
and `nbf` are obeyed where they stand. A secret that was rotated holds as long as its overlap.
"""

import re
from collections.abc import Mapping
from typing import Any

import jwt

from ingest import memory
from ingest.models import ApiKey, Grant, Project

SCOPE = "ingest"
_ALGORITHMS = ["HS256"]
_LONGEST = 4096
# Clocks of nodes are off by some seconds.
LEEWAY_SECONDS = 30
_SLUG = re.compile(r"[-a-zA-Z0-9_]{1,50}")


class InvalidToken(Exception):
    """A token that grants nothing; says why, as far as its sender may know."""


def looks_like_one(text: str) -> bool:
    """Whether this is a JWT and not a key: three parts, the first of which starts an object."""
    return text.startswith("eyJ") and text.count(".") == 2


def grant_of(text: str) -> Grant:
    """What a node's token grants. Raises InvalidToken."""
    project, _ = verified(text, SCOPE)
    return project.grant(ApiKey.Scope.INGEST.value)


def verified(text: str, scope: str) -> tuple[Project, Mapping[str, Any]]:
    """Whose a token is, and what it claims. Raises InvalidToken, also where it is of no `scope`."""
    if len(text) > _LONGEST:
        raise InvalidToken("The token is too long.")
    try:
        # Whose it claims to be decides which secret it must be signed with; nothing else is
        # believed before the signature holds.
        slug = jwt.decode(text, options={"verify_signature": False}).get("aud")
        project = memory.project(slug) if isinstance(slug, str) and _SLUG.fullmatch(slug) else None
        if project is None:
            raise jwt.InvalidAudienceError
        claims = _decoded(text, project)
    except jwt.ExpiredSignatureError:
        raise InvalidToken("The token has expired.") from None
    except jwt.InvalidTokenError:
        raise InvalidToken("The token isn't valid: see its signature, aud and times.") from None
    if claims.get("scope") != scope:
        raise InvalidToken(f"The token's scope must be {scope}.")
    return project, claims


def _decoded(text: str, project: Project) -> Mapping[str, Any]:
    """The claims, if one of the secrets that hold now signed them."""
    *earlier, last = project.signing_secrets
    for secret in earlier:
        try:
            return _decode(text, secret, project.slug)
        except jwt.InvalidSignatureError:
            continue
    return _decode(text, last, project.slug)


def _decode(text: str, secret: str, audience: str) -> Mapping[str, Any]:
    return jwt.decode(text, secret, _ALGORITHMS, audience=audience, leeway=LEEWAY_SECONDS)
