"""What a project's numbers are counted by."""

from django.core.exceptions import ValidationError
from django.db import models

from aggregation import dimensions
from ingest.models import Project

# What the counts by name are called beside the declared dimensions.
RESERVED = ("event",)


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
