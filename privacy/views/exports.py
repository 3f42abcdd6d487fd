"""A copy of what is stored of a person: asked for, looked after, fetched."""

import threading
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.signing import SignatureExpired
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest.authentication import granted
from ingest.endpoints import CountingView, LimitedView
from ingest.ratelimits import Caller, Limiter
from privacy import (
    audit,
    bodies,
    export_schema,
    exports,
    handing,
    preferences,
)
from privacy.authentication import (
    MayAskAboutPersons,
    actor,
    note_refused,
)
from privacy.models import ExportRequest
from privacy.subjects import Pseudonyms
from privacy.tokens import Subject
from privacy.views.persons import PERSONS, PersonView, count_failed
from telemetry_site.errors import RETRY_SECONDS, error_response, unavailable
from telemetry_site.responses import json_response

# Requests that wait for a worker; there are threads left for those who send, whoever waits.
_waiting = threading.BoundedSemaphore(settings.WEB_THREADS // 4)


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
            count_failed(request)
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
