"""The intake as a Django app."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    name = "ingest"
    verbose_name = "Ingest"

    def ready(self) -> None:
        """Let django-cors-headers ask for the projects' origins."""
        from corsheaders.signals import check_request_enabled

        from ingest.cors import is_allowed

        check_request_enabled.connect(is_allowed, dispatch_uid="projects' origins")
