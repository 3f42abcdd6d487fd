"""Who asks about a person's data: that person, with a subject token, or the project's server."""

import hmac

import msgspec
from django.conf import settings
from rest_framework import exceptions
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest import tokens as project_tokens
from ingest.authentication import BearerAuthentication, bearer, granted, refuse
from ingest.counters import counters
from ingest.models import ApiKey, Grant
from privacy import audit, tokens
from privacy.tokens import Subject

# The scope of whoever has a subject token; no key has it.
SUBJECT = tokens.SCOPE
NOTED_ONCE_SECONDS = 60


class SubjectAuthentication(BearerAuthentication):
    """`Authorization: Bearer <subject token>`; `request.user` is the Subject then."""

    def authenticate(self, request: Request) -> tuple[Subject, Grant] | None:
        text = bearer(request)
        if not project_tokens.looks_like_one(text):
            return None
        try:
            project, subject = tokens.subject_of(text)
        except project_tokens.InvalidToken as error:
            refuse(request, str(error), "invalid_token")
        return subject, project.grant(SUBJECT)


class MayAskAboutPersons(BasePermission):
    """A subject token, or the project's secret key."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.auth is None:
            refuse(
                request,
                "Send a subject token, or the project's secret key, as Authorization: Bearer.",
                "missing_token",
            )
        if granted(request).scope not in (SUBJECT, ApiKey.Scope.SECRET):
            raise exceptions.PermissionDenied(
                "This needs a subject token or a key of scope secret.", code="wrong_scope"
            )
        return True


def actor(request: Request) -> str:
    """Who asks, as the audit log names them: nobody's id."""
    if isinstance(request.user, Subject):
        return "subject"
    return f"key #{granted(request).key_id}" if request.auth is not None else "token holder"


def check_is_about(request: Request, user_id: str) -> None:
    """Refuse, and write down, that a person asks about somebody else."""
    if isinstance(request.user, Subject) and request.user.user_id != user_id:
        note_refused(request, "a token for one person was used on another", user_id)
        raise exceptions.PermissionDenied("The token is for another user.", code="wrong_subject")


def note_refused(request: Request, reason: str, of: str) -> None:
    """Write down that a person asked for what isn't theirs: once a minute for the same thing, so
    that nobody fills a log from which nothing is ever deleted."""
    assert isinstance(request.user, Subject)
    what = [granted(request).project_id, request.user.user_id, request.path, of]
    hashed = hmac.digest(settings.PEPPER, b"refused:" + msgspec.json.encode(what), "sha256")
    if not counters.is_first(hashed.hex(), NOTED_ONCE_SECONDS):
        return
    audit.record(
        "access.refused",
        actor(request),
        project_id=granted(request).project_id,
        reason=reason,
        path=request.path,
    )
