"""Lists of what the ledger knows, looked through in bounded time."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, TextFilter
from unfold.views import ChangeList

from ingest.formats import NAMES
from ingest.models import Batch, Project
from ingest.selections import AGES, Looked, walking_an_index
from telemetry_site.pages import ListPage

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList as BaseChangeList
else:
    BaseChangeList = ChangeList

# Where there is nothing to show.
NOTHING = "–"  # noqa: RUF001
# Rows before a page are read for it: a later one is as good as never looked for by hand.
MOST_PAGES = 200
STATE_LABELS = {
    "received": "info",
    "stored": "success",
    "rejected": "warning",
    "duplicate": "default",
    "dead": "danger",
    "discarded": "default",
}


class BoundedChangeList(BaseChangeList):
    """A list whose rows the page itself looks for; the filters only show what is asked."""

    looked: Looked
    model_admin: "BoundedListPage"

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        super().get_queryset(request, exclude_parameters)
        if self.page_num > MOST_PAGES:
            raise IncorrectLookupParameters
        try:
            self.looked = self.model_admin.look(request, self.query.strip())
        except ValueError as error:
            raise IncorrectLookupParameters from error
        return self.looked.rows

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        with walking_an_index():
            self.result_list = list(self.result_list)

    def url_for_result(self, result: Any) -> str:
        return self.model_admin.address(result)


class BoundedListPage(ListPage):
    """A list that looks through the latest rows only, and says how far back that was."""

    title = ""
    list_before_template = "admin/ingest/looked.html"
    sortable_by = ()

    def look(self, request: HttpRequest, term: str) -> Looked:
        """The rows that the address asks for. Raises ValueError where it asks for nonsense."""
        raise NotImplementedError

    def address(self, row: Any) -> str:
        """The page that tells more of a row."""
        return batch_address(row)

    @admin.display(description="project")
    def in_project(self, row: Any) -> str:
        return str(row.project.slug)

    @admin.display(description="batch id")
    def named(self, row: Any) -> SafeString:
        return short(row.batch_id)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"title": self.title, **(extra_context or {})}
        return super().changelist_view(request, context)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BaseChangeList]:
        return BoundedChangeList


class Asked(DropdownFilter):  # type: ignore[misc]
    """A choice that the page's own look takes from the address."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None


class StateFilter(Asked):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state.value, state.value) for state in Batch.State]


class ProjectFilter(Asked):
    title = "project"
    parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        projects = Project.objects.order_by("slug").values_list("pk", "slug")
        return [(str(pk), slug) for pk, slug in projects] or [("0", "none yet")]


class FormatFilter(Asked):
    title = "format"
    parameter_name = "format"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, name) for name in NAMES]


class DayFilter(Asked):
    title = "day (UTC)"
    parameter_name = "day"
    days = 32

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        today = timezone.now().date()
        days = [today - timedelta(days=ago) for ago in range(self.days)]
        return [(str(day), f"{day:%A} {day}") for day in days]


class AgeFilter(Asked):
    title = "age"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, age.label) for name, age in AGES.items()]


class ErrorFilter(TextFilter):  # type: ignore[misc]
    title = "error, in full"
    parameter_name = "error"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        return None


def batch_address(batch: Batch) -> str:
    """A batch's page in the ledger."""
    return reverse("admin:ingest_batch_change", args=[batch.key])


def short(text: Any, length: int = 8) -> SafeString:
    """The beginning of an id, all of it where the pointer rests; nothing is lost by copying."""
    whole = str(text) if text else ""
    return format_html('<span class="id" title="{}">{}</span>', whole, whole[:length] or NOTHING)


def moment(when: datetime) -> SafeString:
    """A time to the second, UTC, in one line."""
    return format_html('<span class="moment">{}</span>', f"{when:%Y-%m-%d %H:%M:%S}")


def size(number: int) -> str:
    """Bytes for a person."""
    if number < 1024:
        return f"{number}\N{NO-BREAK SPACE}B"
    if number < 1024**2:
        return f"{number / 1024:,.1f}\N{NO-BREAK SPACE}KB"
    return f"{number / 1024**2:,.1f}\N{NO-BREAK SPACE}MB"


def duration(span: timedelta) -> str:
    """A span of time for a person."""
    seconds = span.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def outcomes(batch: Batch) -> str:
    """What became of a batch's events, in words."""
    counts = {
        name: getattr(batch, name)
        for name in ("stored", "waiting", "duplicate", "rejected", "suppressed", "dead")
    }
    return " · ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
