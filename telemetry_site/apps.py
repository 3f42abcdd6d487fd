"""Django's description of the site's own app."""

from django.apps import AppConfig


class TelemetrySiteConfig(AppConfig):
    name = "telemetry_site"
    verbose_name = "Service"
