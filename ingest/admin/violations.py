"""Who was over a limit: over time, by rule and project, the top callers, and the rows beneath."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.urls import reverse

from ingest import blocks, refusals
from ingest.admin.lists import NOTHING
from ingest.counters import OTHERS
from ingest.models import ApiKey, Project, RateLimitViolation
from ingest.refusals import SPANS, Asked
from ingest.rules import PROJECTS_OWN, RULES
from telemetry_site.pages import Page

GROUPS_SHOWN = 50
CALLERS_SHOWN = 20
ROWS_SHOWN = 50
# One for each rule, always the same, told apart in light and dark.
COLOURS = dict(
    zip(
        (*RULES, blocks.RULE),
        (
            "#7c3aed",
            "#2563eb",
            "#0891b2",
            "#0d9488",
            "#65a30d",
            "#ca8a04",
            "#4ade80",
            "#ea580c",
            "#db2777",
            "#e879f9",
            "#fda4af",
            "#34d399",
            "#38bdf8",
            "#64748b",
            "#a16207",
            "#dc2626",
        ),
        strict=True,
    )
)
_BAR = "%Y-%m-%dT%H:%M"


@admin.register(RateLimitViolation)
class ViolationsPage(Page):
    template = "admin/ingest/ratelimitviolation/violations.html"
    title = "Violations"

    def context(self, request: HttpRequest) -> dict[str, Any]:
        asked = _asked(request)
        projects = {project.pk: project for project in Project.objects.order_by("slug")}
        latest = refusals.Latest(asked)
        callers = latest.callers(CALLERS_SHOWN)
        rows = latest.rows(ROWS_SHOWN)
        callers_of = {(one["rule"], one["project_id"]) for one in callers}
        callers_of |= {(row.rule, row.project_id) for row in rows}
        page = _Links(asked, projects, refusals.keys_of(callers_of))
        chart = _chart(asked, page)
        groups = refusals.by_rule_and_project(asked, GROUPS_SHOWN)
        return {
            "asked": asked,
            "spans": [(page.to(span=name, bar=""), name, span) for name, span in SPANS.items()],
            "projects": projects.values(),
            "rules": COLOURS,
            "chart": chart,
            "total": sum(sum(one["data"]) for one in chart["datasets"]),
            "span": SPANS[asked.span],
            "narrowed": page.narrowed(),
            "groups": [page.group(*group) for group in groups],
            "callers": [page.caller(one) for one in callers],
            "rows": [page.row(row) for row in rows],
            "more_rows": len(rows) == ROWS_SHOWN,
            "since": latest.since,
        }


class _Links:
    """What the rows of the page lead to: less of the same, a limit, a block."""

    def __init__(self, asked: Asked, projects: dict[int, Project], keys: dict[str, ApiKey]) -> None:
        self._projects = projects
        self._keys = keys
        self._within = asked.within
        self._asked = {
            "span": asked.span,
            "project": "" if asked.project is None else str(asked.project),
            "rule": asked.rule,
            "caller": asked.caller,
            "bar": f"{asked.bar:{_BAR}}" if asked.bar else "",
        }

    def to(self, **other: str) -> str:
        """This page, asked something else."""
        asked = {name: value for name, value in {**self._asked, **other}.items() if value}
        return f"?{urlencode(asked)}"

    def narrowed(self) -> list[tuple[str, str]]:
        """What else than the span is asked, in words, and the page without it."""
        words = {
            "project": self._slug(int(self._asked["project"] or 0) or None),
            "rule": self._asked["rule"],
            "caller": self._name(self._asked["caller"]),
            "bar": f"{self._within[0]:%Y-%m-%d %H:%M} to {self._within[1]:%H:%M} UTC",
        }
        return [(words[name], self.to(**{name: ""})) for name in words if self._asked[name]]

    def group(self, rule: str, project: int | None, count: int) -> dict[str, Any]:
        return {
            "rule": rule,
            "colour": COLOURS.get(rule, ""),
            "project": self._slug(project),
            "count": count,
            "rows": self.to(rule=rule, project=str(project or 0)),
            "limit": self._limit(rule, project),
        }

    def caller(self, one: dict[str, Any]) -> dict[str, Any]:
        rule, project, key = one["rule"], one["project_id"], one["key"]
        network = one["last_network"]
        moved = network != one["first_network"]
        return {
            **self.group(rule, project, one["total"]),
            "caller": key,
            "name": self._name(key),
            "network": "several" if moved else network or NOTHING,
            "last": one["last"],
            "rows": self.to(caller=key),
            "block": self._block(key, one["row"], network),
        }

    def row(self, row: RateLimitViolation) -> dict[str, Any]:
        return {
            **self.group(row.rule, row.project_id, row.count),
            "minute": row.minute,
            "caller": row.key,
            "name": self._name(row.key),
            "network": row.network or NOTHING,
            "rows": self.to(caller=row.key),
            "block": self._block(row.key, row.pk, row.network),
        }

    def _slug(self, project: int | None) -> str:
        found = self._projects.get(project) if project else None
        return found.slug if found else "no project"

    def _name(self, caller: str) -> str:
        """A caller as people may know it: its key where that is what it is."""
        if caller == OTHERS:
            return "all others"
        return str(self._keys.get(caller, caller))

    def _limit(self, rule: str, project: int | None) -> str:
        """Where the project's limit is changed, where it has one of its own."""
        if rule not in PROJECTS_OWN or project not in self._projects:
            return ""
        return reverse("admin:ingest_project_limits", args=[project]) + f"?rule={rule}"

    def _block(self, caller: str, row: int, network: str) -> str:
        """Where the caller is blocked: by its key, or what is around it. No network in the URL."""
        page = reverse("admin:ingest_block_add")
        if key := self._keys.get(caller):
            return f"{page}?key={key.pk}" if key.is_usable else ""
        return f"{page}?violation={row}" if network else ""


def _asked(request: HttpRequest) -> Asked:
    given = request.GET
    project, rule = given.get("project", ""), given.get("rule", "")
    if (
        given.get("span", "hour") not in SPANS
        or (project and not (project.isdecimal() and len(project) <= 9))
        or (rule and rule not in COLOURS)
    ):
        raise BadRequest
    return Asked(
        span=given.get("span", "hour"),
        project=int(project) if project else None,
        rule=rule,
        caller=given.get("caller", "")[:40],
        bar=_bar(given["bar"]) if given.get("bar") else None,
    )


def _bar(text: str) -> datetime:
    try:
        return datetime.strptime(text, _BAR).replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest from None


def _chart(asked: Asked, page: _Links) -> dict[str, Any]:
    """What Chart.js draws: a bar for each time, in it a part for each rule; what each leads to."""
    bars = asked.bars
    clock = "%H:%M" if asked.span != "week" else "%a %d, %H:%M"
    return {
        "labels": [f"{bar:{clock}}" for bar in bars],
        "links": [page.to(bar=f"{bar:{_BAR}}") for bar in bars],
        "chosen": bars.index(asked.bar) if asked.bar in bars else None,
        "datasets": [
            {"label": rule, "data": counts, "backgroundColor": COLOURS.get(rule, "#64748b")}
            for rule, counts in refusals.over_time(asked).items()
        ],
    }
