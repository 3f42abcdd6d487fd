"""Settings of the naive stack: those of the service where they bear on speed."""

import os
from pathlib import Path

from telemetry_site import embedded
from telemetry_site.instance import instance_secrets

DATA_DIR = Path(os.environ["TELEMETRY_DATA_DIR"]).resolve()
SECRETS = instance_secrets(DATA_DIR)
EMBEDDED = embedded.locate(DATA_DIR)
REDIS = embedded.redis_url(EMBEDDED, SECRETS.redis_password)

SECRET_KEY = SECRETS.secret_key
PEPPER = SECRETS.pepper.encode()
DEBUG = False
USE_TZ = True
USE_I18N = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.benchmarks.naive.urls"
INSTALLED_APPS = ["rest_framework", "tests.benchmarks.naive"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MAX_AGE_DAYS = 31

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": embedded.DATABASE,
        "USER": "telemetry_owner",
        "PASSWORD": SECRETS.owner_password,
        "HOST": str(EMBEDDED.run),
        "CONN_MAX_AGE": None,
    }
}
# django-ratelimit's counters, where its documentation wants them.
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS},
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tests.benchmarks.naive.requests.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tests.benchmarks.naive.requests.GzipJSONParser"],
    "UNAUTHENTICATED_USER": None,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
