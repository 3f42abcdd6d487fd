"""What may be stored of a person."""

import logging

from django.db import transaction
from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request

from ingest import headers
from ingest.authentication import granted
from ingest.records import MalformedBatch
from privacy import (
    audit,
    bodies,
    deletions,
    restrictions,
    schema,
)
from privacy.authentication import (
    actor,
)
from privacy.models import PersonRestriction
from privacy.tokens import Subject
from privacy.views.persons import PersonView
from telemetry_site.errors import error_response
from telemetry_site.responses import json_response

logger = logging.getLogger(__name__)

# What is stored at a time takes a fraction of a second.
STORING_SECONDS = 3


class ConsentView(PersonView):
    """`/v1/telemetry/consent`: what may be stored of a person, by category."""

    operations = schema.CONSENT

    def put(self, request: Request) -> HttpResponse:
        fields, subject = self.person(request, bodies.ConsentBody)
        project_id = granted(request).project_id
        with transaction.atomic():
            # Whoever begins an erasure holds the person's row too.
            before = restrictions.hold(project_id, subject)
            if deletions.is_running(project_id, subject):
                return error_response(
                    409,
                    "erasing",
                    "The person is being erased right now. Ask again when it is done.",
                )
            held = restrictions.consent(project_id, subject, fields["categories"])
            audit.record(
                "consent.changed",
                actor(request),
                project_id=project_id,
                **fields["categories"],
            )
        if not before.suppressed and set(held.refused) - set(before.refused):
            _await_storing(project_id)
        return _consent(fields["user_id"], held)

    def get(self, request: Request) -> HttpResponse:
        user_id = self._asked_about(request)
        subject = self.subject(request, user_id)
        return _consent(user_id, restrictions.of(granted(request).project_id, subject))

    def _asked_about(self, request: Request) -> str:
        """A person with a token asks about themselves; a server names the person in a header,
        since an address would be written down on the way."""
        try:
            named = headers.text(request._request, headers.USER)
        except MalformedBatch as reason:
            raise _wrong_user(reason.details, reason.code) from None
        if isinstance(request.user, Subject):
            return named or request.user.user_id
        if named is None:
            raise _wrong_user("Name the user in this header.", "required")
        return named


def _wrong_user(details: str, code: str) -> exceptions.ValidationError:
    return exceptions.ValidationError({headers.USER: exceptions.ErrorDetail(details, code)})


def _await_storing(project_id: int) -> None:
    """Let what is being stored just now be through, so that nothing refused comes after the
    answer; not for ever: the refusal holds whoever hangs."""
    if not restrictions.await_storing_for(project_id, STORING_SECONDS):
        logger.warning("a refusal was answered while something was still being stored")


def _consent(user_id: str, held: PersonRestriction) -> HttpResponse:
    return json_response(
        {"user_id": user_id, "categories": held.categories, "suppressed": held.suppressed}
    )
