"""How long each level is kept, and which buckets can't change any more."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from aggregation.definitions import RAW, Bucket
from aggregation.models import Kind, Level
from ingest import partitions

HOURS = {Kind.EVENTS: partitions.EVENT_HOURS, Kind.POINTS: partitions.METRIC_HOURS}


def is_sealed(bucket: Bucket) -> bool:
    """Whether what a bucket is made from isn't all there any more: as it is it stays."""
    if bucket.level == Level.MONTH:
        return bucket.start < timezone.now() - timedelta(days=settings.DAY_RETENTION_DAYS)
    made_from = HOURS if bucket.level == Level.DAY else RAW
    return not partitions.exists(made_from[bucket.kind], bucket.start.date())
