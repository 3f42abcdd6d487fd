"""The WSGI application that granian serves."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

application = get_wsgi_application()

# What is loaded by now stays; a batch makes thousands of short-lived objects without a cycle among
# them. Looking through all of that again and again took 7 % of the time.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)
