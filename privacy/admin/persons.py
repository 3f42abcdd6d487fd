"""One person: what is stored of them, what they let be stored, and doing for them what they ask."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from ingest.models import Event, MetricPoint, Project
from ingest.records import CATEGORIES
from privacy import audit, deletions, restrictions
from privacy.models import ConsentChange, DeletionRequest, ExportRequest, Person
from privacy.subjects import Pseudonyms
from telemetry_site.pages import ListPage, Refused, operator, perform

# Counting ends here: more is "more than".
MOST_COUNTED = 10_000
REQUESTS_SHOWN = 20


@admin.register(Person)
class PersonPage(ListPage):
    """Their id comes in a POST's body and goes into its answer: into no address and no log."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="privacy_person_changelist"),
            path("act/", view(self.act), name="privacy_person_act"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._answer(request, {})
        project, user_id = _asked(request)
        audit.record("person.looked_up", operator(request), project_id=project)
        return self._shown(request, project, user_id)

    def act(self, request: HttpRequest) -> HttpResponse:
        """Do for a person what one of the buttons says."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("privacy.act_for_person"):
            raise PermissionDenied
        project, user_id = _asked(request)
        subject = _pseudonym(project, user_id)
        if request.POST.get("action") == "erase":
            perform(request, Person, lambda request: _erase(request, project, subject))
        elif (action := request.POST.get("action")) in ("grant", "refuse"):
            granted = action == "grant"
            perform(request, Person, lambda request: _consent(request, project, subject, granted))
        else:
            raise BadRequest
        return self._shown(request, project, user_id)

    def _shown(self, request: HttpRequest, project: int, user_id: str) -> HttpResponse:
        form = {"project": project, "user_id": user_id}
        return self._answer(request, {"form": form, "person": _person(project, user_id)})

    def _answer(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        response = TemplateResponse(
            request,
            "admin/privacy/person/page.html",
            {
                **self.admin_site.each_context(request),
                "title": "Persons",
                "opts": self.opts,
                "projects": Project.objects.order_by("slug"),
                "may_act": request.user.has_perm("privacy.act_for_person"),
                **context,
            },
        )
        response["Cache-Control"] = "no-store"
        return response


def _asked(request: HttpRequest) -> tuple[int, str]:
    """The project and the user id that a form names; BadRequest where it names none."""
    number, user_id = request.POST.get("project", ""), request.POST.get("user_id", "")
    if not number.isdecimal() or len(number) > 9 or not user_id:
        raise BadRequest
    if len(user_id) > settings.MAX_NAME_LENGTH:
        raise BadRequest
    if not Project.objects.filter(pk=int(number)).exists():
        raise BadRequest
    return int(number), user_id


def _pseudonym(project: int, user_id: str) -> bytes:
    return Pseudonyms(settings.PEPPER, project).subject(user_id)


def _erase(request: HttpRequest, project: int, subject: bytes) -> str:
    wish, _ = deletions.ask(project, subject, operator(request))
    return f"Erasure {wish.pk} begins on {wish.due_at:%Y-%m-%d}; nothing more of theirs is stored."


def _consent(request: HttpRequest, project: int, subject: bytes, granted: bool) -> str:
    answers = dict.fromkeys(sorted(CATEGORIES), granted)
    with transaction.atomic():
        # Whoever begins an erasure holds the person's row too.
        restrictions.hold(project, subject)
        if deletions.is_running(project, subject):
            raise Refused("The person is being erased right now. Answer when that is done.")
        restrictions.consent(project, subject, answers)
        audit.record("consent.changed", operator(request), project_id=project, everything=granted)
    return f"Everything is {'granted' if granted else 'refused'}."


def _person(project: int, user_id: str) -> dict[str, Any]:
    """What there is of a person. Indexes: ingest_event_subject, ingest_metricpoint_subject."""
    subject = _pseudonym(project, user_id)
    who = {"project_id": project, "subject": subject}
    held = restrictions.of(project, subject)
    changes = ConsentChange.objects.filter(**who).order_by("-changed_at")
    deletions_asked = DeletionRequest.objects.filter(**who).order_by("-requested_at")
    exports_asked = ExportRequest.objects.filter(**who).order_by("-requested_at")
    return {
        "subject": subject.hex(),
        "events": _count(Event, who),
        "points": _count(MetricPoint, who),
        "categories": held.categories,
        "suppressed": held.suppressed,
        "answered": changes.values_list("changed_at", flat=True).first(),
        "deletions": deletions_asked[:REQUESTS_SHOWN],
        "exports": exports_asked[:REQUESTS_SHOWN],
    }


def _count(model: type[Event] | type[MetricPoint], who: dict[str, Any]) -> str:
    found = model._default_manager.filter(**who)[: MOST_COUNTED + 1].count()
    return f"more than {MOST_COUNTED:,}" if found > MOST_COUNTED else f"{found:,}"
