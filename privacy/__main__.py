"""`python -m privacy`: write docs/privacy.md, which is made from the register."""

import os

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")
django.setup()

from privacy.documents import FILE, page  # noqa: E402 it reads the models

(settings.BASE_DIR / FILE).write_text(page())
