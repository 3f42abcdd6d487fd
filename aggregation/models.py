"""What is counted, for whom it may be shown, and which counts have to be made anew."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from aggregation import dimensions
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


class Policy(models.Model):
    """How much of a project's numbers is shown, and how long its raw data is kept.

    A project without a row has the defaults.
    """

    project = models.OneToOneField(
        Project, on_delete=models.CASCADE, primary_key=True, related_name="policy"
    )
    threshold = models.PositiveSmallIntegerField(
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Groups of fewer people are withheld; 1 shows everything. Lowering it goes into "
        "the audit log.",
    )
    event_days = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="Days that events are kept, where that is less than the instance's.",
    )  # fmt: skip
    point_days = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="Days that measurements are kept, where that is less than the instance's.",
    )  # fmt: skip
    # Whatever is older is deleted, and of events what is counted by the hour with it.
    events_from = models.DateField(null=True, editable=False)
    points_from = models.DateField(null=True, editable=False)

    class Meta:
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return str(self.project)


class Seal(models.Model):
    """That what is counted of a month, and of its days, can't change any more.

    Its raw data is gone. `wiped` once no sketch and no group of few people is left of it.
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
