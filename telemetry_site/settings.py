"""Every setting of the service, one section a concern.

Operators set them by environment variables; `docs/operations.md` lists them. A wrong value stops
the start with a sentence that names the variable.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ingest.forwarding.headers import check_headers
from ingest.forwarding.networks import InvalidDestination, place_of
from ingest.rules import RULES, InvalidRate, windows
from telemetry_site import embedded
from telemetry_site.environment import env_bool, env_float, env_int, env_list, env_str
from telemetry_site.instance import instance_secrets

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# --- Instance: where data lives, and the secrets that never enter the database -------------------

DATA_DIR = Path(env_str("TELEMETRY_DATA_DIR", str(BASE_DIR / "var"))).expanduser().resolve()
DATABASE_URL = env_str("DATABASE_URL")
DATABASE_OWNER_URL = env_str("DATABASE_OWNER_URL")
DATABASE_REPLICA_URL = env_str("DATABASE_REPLICA_URL")
REDIS_URL = env_str("REDIS_URL")
EMBEDDED_POSTGRES = not DATABASE_URL
EMBEDDED_REDIS = not REDIS_URL

if DATABASE_URL and not (env_str("SECRET_KEY") and env_str("TELEMETRY_PEPPER")):
    # Several machines may share this database: a secret made up on each would give one person
    # several subjects.
    raise ImproperlyConfigured(
        "With DATABASE_URL set, SECRET_KEY and TELEMETRY_PEPPER must be set too, to the same "
        "values on every machine (for example: openssl rand -hex 32)."
    )

SECRETS = instance_secrets(DATA_DIR)
SECRET_KEY = env_str("SECRET_KEY") or SECRETS.secret_key
PEPPER = (env_str("TELEMETRY_PEPPER") or SECRETS.pepper).encode()
if len(PEPPER) < 32:
    raise ImproperlyConfigured("TELEMETRY_PEPPER must be at least 32 characters long.")

# --- Web ---------------------------------------------------------------------------------------

DEBUG = False
HTTPS = env_bool("TELEMETRY_HTTPS")
ALLOWED_HOSTS = env_list("TELEMETRY_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
ROOT_URLCONF = "telemetry_site.urls"
WSGI_APPLICATION = "telemetry_site.wsgi.application"
APPEND_SLASH = False
INSTALLED_APPS = [
    "telemetry_site",  # its templates before the theme's
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "ingest",
    "privacy",
    "aggregation",
]
MIDDLEWARE = [
    "ingest.otlp.middleware.OtlpRefusals",
    "telemetry_site.middleware.RequestLog",
    "telemetry_site.middleware.PagesOnly",
    "django.middleware.security.SecurityMiddleware",
    "telemetry_site.middleware.AdminContent",
    "telemetry_site.middleware.AdminSession",
    "django.middleware.csrf.CsrfViewMiddleware",
    "telemetry_site.middleware.AdminUser",
    "telemetry_site.middleware.AdminMessages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# --- Admin -------------------------------------------------------------------------------------

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
UNFOLD = {
    "SITE_TITLE": "Telemetry",
    "SITE_HEADER": "Telemetry",
    "SITE_SYMBOL": "sensors",
    "SITE_FAVICONS": [{"rel": "icon", "href": "/static/telemetry_site/icon.svg"}],
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "telemetry_site.admin.first_page",
    "STYLES": ["/static/telemetry_site/admin.css"],
    "SIDEBAR": {"navigation": "telemetry_site.navigation.sidebar"},
}

# --- Transport security --------------------------------------------------------------------------

# On behind a proxy that ends TLS and sets X-Forwarded-Proto; off for a try-out on loopback.
SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
# Asked from inside, by a load balancer or Prometheus.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- PostgreSQL ----------------------------------------------------------------------------------


def database(url: str, variable: str) -> dict[str, Any]:
    """Django's description of the database at `url` (postgresql://…)."""
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
    except ProgrammingError:
        # Its own sentence quotes the URL, the password in it too.
        raise ImproperlyConfigured(
            f"{variable} is not a PostgreSQL URL (postgresql://USER:PASSWORD@HOST:PORT/NAME)."
        ) from None
    if not parts.get("dbname"):
        raise ImproperlyConfigured(f"{variable} names no database (postgresql://…/NAME).")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        # A connection attempt, and a transaction left open by a frozen client, end by themselves.
        "OPTIONS": {
            "connect_timeout": 3,
            # Statements are prepared where they ask for it (see ingest.prepared) and nowhere else.
            # Django's default of None forbids it even to them.
            "prepare_threshold": 2**31,
            "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
            **parts,
        },
        "TEST": {"MIGRATE": False},
    }


EMBEDDED = embedded.locate(DATA_DIR)
DATABASES = {
    # The application: may read and write rows, owns nothing but the partitioned tables.
    "default": database(
        DATABASE_URL or embedded.database_url(EMBEDDED, "telemetry_app", SECRETS.app_password),
        "DATABASE_URL",
    ),
}
if EMBEDDED_POSTGRES or DATABASE_OWNER_URL:
    # Migrations only.
    DATABASES["owner"] = database(
        DATABASE_OWNER_URL
        or embedded.database_url(EMBEDDED, "telemetry_owner", SECRETS.owner_password),
        "DATABASE_OWNER_URL",
    )

if DATABASE_REPLICA_URL:
    # Read from where `telemetry_site.replica` says so, and nowhere else.
    DATABASES["replica"] = database(DATABASE_REPLICA_URL, "DATABASE_REPLICA_URL")

# --- Redis and Celery ----------------------------------------------------------------------------

REDIS = REDIS_URL or embedded.redis_url(EMBEDDED, SECRETS.redis_password)
if urlsplit(REDIS).scheme not in {"redis", "rediss", "unix"}:
    raise ImproperlyConfigured(
        "REDIS_URL must start with redis://, rediss:// or unix://, "
        f"not {urlsplit(REDIS).scheme or 'nothing'}://."
    )
# Celery's broker; Redis unless told otherwise (Sentinel, RabbitMQ).
BROKER_URL = env_str("TELEMETRY_BROKER_URL") or REDIS.replace("unix://", "redis+socket://", 1)
REDIS_TIMEOUT_SECONDS = 0.2

# --- Intake --------------------------------------------------------------------------------------

MAX_WIRE_BYTES = env_int("TELEMETRY_MAX_WIRE_BYTES", 1024**2, least=1024)
MAX_BODY_BYTES = env_int("TELEMETRY_MAX_BODY_BYTES", 10 * 1024**2, least=1024)
# Collectors send 8,192 records at once by default; each request is split into batches.
MAX_OTLP_WIRE_BYTES = env_int("TELEMETRY_MAX_OTLP_WIRE_BYTES", 4 * 1024**2, least=1024)
MAX_OTLP_BODY_BYTES = env_int("TELEMETRY_MAX_OTLP_BODY_BYTES", 20 * 1024**2, least=1024)
MAX_BATCH_EVENTS = env_int("TELEMETRY_MAX_BATCH_EVENTS", 1000, least=1, most=32_767)
MAX_EVENT_BYTES = env_int("TELEMETRY_MAX_EVENT_BYTES", 32 * 1024, least=256)
MAX_DEPTH = env_int("TELEMETRY_MAX_DEPTH", 16, least=1, most=200)
MAX_NAME_LENGTH = env_int("TELEMETRY_MAX_NAME_LENGTH", 200, least=1)
# `{`, `[` and `,` in a body: a bound on the objects a small compressed body may decode to.
MAX_STRUCTURE = env_int("TELEMETRY_MAX_STRUCTURE", 100_000, least=1000)
MAX_AGE_DAYS = env_int("TELEMETRY_MAX_AGE_DAYS", 31, least=1, most=31)
# How long a key that was just revoked may still be taken from a process's memory.
KEY_CACHE_SECONDS = env_float("TELEMETRY_KEY_CACHE_SECONDS", 5, least=0.1, most=300)

# A project that takes what comes without a key (by its slug).
ANONYMOUS_PROJECT = env_str("TELEMETRY_ANONYMOUS_PROJECT")
# Proxies before us that each add a place to X-Forwarded-For.
TRUSTED_PROXIES = env_int("TELEMETRY_TRUSTED_PROXIES", 0, most=10)

# Browsers: which pages may send is asked of the projects (ingest.cors).
CORS_URLS_REGEX = r"^/(api/client-telemetry|v1/(events|submit|metrics))$"
CORS_ALLOW_CREDENTIALS = True  # sendBeacon sends them
CORS_ALLOW_METHODS = ("POST", "OPTIONS")
CORS_ALLOW_HEADERS = (
    "authorization", "content-encoding", "content-type", "idempotency-key", "x-api-key",
    "x-client-version", "x-request-id", "x-user-id",
)  # fmt: skip
CORS_EXPOSE_HEADERS = ("ratelimit", "ratelimit-policy", "retry-after", "x-request-id")

# --- Rate limits ---------------------------------------------------------------------------------


def rate_limits() -> dict[str, str]:
    """Rule -> rate: `10/m`, several windows with commas, 0 for no limit. Projects may differ."""
    # By the names that source 002's deployments have set.
    requests = env_int("CLIENT_TELEMETRY_RATE_LIMIT_MAX_REQUESTS", 100, most=999_999_999)
    window = env_int("CLIENT_TELEMETRY_RATE_LIMIT_WINDOW_MS", 60_000, most=99_999_000)
    defaults = {name: rule.rate for name, rule in RULES.items()}
    defaults["browser.ip"] = f"{requests}/{max(1, window // 1000)}s" if requests else "0"
    rates = {}
    for name, default in defaults.items():
        variable = f"TELEMETRY_RATE_{name.upper().replace('.', '_')}"
        rates[name] = env_str(variable, default)
        try:
            windows(rates[name])
        except InvalidRate as error:
            raise ImproperlyConfigured(f"{variable}: {error}") from None
    return rates


RATE_LIMITS = rate_limits()
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "ratelimit": {"BACKEND": "ingest.counters.CounterKeys"},
}
RATELIMIT_USE_CACHE = "ratelimit"

# --- Storage and retention -----------------------------------------------------------------------

EVENT_RETENTION_DAYS = env_int("TELEMETRY_EVENT_RETENTION_DAYS", 90, least=1)
# A day counts from its end on: 1 is today and yesterday, 24 hours at least.
METRIC_RETENTION_DAYS = env_int("TELEMETRY_METRIC_RETENTION_DAYS", 1, least=1)
# Of measurements' hours. Events' hours are kept as long as the events.
METRIC_HOUR_RETENTION_DAYS = env_int("TELEMETRY_METRIC_HOUR_RETENTION_DAYS", 30, least=1)
# Of days, both events' and measurements'. Months are kept for ever.
DAY_RETENTION_DAYS = env_int("TELEMETRY_DAY_RETENTION_DAYS", 366, least=93)
LEDGER_RETENTION_DAYS = env_int("TELEMETRY_LEDGER_RETENTION_DAYS", 31, least=31)
REJECTED_RETENTION_DAYS = env_int("TELEMETRY_REJECTED_RETENTION_DAYS", 7, least=1)
VIOLATION_RETENTION_DAYS = env_int("TELEMETRY_VIOLATION_RETENTION_DAYS", 31, least=1)
# Of projects in private mode a day is drawn so long after its end: what comes later isn't in it.
PRIVATE_DELAY_DAYS = env_int("TELEMETRY_PRIVATE_DELAY_DAYS", 1, least=1, most=31)
# Accepting stops with 503 while the disk of the data folder has less than this left.
MIN_FREE_DISK_BYTES = env_int("TELEMETRY_MIN_FREE_DISK_MB", 500) * 1024**2
# Before that it is told.
DISK_ALARM_BYTES = env_int("TELEMETRY_DISK_ALARM_MB", 2000) * 1024**2
BACKLOG_ALARM_SECONDS = env_int("TELEMETRY_BACKLOG_ALARM_SECONDS", 60, least=5)

# --- Persons' exports ----------------------------------------------------------------------------

EXPORT_DAYS = env_int("TELEMETRY_EXPORT_DAYS", 7, least=1, most=30)


def export_storage(url: str) -> dict[str, Any]:
    """Django's description of where export files are: below the data folder, or in a bucket."""
    if not url:
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {
                "location": DATA_DIR / "exports",
                "file_permissions_mode": 0o600,
                "directory_permissions_mode": 0o700,
            },
        }
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or parts.query:
        raise ImproperlyConfigured(
            "TELEMETRY_EXPORT_STORAGE must be s3://BUCKET or s3://BUCKET/PREFIX."
        )
    if find_spec("storages") is None:
        raise ImproperlyConfigured(
            "TELEMETRY_EXPORT_STORAGE needs what requirements-s3.txt lists: "
            ".venv/bin/pip install -r requirements-s3.txt"
        )
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": parts.netloc,
            "location": parts.path.strip("/"),
            "default_acl": None,
        },
    }


STORAGES = {
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "exports": export_storage(env_str("TELEMETRY_EXPORT_STORAGE")),
}

# --- Forwarding to OpenTelemetry collectors -------------------------------------------------------


def collector(endpoint: str) -> str:
    """Where projects forward to that have no collector of their own; empty: nowhere."""
    if endpoint:
        try:
            place_of(endpoint)
        except InvalidDestination as error:
            raise ImproperlyConfigured(f"OTEL_COLLECTOR_ENDPOINT: {error}") from None
    return endpoint


def collector_headers(pairs: list[str]) -> dict[str, str]:
    """Headers as OTEL_EXPORTER_OTLP_HEADERS has them: KEY=VALUE,KEY=VALUE, values %-encoded."""
    parts = [pair.partition("=") for pair in pairs]
    headers = {name.strip(): unquote(value.strip()) for name, _, value in parts}
    try:
        if not all(separator for _, separator, _ in parts):
            raise InvalidDestination("It must be KEY=VALUE,KEY=VALUE.")
        check_headers(headers)
    except InvalidDestination as error:
        raise ImproperlyConfigured(f"OTEL_COLLECTOR_HEADERS: {error}") from None
    return headers


OTEL_COLLECTOR_ENDPOINT = collector(env_str("OTEL_COLLECTOR_ENDPOINT"))
OTEL_COLLECTOR_HEADERS = collector_headers(env_list("OTEL_COLLECTOR_HEADERS"))
OTEL_COLLECTOR_ENCODING = env_str("OTEL_COLLECTOR_ENCODING", "protobuf")
if OTEL_COLLECTOR_ENCODING not in {"protobuf", "json"}:
    raise ImproperlyConfigured(
        f"OTEL_COLLECTOR_ENCODING must be protobuf or json, not {OTEL_COLLECTOR_ENCODING!r}."
    )
# Of a whole exchange with any collector, in seconds.
OTEL_COLLECTOR_TIMEOUT = env_int("OTEL_COLLECTOR_TIMEOUT_MS", 5000, least=100, most=30_000) / 1000
# What no collector took in this time is given up, and kept for replay.
FORWARD_HOURS = env_int("TELEMETRY_FORWARD_HOURS", 24, least=1, most=24 * 14)

# --- Monitoring ----------------------------------------------------------------------------------

# Where the processes of one `up` count together.
METRICS_DIR = DATA_DIR / "metrics"
# What a scraper must send; without one /metrics answers direct requests from this machine only.
METRICS_TOKEN = env_str("TELEMETRY_METRICS_TOKEN")
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured(
        "TELEMETRY_METRICS_TOKEN must be at least 16 characters long (for example: "
        "openssl rand -hex 32)."
    )

# --- Processes that `manage.py up` runs ----------------------------------------------------------

WEB_PROCESSES = env_int("TELEMETRY_WEB_PROCESSES", 1, least=1, most=64)
WEB_THREADS = env_int("TELEMETRY_WEB_THREADS", 8, least=1, most=64)
INGEST_WORKERS = env_int("TELEMETRY_INGEST_WORKERS", 1, least=1, most=64)

# --- REST framework ------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["ingest.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "telemetry_site.negotiation.JsonOnly",
    "DEFAULT_METADATA_CLASS": "telemetry_site.negotiation.Methods",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "telemetry_site.inspector.Inspector",
    "EXCEPTION_HANDLER": "telemetry_site.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Telemetry",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SORT_OPERATIONS": False,  # but as the routes stand
    "POSTPROCESSING_HOOKS": ["telemetry_site.inspector.complete"],
}

# --- Logging -------------------------------------------------------------------------------------

LOG_LEVEL = env_str("TELEMETRY_LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured(
        f"TELEMETRY_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {LOG_LEVEL!r}."
    )
LOG_FORMAT = env_str("TELEMETRY_LOG_FORMAT", "auto")
if LOG_FORMAT not in {"auto", "json", "plain"}:
    raise ImproperlyConfigured(
        f"TELEMETRY_LOG_FORMAT must be auto, json or plain, not {LOG_FORMAT!r}."
    )
if LOG_FORMAT == "auto":
    LOG_FORMAT = "plain" if sys.stderr.isatty() else "json"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"()": "telemetry_site.logs.Plain"},
        "json": {"()": "telemetry_site.logs.Json"},
    },
    "filters": {"fields": {"()": "telemetry_site.logs.Fields"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["fields"],
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own request log repeats what the access log says, query string included.
        "django.request": {"level": "ERROR"},
        # It quotes a collector's URL and headers, which may hold secrets.
        "urllib3": {"level": "ERROR"},
    },
}
