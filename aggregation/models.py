"""What is counted, for whom it may be shown, and which counts have to be made anew."""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models import Count, Max, Sum
from django.utils import timezone

from aggregation import dimensions
from aggregation.budgets import DELTA, Terms
from ingest.models import Project

# What the counts by name are called beside the declared dimensions.
RESERVED = ("event",)


class Kind(models.TextChoices):
    """What is rolled up."""

    EVENTS = "events"
    POINTS = "points", "measurements"


class Level(models.IntegerChoices):
    """Buckets of which length: hours are made from raw data, each other level from the one before.

    They begin with UTC's hours, days and months.
    """

    HOUR = 0
    DAY = 1
    MONTH = 2


class Dimension(models.Model):
    """A property by whose values a project's events are counted."""

    MOST = 5

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="dimensions")
    name = models.SlugField(max_length=40, help_text="What queries call it: version, plugin.")
    path = models.CharField(
        max_length=200,
        help_text="client_version, level, scope, category, or properties.<name>, deeper with dots.",
    )
    event = models.CharField(
        max_length=200, blank=True, help_text="Of these events alone; of all where it is empty."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"],
                name="dimension_once_a_project",
                violation_error_message="The project has a dimension of this name already.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.name in RESERVED:
            raise ValidationError({"name": f"“{self.name}” is what counts by name are called."})
        try:
            dimensions.check(self.path)
        except dimensions.InvalidPath as error:
            raise ValidationError({"path": str(error)}) from None
        others = Dimension.objects.filter(project_id=self.project_id).exclude(pk=self.pk)
        if self.project_id and others.count() >= self.MOST:
            raise ValidationError(
                f"A project has {self.MOST} dimensions at most: delete one first."
            )


class Counting(Project):
    """A project, as what its dimensions and policy hang on in the admin: no table of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view", "change")
        verbose_name = verbose_name_plural = "counting"


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


class Seal(models.Model):
    """That what is counted of a month, and of its days, can't change any more.

    Its raw data is gone. `wiped` once no sketch is left of it, and nothing of groups of few people.
    """

    pk = models.CompositePrimaryKey("project", "kind", "month")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    kind = models.CharField(max_length=10, choices=Kind)
    month = models.DateTimeField(help_text="Its first moment.")
    wiped = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{Kind(self.kind).label.lower()} of {self.month:%Y-%m}, {self.project.slug}"


class DirtyMark(models.Model):
    """That a bucket has to be made anew. Whoever changes data appends one, and nobody waits.

    Storing and erasing mark hours (`ingest.marks`); whoever makes an hour marks its day, and a
    day its month. `erasing` where something was taken away for a person's sake.
    """

    id = models.BigAutoField(primary_key=True)
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    kind = models.CharField(max_length=10, choices=Kind)
    level = models.SmallIntegerField(choices=Level)
    bucket = models.DateTimeField(help_text="Its first moment.")
    erasing = models.BooleanField(default=False)
    marked_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [
            # Readers: the next buckets to make, and until when everything is rolled up.
            models.Index(fields=["project", "kind", "level", "bucket"], name="marks_of_a_bucket"),
        ]


class DirtyPerson(models.Model):
    """That a person's hours have to be made anew: they are suppressed from now on, or no longer."""

    id = models.BigAutoField(primary_key=True)
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    subject = models.BinaryField(max_length=16)
    marked_at = models.DateTimeField()

    class Meta:
        default_permissions = ()


class Build(models.Model):
    """When a bucket was made last, and how long it took: one that goes on changing waits a while.

    Kept as long as its bucket may change.
    """

    pk = models.CompositePrimaryKey("project", "kind", "level", "bucket")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    kind = models.CharField(max_length=10, choices=Kind)
    level = models.SmallIntegerField(choices=Level)
    bucket = models.DateTimeField()
    built_at = models.DateTimeField()
    seconds = models.FloatField()

    class Meta:
        default_permissions = ()


class EventBucket(models.Model):
    """How many events, people and sessions a bucket has, of all events or of one value.

    `dimension` is empty for all events, `event` for those of one name, else a declared one.
    `people` are distinct persons, where an event names none distinct sessions; both numbers are
    what their sketch (DataSketches HLL) estimates. `bytes` as stored.
    """

    pk = models.CompositePrimaryKey("project", "dimension", "bucket", "value")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    dimension = models.CharField(max_length=40)
    bucket = models.DateTimeField()
    value = models.TextField()
    count = models.BigIntegerField()
    bytes = models.BigIntegerField()
    people = models.BigIntegerField()
    sessions = models.BigIntegerField()
    people_sketch = models.BinaryField()
    sessions_sketch = models.BinaryField()

    class Meta:
        abstract = True
        managed = False


class EventHour(EventBucket):
    class Meta(EventBucket.Meta):
        db_table = "aggregation_eventhour"


class EventDay(EventBucket):
    class Meta(EventBucket.Meta):
        db_table = "aggregation_eventday"


class EventMonth(EventBucket):
    class Meta(EventBucket.Meta):
        db_table = "aggregation_eventmonth"


class MetricBucket(models.Model):
    """What the measurements of one series add up to in a bucket: of a name, kind, node and tags.

    `series` tells those of a name apart. `people` are distinct persons, none where the points are
    a machine's. `last` is by time, of gauges and cumulative counters; `increase` is a cumulative
    counter's from `first` to `last`, resets recognised: from one bucket to the next it grew too.
    `quantiles` counts samples by log-spaced buckets, as `aggregation.quantiles` packs them.
    """

    pk = models.CompositePrimaryKey("project", "name", "bucket", "series")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    name = models.TextField()
    bucket = models.DateTimeField()
    series = models.BinaryField(max_length=16)
    kind = models.CharField(max_length=10)
    cumulative = models.BooleanField()
    node = models.TextField(null=True)
    tags = models.JSONField()
    count = models.BigIntegerField()
    people = models.BigIntegerField()
    people_sketch = models.BinaryField()
    sum = models.FloatField(null=True)
    min = models.FloatField(null=True)
    max = models.FloatField(null=True)
    first = models.FloatField(null=True)
    first_at = models.DateTimeField(null=True)
    last = models.FloatField(null=True)
    last_at = models.DateTimeField(null=True)
    increase = models.FloatField(null=True)
    quantiles = models.BinaryField()

    class Meta:
        abstract = True
        managed = False


class MetricHour(MetricBucket):
    class Meta(MetricBucket.Meta):
        db_table = "aggregation_metrichour"


class MetricDay(MetricBucket):
    class Meta(MetricBucket.Meta):
        db_table = "aggregation_metricday"


class MetricMonth(MetricBucket):
    class Meta(MetricBucket.Meta):
        db_table = "aggregation_metricmonth"
