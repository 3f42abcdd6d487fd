"""What a page asks before it does something, and what it shows once afterwards."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin


def ask(
    page: "ModelAdmin[Any]",
    request: HttpRequest,
    title: str,
    button: str,
    *,
    form: forms.Form | None = None,
    lines: Iterable[str] = (),
    hidden: Mapping[str, Any] | None = None,
    danger: bool = False,
) -> HttpResponse:
    """A form, a confirmation, or both; it is POSTed to where it was asked for."""
    return TemplateResponse(
        request,
        "admin/ingest/ask.html",
        {
            **page.admin_site.each_context(request),
            "title": title,
            "opts": page.opts,
            "back": changelist(page),
            "form": form,
            "lines": lines,
            "hidden": hidden or {},
            "button": button,
            "danger": danger,
        },
    )


def show_once(
    page: "ModelAdmin[Any]", request: HttpRequest, title: str, secrets: Mapping[str, str], then: str
) -> HttpResponse:
    """Secrets, in the answer to the POST that made them and nowhere else."""
    response = TemplateResponse(
        request,
        "admin/ingest/shown_once.html",
        {
            **page.admin_site.each_context(request),
            "title": title,
            "opts": page.opts,
            "secrets": secrets,
            "then": then,
        },
    )
    response["Cache-Control"] = "no-store"
    return response


def changelist(page: "ModelAdmin[Any]") -> str:
    """The list that a page belongs to."""
    return reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")
