"""What persons ask of their data: a copy, its erasure, and what may be stored of them.

Each view does four things: authenticate, limit, decode, call one function.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from ingest.authentication import KeyAuthentication, MayQuery, granted
from ingest.endpoints import LimitedView
from ingest.models import Project
from ingest.ratelimits import Caller, Limiter
from privacy import audit, bodies, deletions, restrictions, schema, tokens
from privacy.authentication import (
    MayAskAboutPersons,
    SubjectAuthentication,
    actor,
    check_is_about,
)
from privacy.models import DeletionRequest, PersonRestriction
from privacy.subjects import Pseudonyms
from privacy.tokens import Subject
from telemetry_site.errors import error_response
from telemetry_site.responses import json_response

PERSONS: list[type[BaseAuthentication]] = [KeyAuthentication, SubjectAuthentication]


class PersonView(LimitedView):
    """A view about one person, whom the body names: `person` reads it, limits and checks."""

    authentication_classes = PERSONS
    permission_classes = [MayAskAboutPersons]
    rules = ("privacy.subject",)

    def person(self, request: Request, form: type[Serializer[Any]]) -> tuple[dict[str, Any], bytes]:
        """The body's fields, and the pseudonym of the person they name."""
        fields = bodies.read(request, form)
        return fields, self.subject(request, fields["user_id"])

    def subject(self, request: Request, user_id: str) -> bytes:
        """The pseudonym of the person; refuses who may not ask about them, or asks too often."""
        check_is_about(request, user_id)
        assert self.limiter is not None
        self.limiter.caller.user = user_id
        self.limiter.check()
        return Pseudonyms(settings.PEPPER, granted(request).project_id).subject(user_id)


class TokensView(LimitedView):
    """`POST /v1/telemetry/tokens`: a subject token for one of the project's users."""

    authentication_classes = [KeyAuthentication]
    permission_classes = [MayQuery]
    rules = ("query.key",)
    operation = schema.TOKENS

    def post(self, request: Request) -> HttpResponse:
        fields = bodies.read(request, bodies.TokenBody)
        project = Project.objects.get(pk=granted(request).project_id)
        token, expires_at = tokens.issue(
            project, fields["user_id"], timedelta(seconds=fields["expires_in"])
        )
        audit.record("token.issued", actor(request), project_id=project.pk)
        return json_response({"token": token, "expires_at": expires_at})


class DeleteView(PersonView):
    """`POST /v1/telemetry/delete`: erase what is stored of a person, and store nothing more."""

    operation = schema.DELETE

    def post(self, request: Request) -> HttpResponse:
        fields, subject = self.person(request, bodies.DeletionBody)
        wish, token = deletions.ask(
            granted(request).project_id,
            subject,
            actor(request),
            timedelta(days=fields["grace_days"]),
            fields["request_timestamp"],
        )
        return json_response(
            {
                "deletion_token": token,
                "estimated_completion": wish.deadline,
                "message": "Your data will be permanently deleted within 30 days",
                "erasure_from": wish.due_at,
            }
        )


class DeletionTokenView(APIView):
    """A view for whoever holds a deletion token: it is all that is needed."""

    authentication_classes = []

    def wish(self, request: Request) -> DeletionRequest:
        """The request that the token in the body was given out for."""
        token = bodies.read(request, bodies.DeletionTokenBody)["deletion_token"]
        found = DeletionRequest.objects.with_token(token)
        if found is None:
            # Guessing is as good as failing to authenticate.
            Limiter(Caller(request._request), ["auth.ip"]).check()
            raise exceptions.NotFound("This token is unknown, or has ended.", "unknown_token")
        return found


class DeletionStatusView(DeletionTokenView):
    """`POST /v1/telemetry/delete/status`: how far an erasure is, and its receipt."""

    operation = schema.DELETION_STATUS

    def post(self, request: Request) -> HttpResponse:
        return json_response(self.wish(request).report)


class DeletionCancelView(DeletionTokenView):
    """`POST /v1/telemetry/delete/cancel`: think better of it, until erasure begins."""

    operation = schema.DELETION_CANCEL

    def post(self, request: Request) -> HttpResponse:
        try:
            cancelled = deletions.cancel(self.wish(request), actor(request))
        except deletions.TooLate as error:
            return error_response(
                409, "too_late", f"It can't be cancelled any more: it is {error.state}."
            )
        return json_response(cancelled.report)


class ConsentView(PersonView):
    """`/v1/telemetry/consent`: what may be stored of a person, by category."""

    operations = schema.CONSENT

    def put(self, request: Request) -> HttpResponse:
        fields, subject = self.person(request, bodies.ConsentBody)
        project_id = granted(request).project_id
        with transaction.atomic():
            held = restrictions.consent(project_id, subject, fields["categories"])
            audit.record(
                "consent.changed",
                actor(request),
                project_id=project_id,
                **fields["categories"],
            )
        return _consent(fields["user_id"], held)

    def get(self, request: Request) -> HttpResponse:
        user_id = self._asked_about(request)
        subject = self.subject(request, user_id)
        return _consent(user_id, restrictions.of(granted(request).project_id, subject))

    def _asked_about(self, request: Request) -> str:
        """A person with a token asks about themselves; a server names the person in a header,
        since an address would be written down on the way."""
        named: str = request._request.META.get("HTTP_X_USER_ID", "").strip()
        if isinstance(request.user, Subject):
            return named or request.user.user_id
        if not named or len(named) > settings.MAX_NAME_LENGTH:
            raise exceptions.ValidationError(
                {"X-User-ID": exceptions.ErrorDetail("Name the user in this header.", "required")}
            )
        return named


def _consent(user_id: str, held: PersonRestriction) -> HttpResponse:
    return json_response(
        {"user_id": user_id, "categories": held.categories, "suppressed": held.suppressed}
    )
