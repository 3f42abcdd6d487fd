"""What the admin's pages have in common: lists nobody edits, and pages in a list's place.

No page counts a table: lists have a next page, and no number of pages.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import BinaryField, Model
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.paginator import InfinitePaginator

from privacy import audit

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as BaseModelAdmin
else:
    from unfold.admin import ModelAdmin as BaseModelAdmin

__all__ = [
    "Action",
    "ListPage",
    "ModelAdmin",
    "Page",
    "Refused",
    "operator",
    "perform",
    "record",
    "write_down",
]

# What a button does; returns the sentence that tells so, or raises Refused.
Action = Callable[[HttpRequest], str]


class Refused(Exception):
    """An action that can't be done; the sentence says why, and what to do."""


class ModelAdmin(BaseModelAdmin):
    """The admin of a model; its lists are not filtered by hashes."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """No text that an address could have in it is one of a field's bytes."""
        hashes = {field.name for field in self.opts.fields if isinstance(field, BinaryField)}
        if lookup.split(LOOKUP_SEP)[0] in hashes:
            return False
        return super().lookup_allowed(lookup, value, request)


class ListPage(ModelAdmin):
    """Rows that the service writes and people read."""

    # What an empty list says: what would be here, and how it gets here.
    empty = ""
    paginator = InfinitePaginator
    list_disable_select_all = True
    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def detail(
        self, request: HttpRequest, template: str, row: Model, title: str, **context: Any
    ) -> HttpResponse:
        """A page that tells all of one row."""
        shown = {"title": title, "opts": self.opts, "original": row, **context}
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), **shown}
        )


class Page(ListPage):
    """A page of its own in the place of a model's list, with buttons that POST.

    `actions_by_path` says what each button does and the permission it takes: the server checks it,
    whatever the page shows.
    """

    template = ""
    title = ""

    def context(self, request: HttpRequest) -> dict[str, Any]:
        """What the template shows."""
        return {}

    def actions_by_path(self) -> dict[str, tuple[str, Action]]:
        """URL below the page -> permission, action."""
        return {}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return TemplateResponse(
            request,
            self.template,
            {
                **self.admin_site.each_context(request),
                "title": self.title or self.opts.verbose_name_plural,
                "opts": self.opts,
                **self.context(request),
            },
        )

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        buttons = [
            path(
                f"{below}/",
                self.admin_site.admin_view(self._button(permission, action)),
                name=f"{name}_{below}",
            )
            for below, (permission, action) in self.actions_by_path().items()
        ]
        return [*buttons, *super().get_urls()]

    def _button(self, permission: str, action: Action) -> Callable[[HttpRequest], HttpResponse]:
        def view(request: HttpRequest) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not request.user.has_perm(permission):
                raise PermissionDenied
            perform(request, self.opts.model, action)
            return HttpResponseRedirect(
                reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            )

        return view


def operator(request: HttpRequest) -> str:
    """Who is logged in, as the audit log names them."""
    return f"operator #{request.user.pk}"


def write_down(
    request: HttpRequest,
    action: str,
    of: str,
    *,
    project_id: int | None = None,
    **details: str | int | bool | list[str],
) -> None:
    """Put into the audit log alone what somebody did; `of` names the object by its id."""
    audit.record(action, operator(request), project_id=project_id, of=of, **details)


def perform(
    request: HttpRequest, model: type[Model], action: Action, *, of: str = "", audit_as: str = ""
) -> None:
    """Do what a button says, tell the person, and keep a record of who did it."""
    try:
        sentence = action(request)
    except Refused as reason:
        messages.error(request, str(reason))
    else:
        messages.success(request, sentence)
        record(request, model, sentence, of, audit_as=audit_as)


def record(
    request: HttpRequest, model: type[Model], sentence: str, of: str = "", *, audit_as: str = ""
) -> None:
    """Write down what somebody did or looked at; `of` names the object by its id.

    What concerns persons' data has an action's name, `audit_as`, and goes into the audit log too:
    without the sentence, which may have in it what an operator typed.
    """
    assert request.user.pk is not None
    if audit_as:
        write_down(request, audit_as, of)
    LogEntry.objects.create(
        user_id=request.user.pk,
        content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
        object_id=of,
        object_repr=of[:200],
        action_flag=CHANGE,
        change_message=sentence,
    )
