"""What every view about one person does, and tokens for one."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.serializers import Serializer

from ingest.authentication import KeyAuthentication, MayQuery, granted
from ingest.endpoints import LimitedView
from ingest.models import Project
from ingest.ratelimits import Caller, Limiter
from privacy import (
    audit,
    bodies,
    schema,
    tokens,
)
from privacy.authentication import (
    MayAskAboutPersons,
    SubjectAuthentication,
    actor,
    check_is_about,
)
from privacy.subjects import Pseudonyms
from privacy.tokens import Subject
from telemetry_site.responses import json_response

PERSONS: list[type[BaseAuthentication]] = [KeyAuthentication, SubjectAuthentication]


class PersonView(LimitedView):
    """A view about one person, whom the body names: `person` reads it, limits and checks."""

    authentication_classes = PERSONS
    permission_classes = [MayAskAboutPersons]
    rules = ("privacy.subject",)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if isinstance(request.user, Subject):
            # Before the body is read, whatever that may be.
            self.count(request.user.user_id)

    def person(self, request: Request, form: type[Serializer[Any]]) -> tuple[dict[str, Any], bytes]:
        """The body's fields, and the pseudonym of the person they name."""
        fields = bodies.read(request, form)
        return fields, self.subject(request, fields["user_id"])

    def subject(self, request: Request, user_id: str) -> bytes:
        """The pseudonym of the person; refuses who may not ask about them, or asks too often."""
        # Before anything is written. Persons are counted: who asks about others uses up their own.
        if not isinstance(request.user, Subject):
            self.count(user_id)
        check_is_about(request, user_id)
        return Pseudonyms(settings.PEPPER, granted(request).project_id).subject(user_id)

    def count(self, user_id: str) -> None:
        """Count the request by a person; refuses what is too many."""
        assert self.limiter is not None
        self.limiter.caller.user = user_id
        self.limiter.check()


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


def count_failed(request: Request) -> None:
    """Guessing, or sending what is nothing, is as good as failing to authenticate."""
    Limiter(Caller(request._request), ["auth.ip"]).check()
