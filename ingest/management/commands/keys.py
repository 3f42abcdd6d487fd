"""`manage.py keys list|create|rotate|revoke|rotate-signing`: projects' keys and signing secrets."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ingest.models import ApiKey, Project


class Command(BaseCommand):
    help = "List, create, rotate and revoke the API keys of projects, and rotate signing secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        show = actions.add_parser("list", help="show a project's keys, without their secrets")
        show.add_argument("project", help="the project's slug")
        create = actions.add_parser("create", help="make a key and show it once")
        create.add_argument("project", help="the project's slug")
        create.add_argument("--scope", choices=ApiKey.Scope.values, default=ApiKey.Scope.INGEST)
        create.add_argument("--label", default="", help="what the key is for")
        create.add_argument("--expires-in-days", type=int, help="default: never")
        rotate = actions.add_parser("rotate", help="replace a key; both work for a while")
        rotate.add_argument("key", help="the key, or its prefix of 12 hexadecimal digits")
        rotate.add_argument("--overlap-hours", type=float, default=24.0, help="default: 24")
        revoke = actions.add_parser("revoke", help="end a key within seconds")
        revoke.add_argument("key", help="the key, or its prefix of 12 hexadecimal digits")
        signing = actions.add_parser(
            "rotate-signing", help="replace the secret that tokens are signed with, and show it"
        )
        signing.add_argument("project", help="the project's slug")
        signing.add_argument("--overlap-hours", type=float, default=24.0, help="default: 24")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action'].replace('-', '_')}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        keys = _project(options["project"]).keys.order_by("created_at")
        self.stdout.write(f"{'prefix':<14}{'scope':<8}{'state':<31}{'last used':<18}label")
        for key in keys:
            used = f"{key.last_used_at:%Y-%m-%d %H:00}" if key.last_used_at else "never"
            self.stdout.write(
                f"{key.prefix:<14}{key.scope:<8}{key.state:<31}{used:<18}{key.label}".rstrip()
            )

    def _create(self, options: dict[str, Any]) -> None:
        days: int | None = options["expires_in_days"]
        if days is not None and not 1 <= days <= 36_500:
            raise CommandError("--expires-in-days must be from 1 to 36500.")
        expires_at = None if days is None else timezone.now() + timedelta(days=days)
        _, text = ApiKey.objects.issue(
            _project(options["project"]),
            options["scope"],
            label=options["label"],
            expires_at=expires_at,
        )
        self.stdout.write(text)

    def _rotate(self, options: dict[str, Any]) -> None:
        key = _key(options["key"])
        if not key.is_usable:
            raise CommandError(f"{key} is {key.state}: create a new key instead.")
        _, text = key.rotate(_overlap(options))
        self.stdout.write(text)
        self.stderr.write(f"{key} works until {key.expires_at:%Y-%m-%d %H:%M} UTC.")

    def _rotate_signing(self, options: dict[str, Any]) -> None:
        project = _project(options["project"])
        project.rotate_signing_secret(_overlap(options))
        self.stdout.write(project.signing_secret)
        self.stderr.write(
            f"The secret before holds until {project.signing_overlap_until:%Y-%m-%d %H:%M} UTC."
        )

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _key(options["key"])
        key.revoke()
        self.stdout.write(f"{key} is {key.state}.")


def _overlap(options: dict[str, Any]) -> timedelta:
    if not 0 <= options["overlap_hours"] <= 24 * 365:
        raise CommandError("--overlap-hours must be from 0 to 8760.")
    return timedelta(hours=options["overlap_hours"])


def _project(slug: str) -> Project:
    try:
        return Project.objects.get(slug=slug)
    except Project.DoesNotExist:
        known = ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no project {slug!r}. There are: {known or 'none'}.") from None


def _key(text: str) -> ApiKey:
    prefix = text.split("_")[1] if text.count("_") >= 2 else text
    try:
        return ApiKey.objects.select_related("project").get(prefix=prefix)
    except ApiKey.DoesNotExist:
        raise CommandError("There is no key with this prefix; see: manage.py keys list") from None
