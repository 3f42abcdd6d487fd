"""The erasure of a person: asked for, looked after, taken back."""

from datetime import timedelta

from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest.authentication import granted
from privacy import (
    bodies,
    deletions,
    schema,
)
from privacy.authentication import (
    actor,
)
from privacy.models import DeletionRequest
from privacy.views.persons import PersonView, count_failed
from telemetry_site.errors import error_response
from telemetry_site.responses import json_response


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
        try:
            token = bodies.read(request, bodies.DeletionTokenBody)["deletion_token"]
        except exceptions.APIException:
            count_failed(request)
            raise
        found = DeletionRequest.objects.with_token(token)
        if found is None:
            count_failed(request)
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
