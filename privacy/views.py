"""What persons ask of their data: a copy, its erasure, and what may be stored of them.

Each view does four things: authenticate, limit, decode, call one function.
"""

import logging
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.signing import SignatureExpired
from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from ingest import headers
from ingest.authentication import KeyAuthentication, MayQuery, granted
from ingest.endpoints import CountingView, LimitedView
from ingest.models import Project
from ingest.ratelimits import Caller, Limiter
from ingest.records import MalformedBatch
from privacy import (
    audit,
    bodies,
    deletions,
    export_schema,
    exports,
    handing,
    preferences,
    restrictions,
    schema,
    tokens,
)
from privacy.authentication import (
    MayAskAboutPersons,
    SubjectAuthentication,
    actor,
    check_is_about,
    note_refused,
)
from privacy.models import DeletionRequest, ExportRequest, PersonRestriction
from privacy.subjects import Pseudonyms
from privacy.tokens import Subject
from telemetry_site.errors import RETRY_SECONDS, error_response, unavailable
from telemetry_site.responses import json_response

logger = logging.getLogger(__name__)

# What is stored at a time takes a fraction of a second.
STORING_SECONDS = 3
PERSONS: list[type[BaseAuthentication]] = [KeyAuthentication, SubjectAuthentication]
# Requests that wait for a worker; there are threads left for those who send, whoever waits.
_waiting = threading.BoundedSemaphore(settings.WEB_THREADS // 4)


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


class ExportView(PersonView):
    """`POST /v1/telemetry/export`: what is stored of a person, at once where that is quick."""

    operation = export_schema.EXPORT

    def post(self, request: Request) -> HttpResponseBase:
        fields, subject = self.person(request, bodies.AboutPerson)
        export = exports.ask(granted(request).project_id, subject, actor(request))
        wanted = preferences.parse(request._request.META.get("HTTP_PREFER", ""))
        if exports.nudge():
            _wait(export, wanted.seconds)
        content = _content(fields["user_id"], export)
        response = content or _later(request, export)
        if applied := wanted.applied(later=content is None):
            response["Preference-Applied"] = applied
        return _kept_nowhere(response)


class ExportStatusView(LimitedView):
    """`GET /v1/telemetry/exports/{id}`: how far an export is, and where its file is fetched."""

    authentication_classes = PERSONS
    permission_classes = [MayAskAboutPersons]
    rules = ("query.key", "privacy.status")
    operation = export_schema.STATUS

    def get(self, request: Request, export_id: UUID) -> HttpResponseBase:
        self._count_person(request)
        export = exports.find(export_id, granted(request).project_id)
        if export is None or not self._may_ask(request, export):
            raise _unknown_export()
        url = None
        if handing.has_file(export):
            path = reverse("export-download", args=[export.pk])
            url = request.build_absolute_uri(f"{path}?signature={handing.signature(export)}")
        return _kept_nowhere(json_response({**export.report, "download_url": url}))

    def _count_person(self, request: Request) -> None:
        """A person has no key to be counted by."""
        assert self.limiter is not None
        if isinstance(request.user, Subject):
            self.limiter.caller.user = request.user.user_id
            self.limiter.check()

    def _may_ask(self, request: Request, export: ExportRequest) -> bool:
        if not isinstance(request.user, Subject):
            return True
        pseudonyms = Pseudonyms(settings.PEPPER, export.project_id)
        theirs = export.subject == pseudonyms.subject(request.user.user_id)
        if not theirs and export.subject is not None:
            note_refused(
                request, "a token for one person was used on another's export", str(export.pk)
            )
        return theirs


class ExportDownloadView(CountingView):
    """`GET /v1/telemetry/exports/{id}/download`: the file, for whoever has a link to it."""

    authentication_classes = []
    rules = ("download.export", "download.ip")
    operation = export_schema.DOWNLOAD

    def get(self, request: Request, export_id: UUID) -> HttpResponseBase:
        try:
            signed = handing.is_signed(export_id, request.GET.get("signature", ""))
        except SignatureExpired:
            return error_response(
                410, "link_expired", "This link has expired. The status of the export has another."
            )
        export = exports.find(export_id) if signed else None
        if export is None:
            _count_failed(request)
            raise _unknown_export()
        self._count(request, export)
        if not handing.has_file(export):
            return error_response(410, "export_expired", "The file is deleted. Ask for another.")
        try:
            pieces = handing.hand_over(export)
        except handing.AlreadyFetched:
            return error_response(
                409,
                "being_fetched",
                "This file is being fetched right now. Try again when that is done.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        except handing.Busy:
            return unavailable("Several files are being fetched. Try again soon.", "busy")
        except FileNotFoundError:
            raise _unknown_export() from None  # erased just now
        response = StreamingHttpResponse(pieces, content_type="application/gzip")
        response["Content-Length"] = str(export.bytes)
        response["Content-Disposition"] = f'attachment; filename="export-{export.pk}.json.gz"'
        return _kept_nowhere(response)

    def _count(self, request: Request, export: ExportRequest) -> None:
        """Nobody asks the holder of a link who they are: the file and the address are counted."""
        caller = Caller(
            request._request,
            project_id=export.project_id,
            overrides=export.project.rate_limits,
            export=str(export.pk),
        )
        self.limiter = Limiter(caller, self.rules)
        self.limiter.check()


class ExportSchemaView(APIView):
    """`GET /api/schema/export/`: what is in an export's file, as a JSON schema."""

    authentication_classes = []
    schema = None  # not a part of the OpenAPI document

    def get(self, request: Request) -> HttpResponse:
        return json_response(export_schema.FILE)


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
            _count_failed(request)
            raise
        found = DeletionRequest.objects.with_token(token)
        if found is None:
            _count_failed(request)
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


def _count_failed(request: Request) -> None:
    """Guessing, or sending what is nothing, is as good as failing to authenticate."""
    Limiter(Caller(request._request), ["auth.ip"]).check()


def _consent(user_id: str, held: PersonRestriction) -> HttpResponse:
    return json_response(
        {"user_id": user_id, "categories": held.categories, "suppressed": held.suppressed}
    )


def _wait(export: ExportRequest, seconds: float) -> None:
    """Wait for an export, unless so many do already."""
    if seconds and _waiting.acquire(blocking=False):
        try:
            exports.wait(export, seconds)
        finally:
            _waiting.release()


def _unknown_export() -> exceptions.NotFound:
    return exceptions.NotFound("There is no such export of this person's.", "unknown_export")


def _content(user_id: str, export: ExportRequest) -> HttpResponse | None:
    """What the file says, with the person's id before it, which is stored nowhere; None where it
    isn't ready, or is too much to be answered with."""
    if not handing.has_file(export) or export.events + export.points > export_schema.MOST_AT_ONCE:
        return None
    content = handing.content(export, export_schema.MOST_BYTES_AT_ONCE)
    if content is None:
        return None
    audit.record("export.answered", "system", project_id=export.project_id, of=str(export.pk))
    head = msgspec.json.encode({"user_id": user_id})[:-1] + b","
    return HttpResponse(head + content[1:], content_type="application/json")


def _later(request: Request, export: ExportRequest) -> HttpResponse:
    url = request.build_absolute_uri(reverse("export", args=[export.pk]))
    answer = {"export_id": export.pk, "status": export.state, "status_url": url}
    return json_response(answer, 202, {"Location": url})


def _kept_nowhere(response: HttpResponseBase) -> HttpResponseBase:
    """An answer that no cache keeps."""
    response["Cache-Control"] = "no-store"
    return response
