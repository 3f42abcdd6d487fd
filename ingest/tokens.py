"""Tokens that a project's own nodes send with: JWTs signed with its signing secret.

`aud` is the project's slug, `scope` is `ingest`; `exp` and `nbf` are obeyed where they stand. All
of a project's tokens end when its signing version is raised.
"""

import re

import jwt

from ingest import memory
from ingest.models import ApiKey, Grant

SCOPE = "ingest"
_ALGORITHMS = ["HS256"]
_LONGEST = 4096
# Clocks of nodes are off by some seconds.
_LEEWAY_SECONDS = 30
_SLUG = re.compile(r"[-a-zA-Z0-9_]{1,50}")


class InvalidToken(Exception):
    """A token that grants nothing; says why, as far as its sender may know."""


def looks_like_one(text: str) -> bool:
    """Whether this is a JWT and not a key: three parts, the first of which starts an object."""
    return text.startswith("eyJ") and text.count(".") == 2


def grant_of(text: str) -> Grant:
    """What a token grants. Raises InvalidToken."""
    if len(text) > _LONGEST:
        raise InvalidToken("The token is too long.")
    try:
        # Whose it claims to be decides which secret it must be signed with; nothing else is
        # believed before the signature holds.
        slug = jwt.decode(text, options={"verify_signature": False}).get("aud")
        project = memory.project(slug) if isinstance(slug, str) and _SLUG.fullmatch(slug) else None
        if project is None:
            raise jwt.InvalidAudienceError
        claims = jwt.decode(
            text, project.signing_secret, _ALGORITHMS, audience=slug, leeway=_LEEWAY_SECONDS
        )
    except jwt.ExpiredSignatureError:
        raise InvalidToken("The token has expired.") from None
    except jwt.InvalidTokenError:
        raise InvalidToken("The token isn't valid: see its signature, aud and times.") from None
    if claims.get("scope") != SCOPE:
        raise InvalidToken("The token's scope must be ingest.")
    return project.grant(ApiKey.Scope.INGEST.value)
