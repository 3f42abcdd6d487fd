"""The WSGI application that granian serves."""

import os

from django.core.wsgi import get_wsgi_application

from telemetry_site import collector

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

application = get_wsgi_application()
collector.tune()
