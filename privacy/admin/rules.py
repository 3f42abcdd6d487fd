"""A project's privacy rules: written, tried on a sample, and changed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import msgspec
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from ingest import intake
from ingest.admin.lists import NOTHING
from ingest.endpoints import LIMITS
from ingest.formats import FORMATS
from ingest.models import Project
from ingest.records import Envelope, MalformedBatch, Point, Record
from privacy import audit
from privacy.models import PrivacyRules
from privacy.rules import DOES, FIELDS, InvalidRules, Rules
from privacy.scrubbing import Mode
from privacy.subjects import Pseudonyms
from telemetry_site.pages import ListPage, Refused, operator, perform

CHANGE = "privacy.change_privacy_rules"
MOST_CHARACTERS = 100_000
OVERTAKEN = (
    "Somebody changed the rules since you opened this: look at theirs in another tab. "
    "If you save once more, yours replace them."
)
# Of a sample so many events are shown.
EVENTS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Line:
    """A line of what came beside the line of what would be stored."""

    came: str
    stored: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of a sample: what would become of it, by which means."""

    title: str
    by: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be stored of a sample, and why not."""

    events: list[Seen]
    refusals: list[str]
    more: int = 0


@admin.register(PrivacyRules)
class RulesPage(ListPage):
    """A sample comes in a POST's body and goes into its answer: it is kept nowhere."""

    list_display = ("slug", "name", "rules_of", "lists_of")
    search_fields = ("slug", "name")
    ordering = ("slug",)
    sortable_by = ()
    empty = "There is no project yet. Each has rules of its own for what becomes of its properties."

    @admin.display(description="rules")
    def rules_of(self, project: Project) -> str:
        return _number(sum("do" in entry for entry in project.privacy_rules))

    @admin.display(description="keep-lists")
    def lists_of(self, project: Project) -> str:
        return _number(sum("keep" in entry for entry in project.privacy_rules))

    @method_decorator(sensitive_post_parameters("sample"))
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The rules; tried on a sample, or saved."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        number = int(object_id) if object_id.isdecimal() and len(object_id) < 10 else 0
        project = PrivacyRules.objects.filter(pk=number).first()
        if project is None:
            raise Http404
        if request.method != "POST":
            return self._answer(request, project, {"rules": written(project.privacy_rules)})
        if not request.user.has_perm(CHANGE):
            raise PermissionDenied
        given = {name: request.POST.get(name, "") for name in ("rules", "sample", "format", "was")}
        try:
            content = read(given["rules"])
            rules = Rules.parse(content)
        except InvalidRules as error:
            return self._answer(request, project, {**given, "wrong": str(error)})
        if "save" in request.POST:
            if given["was"] != _version(project.privacy_rules):
                now = {"was": _version(project.privacy_rules), "wrong": OVERTAKEN}
                return self._answer(request, project, {**given, **now})
            perform(request, PrivacyRules, lambda request: _save(request, number, content, given))
            return HttpResponseRedirect(
                reverse("admin:privacy_privacyrules_change", args=[project.pk])
            )
        tried = _try(project, rules, given["format"], given["sample"])
        return self._answer(request, project, {**given, **tried})

    def _answer(
        self, request: HttpRequest, project: Project, context: dict[str, Any]
    ) -> HttpResponse:
        response = TemplateResponse(
            request,
            "admin/privacy/privacyrules/page.html",
            {
                **self.admin_site.each_context(request),
                "title": f"Privacy rules of {project.slug}",
                "opts": self.opts,
                "original": project,
                "project": project,
                "formats": FORMATS,
                "was": _version(project.privacy_rules),
                "may_change": request.user.has_perm(CHANGE),
                **context,
            },
        )
        response["Cache-Control"] = "no-store"
        return response


def _number(count: int) -> str:
    return f"{count:,}" if count else NOTHING


# --- The rules as text ----------------------------------------------------------------------------


def read(text: str) -> Any:
    """The rules that somebody wrote; none where there is no text. Raises InvalidRules."""
    if len(text) > MOST_CHARACTERS:
        raise InvalidRules(f"The rules are longer than {MOST_CHARACTERS:,} characters.")
    try:
        return json.loads(text, object_pairs_hook=_object) if text.strip() else []
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRules(f"Not valid JSON: {error.msg} ({where}).") from None
    except InvalidRules:
        raise
    except (RecursionError, ValueError):
        raise InvalidRules("Not valid JSON: nested too deeply, or a number too long.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidRules("A field stands twice in one object.")
    return found


def written(rules: Sequence[dict[str, Any]]) -> str:
    """The rules as JSON, one a line, their fields in the order in which one thinks of them."""
    lines = (
        json.dumps({name: rule[name] for name in FIELDS if name in rule}, ensure_ascii=False)
        for rule in rules
    )
    return "[\n  {}\n]".format(",\n  ".join(lines)) if rules else "[]"


def _version(rules: Sequence[dict[str, Any]]) -> str:
    return hashlib.sha256(written(rules).encode()).hexdigest()


# --- Saving ---------------------------------------------------------------------------------------


def _save(request: HttpRequest, number: int, content: list[Any], given: dict[str, str]) -> str:
    """Replace the rules, unless somebody else did since they were shown."""
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=number)
        if given["was"] != _version(project.privacy_rules):
            raise Refused("Somebody changed the rules just now: here they are as they are.")
        before = len(project.privacy_rules)
        project.privacy_rules = content
        project.save(update_fields=["privacy_rules"])
        kinds = [entry.get("do", "keep") for entry in content]
        counts = [f"{kinds.count(name)} {name}" for name in (*DOES, "keep") if name in kinds]
        audit.record(
            "rules.changed",
            operator(request),
            project_id=number,
            before=before,
            after=len(content),
            kinds=counts,
        )
    return (
        f"The rules of {project.slug} are changed: there are {len(content)}, there were {before}."
    )


# --- Trying them ----------------------------------------------------------------------------------


def _try(project: Project, rules: Rules, name: str, sample: str) -> dict[str, Any]:
    """What the page shows of a sample."""
    if name not in FORMATS:
        return {"wrong_sample": "Choose the format that the sample is in."}
    if not sample.strip():
        return {"wrong_sample": "Paste an event, or a batch of some, as a client sends it."}
    if len(sample) > MOST_CHARACTERS:
        return {"wrong_sample": f"The sample is longer than {MOST_CHARACTERS:,} characters."}
    try:
        return {"preview": _preview(project, rules, name, sample.encode())}
    except MalformedBatch as error:
        return {"wrong_sample": f"A client would get this back: {error.details}"}


def _preview(project: Project, rules: Rules, name: str, sample: bytes) -> Preview:
    """Raises MalformedBatch."""
    envelope = Envelope(users_optional=True, limits=LIMITS)
    pseudonyms = Pseudonyms(settings.PEPPER, project.pk)
    decoded = FORMATS[name](sample, envelope)
    # Changed in place, so once more for each.
    scrubbed, stored = (FORMATS[name](sample, envelope).records for _ in range(2))
    intake.clean(scrubbed, Mode(project.scrubbing), Rules(), pseudonyms)
    intake.clean(stored, Mode(project.scrubbing), rules, pseudonyms)
    seen = [
        _seen(*three)
        for three in list(zip(decoded.records, scrubbed, stored, strict=True))[:EVENTS_SHOWN]
    ]
    refusals = [rejection.sentence("item") for rejection in decoded.rejections[:EVENTS_SHOWN]]
    return Preview(seen, refusals, len(stored) - len(seen))


def _seen(came: Record | Point, scrubbed: Record | Point, stored: Record | Point) -> Seen:
    before, between, after = map(_lines, (came, scrubbed, stored))
    means = [
        *(["scrubbing"] if before != between else []),
        *(["the rules"] if between != after else []),
    ]
    by = f"changed by {' and '.join(means)}" if means else "stored as it came"
    return Seen(stored.name, by, list(_beside(before, after)))


def _lines(record: Record | Point) -> list[str]:
    """What rules and scrubbing may change of a record, as lines of JSON."""
    if isinstance(record, Record):
        texts = {
            "event": record.name,
            "level": record.level,
            "message": record.message,
            "scope": record.scope,
            "client_version": record.client_version,
        }
        body = {"properties": msgspec.json.decode(record.properties)}
    else:
        texts = {"name": record.name, "node_id": record.node}
        body = {"tags": msgspec.json.decode(record.tags)}
    told = {name: text for name, text in texts.items() if text is not None}
    return json.dumps(told | body, indent=2, ensure_ascii=False).splitlines()


def _beside(before: list[str], after: list[str]) -> Iterator[Line]:
    """Both side by side, what has the same name in one line."""
    names = SequenceMatcher(None, list(map(_name, before)), list(map(_name, after)))
    for _, i, j, k, m in names.get_opcodes():
        for came, stored in zip_longest(before[i:j], after[k:m], fillvalue=""):
            yield Line(came, stored, came.rstrip(",") != stored.rstrip(","))


def _name(line: str) -> str:
    """What a line of JSON is about: its key where it has one."""
    return line.partition('": ')[0].rstrip(",")
