"""The naive stack as a Django application."""

from django.apps import AppConfig


class NaiveConfig(AppConfig):
    name = "tests.benchmarks.naive"
    label = "naive"
