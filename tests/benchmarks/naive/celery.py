"""The Celery application, tuned as the service's is."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.benchmarks.naive.settings")

app = Celery("naive")
app.conf.update(
    CELERY_DB_REUSE_MAX=1_000_000,
    broker_url=settings.REDIS.replace("unix://", "redis+socket://", 1),
    broker_connection_retry_on_startup=True,
    task_default_queue="ingest",
    task_ignore_result=True,
    worker_prefetch_multiplier=8,
    worker_hijack_root_logger=False,
    timezone="UTC",
)
app.autodiscover_tasks(["tests.benchmarks.naive"])
