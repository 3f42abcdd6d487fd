"""What is rolled up, and by which lengths of time."""

from django.db import models


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
