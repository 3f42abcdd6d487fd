"""Subject tokens: JWTs by which one person may ask for their own data, its erasure, and consent.

`sub` is the user id, `aud` the project's slug, `scope` is `privacy`, `exp` at most a day away;
signed by the project's own server, or here for the holder of its secret key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from django.conf import settings
from django.utils import timezone

from ingest import tokens
from ingest.models import Project

SCOPE = "privacy"
LONGEST_LIFE = timedelta(days=1)
_ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Subject:
    """The person a token is for, by the id the project knows them by."""

    user_id: str


def issue(project: Project, user_id: str, life: timedelta) -> tuple[str, datetime]:
    """A token for one of the project's users, and when it ends."""
    expires_at = (timezone.now() + life).replace(microsecond=0)
    claims = {"aud": project.slug, "sub": user_id, "scope": SCOPE, "exp": expires_at}
    return jwt.encode(claims, project.signing_secret, _ALGORITHM), expires_at


def subject_of(text: str) -> tuple[Project, Subject]:
    """Whose project and which person a token is for. Raises `tokens.InvalidToken`."""
    project, claims = tokens.verified(text, SCOPE)
    user_id, expires = claims.get("sub"), claims.get("exp")
    if not isinstance(user_id, str) or not _is_id(user_id):
        raise tokens.InvalidToken("The token must name its user as sub.")
    if not isinstance(expires, int | float):
        raise tokens.InvalidToken("The token must say when it expires, as exp.")
    latest = timezone.now().timestamp() + LONGEST_LIFE.total_seconds() + tokens.LEEWAY_SECONDS
    if expires > latest:
        raise tokens.InvalidToken("The token may be valid for a day at most; see exp.")
    return project, Subject(user_id)


def _is_id(text: str) -> bool:
    """Whether an event could name somebody so."""
    surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    short = len(text) <= settings.MAX_NAME_LENGTH
    return bool(text.strip()) and short and "\0" not in text and not surrogates
