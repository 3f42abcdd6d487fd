"""Which buckets have to be made anew, which were made when, and which can't change any more."""

from django.db import models

from aggregation.models.levels import Kind, Level
from ingest.models import Project


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
