"""A project, as what its privacy rules hang on in the admin."""

from ingest.models import Project


class PrivacyRules(Project):
    """No table of its own: the rules are a field of the project's, with permissions apart."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        permissions = [("change_privacy_rules", "Can change privacy rules")]
        verbose_name = verbose_name_plural = "privacy rules"
