"""Projects and their keys: who may send, and under which rules."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone
from django.utils.text import slugify

from ingest.counters import counters
from ingest.validators import (
    validate_endpoint,
    validate_origins,
    validate_privacy_rules,
    validate_rates,
)
from privacy.rules import Rules
from privacy.scrubbing import Mode


class ProjectQuerySet(models.QuerySet["Project"]):
    def create_with_keys(self, name: str) -> tuple["Project", dict[str, str]]:
        """A new project with one key of each scope; the keys' texts by scope, to be shown once."""
        with transaction.atomic():
            project = self.create(name=name, slug=slugify(name)[:50])
            keys = {scope.value: ApiKey.objects.issue(project, scope)[1] for scope in ApiKey.Scope}
        return project, keys


class Project(models.Model):
    """One product whose clients send here, and its rules."""

    id = models.AutoField(primary_key=True)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    users_optional = models.BooleanField(
        default=False, help_text="Take events that name no user (they count for nobody)."
    )
    scrubbing = models.CharField(
        max_length=10,
        choices=[(mode.value, mode.value) for mode in Mode],
        default=Mode.REDACT.value,
        help_text=(
            "What becomes of personal data found in an event: redact leaves a marker such as "
            "[email], hash a marker that is the same for the same value, drop removes the field."
        ),
    )
    origins = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        # Of the whole list: of an item's Django's forms would show that it is wrong, and not why.
        validators=[validate_origins],
        help_text="Web pages that may send here, comma-separated: https://app.example.com",
    )
    keyless_browsers = models.BooleanField(
        default=False, help_text="Take what pages of these origins send without a key."
    )
    rate_limits = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_rates],
        help_text=(
            'Limits that differ from the instance\'s, by rule: {"events.user": "20/m", '
            '"browser.ip": "0"}. Several windows: "30/m,1000/h"; 0 turns a rule off.'
        ),
    )
    privacy_rules = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_privacy_rules],
        help_text="What becomes of single properties before they are stored.",
    )
    signing_version = models.PositiveIntegerField(
        default=1, help_text="Raised to make a new signing secret."
    )
    signing_overlap_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then the signing secret before holds too."
    )
    otlp_endpoint = models.CharField(
        "OTLP endpoint",
        max_length=500,
        blank=True,
        validators=[validate_endpoint],
        help_text=(
            "The collector that gets this project's events and measurements, in place of the "
            "instance's: https://collector.example.com:4318"
        ),
    )
    otlp_headers = models.TextField(
        blank=True, editable=False, help_text="Encrypted: see `ingest.forwarding.headers`."
    )
    otlp_encoding = models.CharField(
        "OTLP encoding",
        max_length=10,
        choices=[("protobuf", "protobuf"), ("json", "JSON")],
        default="protobuf",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    def __str__(self) -> str:
        return self.slug

    def grant(self, scope: str, key_id: int | None = None) -> "Grant":
        """What a caller of this project's may do who has `scope`."""
        return Grant(
            key_id=key_id,
            scope=scope,
            project_id=self.pk,
            project_slug=self.slug,
            users_optional=self.users_optional,
            scrubbing=Mode(self.scrubbing),
            origins=frozenset(self.origins),
            rate_limits=self.rate_limits,
            rules=self.rules,
        )

    @cached_property
    def rules(self) -> Rules:
        """The privacy rules, read once for as long as a process keeps the project."""
        return Rules.parse(self.privacy_rules)

    @property
    def signing_secret(self) -> str:
        """What the project's own servers sign their tokens with.

        Derived, not stored: a database dump holds nothing to sign with.
        """
        return self._signing_secret(self.signing_version)

    @property
    def signing_secrets(self) -> list[str]:
        """What a token may be signed with now: the secret before may hold a while longer."""
        until = self.signing_overlap_until
        if until is None or until <= timezone.now():
            return [self.signing_secret]
        return [self.signing_secret, self._signing_secret(self.signing_version - 1)]

    def rotate_signing_secret(self, overlap: timedelta) -> None:
        """Make a new signing secret; the one that holds now does for `overlap` longer."""
        self.signing_version += 1
        self.signing_overlap_until = timezone.now() + overlap
        self.save(update_fields=["signing_version", "signing_overlap_until"])

    def _signing_secret(self, version: int) -> str:
        message = f"signing:{self.pk}:{version}".encode()
        return hmac.new(settings.PEPPER, message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do, and the rules of its project.

    A copy that processes may keep for a few seconds. `key_id` is None where no key was shown: the
    caller has a token of the project's, or none where the project needs none.
    """

    key_id: int | None
    scope: str
    project_id: int
    project_slug: str
    users_optional: bool
    scrubbing: Mode
    origins: frozenset[str]
    rate_limits: Mapping[str, str]
    rules: Rules


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(
        self, project: Project, scope: str, *, label: str = "", expires_at: datetime | None = None
    ) -> tuple["ApiKey", str]:
        """A new key and its text, which is kept nowhere: whoever asked must show it now."""
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = self.create(
            project=project,
            scope=scope,
            prefix=prefix,
            digest=ApiKey.digest_of(secret),
            label=label,
            expires_at=expires_at,
        )
        return key, f"{scope}_{prefix}_{secret}"

    def usable(self, prefix: str) -> "ApiKey | None":
        """The key with this prefix if it may be used now, its project with it."""
        key = self.select_related("project").filter(prefix=prefix).first()
        return key if key is not None and key.is_usable else None


class ApiKey(models.Model):
    """A key of a project: `<scope>_<prefix>_<secret>`. Of the secret only a hash is kept."""

    class Scope(models.TextChoices):
        INGEST = "ingest", "ingest: publishable, may only write"
        SECRET = "secret", "secret: server side, queries and privacy"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="keys")
    scope = models.CharField(max_length=10, choices=Scope)
    prefix = models.CharField(
        max_length=12, unique=True, validators=[RegexValidator(r"\A[0-9a-f]{12}\Z")]
    )
    digest = models.BinaryField(max_length=32)
    label = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the hour.")

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.scope}_{self.prefix}_…"

    @staticmethod
    def digest_of(secret: str) -> bytes:
        """The secret has 256 random bits: one keyed hash is as good as a slow one."""
        return hmac.digest(settings.PEPPER, b"api-key:" + secret.encode(), "sha256")

    def matches(self, secret: str) -> bool:
        return hmac.compare_digest(bytes(self.digest), self.digest_of(secret))

    @property
    def is_usable(self) -> bool:
        now = timezone.now()
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    @property
    def state(self) -> str:
        """In words: usable, expired, revoked, and since or until when."""
        if self.revoked_at is not None:
            return f"revoked {self.revoked_at:%Y-%m-%d %H:%M} UTC"
        if self.expires_at is None:
            return "usable"
        word = "usable until" if self.is_usable else "expired"
        return f"{word} {self.expires_at:%Y-%m-%d %H:%M} UTC"

    @property
    def grant(self) -> Grant:
        return self.project.grant(self.scope, self.pk)

    def rotate(self, overlap: timedelta) -> tuple["ApiKey", str]:
        """A successor and its text; this key works for `overlap` longer, never past its own end."""
        with transaction.atomic():
            successor = ApiKey.objects.issue(self.project, self.scope, label=self.label)
            end = timezone.now() + overlap
            self.expires_at = min(self.expires_at or end, end)
            self.save(update_fields=["expires_at"])
        return successor

    def revoke(self) -> None:
        """End the key now. Processes that know it drop it within `TELEMETRY_KEY_CACHE_SECONDS`."""
        self.revoked_at = self.revoked_at or timezone.now()
        self.save(update_fields=["revoked_at"])

    def note_use(self) -> None:
        """Keep the hour of the last use; one write an hour, however many requests."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > timedelta(hours=1):
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)


@receiver(post_save, sender=Project)
@receiver(post_save, sender=ApiKey)
def _announce(**_: Any) -> None:
    """Let every process forget what it remembers of projects and keys."""
    transaction.on_commit(counters.announce_change)
