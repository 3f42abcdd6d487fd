"""How much of a project's numbers is shown, and what is shown of it in private mode."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models import Count, Max, Sum
from django.utils import timezone

from aggregation.budgets import DELTA, Terms
from ingest.models import Project


class Mode(models.TextChoices):
    """How a project's numbers are kept from telling of one person; never both at once."""

    THRESHOLD = "threshold", "threshold: groups of few people are withheld"
    PRIVATE = "private", "private: whole days alone, with noise"


@dataclass(frozen=True, slots=True)
class Spending:
    """What the days released so far cost whoever was in all of them, how many they are, which was
    the last, and for how many more there is a budget."""

    epsilon: Decimal
    days: int
    last: date | None
    left: int

    @property
    def lifetime_delta(self) -> float:
        """What goes with the lifetime's epsilon."""
        return (self.days + self.left) * DELTA


class Policy(models.Model):
    """How much of a project's numbers is shown, and how long its raw data is kept.

    A project without a row has the defaults. `private_from` is the first day of private mode;
    what days cost, how much of a person counts, and what all of them may cost hold in that mode.
    """

    project = models.OneToOneField(
        Project, on_delete=models.CASCADE, primary_key=True, related_name="policy"
    )
    mode = models.CharField(
        max_length=10, choices=Mode, default=Mode.THRESHOLD,
        help_text="Private mode begins with the next day (UTC); earlier days aren't shown any "
        "more. Once a day is released a project stays private.",
    )  # fmt: skip
    threshold = models.PositiveSmallIntegerField(
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Groups of fewer people are withheld; 1 shows everything. Lowering it goes into "
        "the audit log.",
    )
    daily_epsilon = models.DecimalField(
        "epsilon of a day", max_digits=5, decimal_places=2, default=Decimal("1.00"),
        validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(Decimal(10))],
        help_text="Private mode: what a released day may tell of a person. Half of it is twice the "
        "noise.",
    )  # fmt: skip
    lifetime_epsilon = models.DecimalField(
        "epsilon of a lifetime", max_digits=7, decimal_places=2, default=Decimal("365.00"),
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="Private mode: what all days together may tell of anybody. Days are released "
        "until it is spent, and none after that.",
    )  # fmt: skip
    most_events = models.PositiveSmallIntegerField(
        "events of a person", default=20,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Private mode: so many events of a person and day count. The noise grows with "
        "it.",
    )  # fmt: skip
    most_names = models.PositiveSmallIntegerField(
        "names of a person", default=5,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Private mode: by name, so many names of a person and day count, and of each an "
        "equal part of the events.",
    )  # fmt: skip
    event_days = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="Days that events are kept, where that is less than the instance's.",
    )  # fmt: skip
    point_days = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="Days that measurements are kept, where that is less than the instance's.",
    )  # fmt: skip
    private_from = models.DateField(null=True, editable=False)
    # Whatever is older is deleted, and of events what is counted by the hour with it.
    events_from = models.DateField(null=True, editable=False)
    points_from = models.DateField(null=True, editable=False)

    class Meta:
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return str(self.project)

    @classmethod
    def of(cls, project_id: int, using: str = DEFAULT_DB_ALIAS) -> "Policy":
        """What holds for a project, as a database says: the defaults where it has no row."""
        found = cls.objects.using(using).filter(pk=project_id).first()
        return found or cls(project_id=project_id)

    @property
    def terms(self) -> Terms:
        """On which terms a day is released."""
        return Terms(self.daily_epsilon, self.most_events, self.most_names)

    @property
    def spending(self) -> Spending:
        """What was spent, and what is left, as the database says that the policy is of."""
        released = ReleasedDay.objects.using(self._state.db).filter(project_id=self.pk)
        found = released.aggregate(epsilon=Sum("epsilon"), days=Count("*"), last=Max("day"))
        epsilon = found["epsilon"] or Decimal("0.00")
        left = max(self.lifetime_epsilon - epsilon, Decimal(0)) // self.daily_epsilon
        return Spending(epsilon, found["days"], found["last"], int(left))

    def clean(self) -> None:
        """Check what fields have with each other, and with what is released already.

        A project that becomes private is from the next day on: today was seen as it is.
        """
        wrong: dict[str, str] = {}
        with transaction.atomic():
            # So that nothing is released meanwhile.
            before = Policy.objects.select_for_update().filter(pk=self.pk).first()
            released = ReleasedDay.objects.filter(project_id=self.pk).exists()
            if self.mode == Mode.PRIVATE:
                wrong = self._broken_terms()
                if before is not None and before.mode == Mode.PRIVATE:
                    # Somebody may have chosen it since this was read: that says since when.
                    self.private_from = before.private_from
                else:
                    self.private_from = timezone.now().date() + timedelta(days=1)
            elif released:
                wrong["mode"] = (
                    "Days of this project are released with noise. Shown as they are as well, it "
                    "would protect nobody: a project that has begun so stays private. Make "
                    "another one for numbers without noise."
                )
        if wrong:
            raise ValidationError(wrong)

    def _broken_terms(self) -> dict[str, str]:
        """What is wrong with the fields of private mode."""
        wrong = {}
        if self.most_events and self.most_names and self.most_names > self.most_events:
            wrong["most_names"] = "A person can't have more names than events."
        if self.daily_epsilon and self.lifetime_epsilon:
            if self.lifetime_epsilon < self.daily_epsilon:
                wrong["lifetime_epsilon"] = "It has to be enough for a day."
            if self.lifetime_epsilon < (spent := self.spending.epsilon):
                wrong["lifetime_epsilon"] = f"{spent} are spent already."
        least = settings.PRIVATE_DELAY_DAYS + 1
        if min(self.event_days or least, settings.EVENT_RETENTION_DAYS) < least:
            wrong["event_days"] = (
                f"Private mode needs events of {least} days: a day is drawn "
                f"{settings.PRIVATE_DELAY_DAYS} after its end."
            )
        return wrong


class ReleasedDay(models.Model):
    """What is shown of a day in private mode, and what that cost. It is drawn once, and stays.

    Both numbers have noise, and may be negative.
    """

    pk = models.CompositePrimaryKey("project", "day")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    day = models.DateField()
    drawn_at = models.DateTimeField()
    epsilon = models.DecimalField(max_digits=5, decimal_places=2)
    delta = models.FloatField()
    most_events = models.PositiveSmallIntegerField()
    most_names = models.PositiveSmallIntegerField()
    events = models.BigIntegerField()
    people = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.day}, {self.project.slug}"


class ReleasedName(models.Model):
    """How many events of a name are shown of a day in private mode. Names of few have no row."""

    pk = models.CompositePrimaryKey("project", "day", "name")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    day = models.DateField()
    name = models.TextField()
    events = models.BigIntegerField()

    class Meta:
        default_permissions = ()
