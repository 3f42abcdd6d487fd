"""What is counted: of events and of measurements, by the hour, day and month."""

from django.db import models

from ingest.models import Project


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
