"""Settings, all from the environment. Nothing here raises: ``manage.py check`` (``app/checks``) reports errors."""

import logging
import secrets
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django_stubs_ext

from app.api_settings import description
from app.environment import Environment
from app.mail.url import EmailUrlError, email_settings
from app.observability.logs import logging_config
from app.queues import DEFAULT_QUEUE, QUEUES
from app.schedules import schedules
from pressroom.process.environment import redis_url, resilient, without_line_break

# Allows annotations like ModelAdmin[Post], which the type checker needs and Django rejects at run time.
django_stubs_ext.monkeypatch()

if find_spec("app.local"):  # the image does not contain it
    from app.local import running

    # manage.py and celery next to a running `make up` take over its settings.
    running.join()
env = Environment()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))

# Local mode is for `make up` and the tests: loopback only. It may have defaults that production must not have.
LOCAL = env.bool("LOCAL", default=False)
DEBUG = env.bool("DEBUG", default=False)

SECRET_KEY_IS_SET = LOCAL or bool(env.str("SECRET_KEY", default=""))
# Without one, a random key lets `check` run and report it. No process serves with it.
SECRET_KEY = env.str("SECRET_KEY", default="") or secrets.token_urlsafe(50)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if LOCAL else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Who may register: "open": readers, whom an admin can make authors; "authors": authors at once; "closed": nobody.
REGISTRATION = env.str("REGISTRATION", default="open")
SITE_URL = env.str("SITE_URL", default="http://127.0.0.1:8000").rstrip("/")

# The apps of this site. Removing an app from this list also removes its routes (`urls.py`) and its schedules
# (`schedule.py`): see docs/your-app.md.
DOMAIN_APPS = [
    "app.accounts",
    "app.blog",
    "app.reports",
    "app.integrations",
    "app.payments",
    "app.files",
]
INSTALLED_APPS = [
    "app",  # first, so that its templates override those of Django's admin and of the API documentation
    "app.admin_site.config.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.sitemaps",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "django_celery_beat",
    "django_tasks",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "pressroom",
    *DOMAIN_APPS,
    "pressroom.operations",
]

MIDDLEWARE = [
    "app.http.security_headers.SecurityHeadersMiddleware",
    "pressroom.http.health.HealthMiddleware",
    "app.observability.logs.RequestLogMiddleware",
    "app.http.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "pressroom.http.preconditions.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "pressroom.enqueue.ownership.OwnershipMiddleware",
    "app.accounts.sign_in.middleware.ThrottledPageMiddleware",
    "app.http.request_headers.RequestHeadersMiddleware",
]

ROOT_URLCONF = "app.urls"
CSRF_FAILURE_VIEW = "app.http.problems.csrf_failure"
WSGI_APPLICATION = "app.wsgi.application"
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

# ---- Data -----------------------------------------------------------------------------------------------------------
DATABASE_URL = env.str("DATABASE_URL", default="")
DATABASES = {"default": resilient(env.db_url_config(DATABASE_URL or "postgres://localhost:5432/pressroom"))}
_password = DATABASES["default"].get("PASSWORD") or without_line_break(env.str("PGPASSWORD", default=""))
DATABASES["default"] |= {"PASSWORD": _password, "CONN_MAX_AGE": env.int("CONN_MAX_AGE", default=60, least=0)}
# Seconds that a web process waits for the answer to one statement. Before that, it waits one second for the server to
# answer at all.
WEB_DATABASE_TIMEOUT = env.float("WEB_DATABASE_TIMEOUT", default=10.0)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379").rstrip("/")
REDIS_PASSWORD = without_line_break(env.str("REDIS_PASSWORD", default=""))
REDIS_CA = env.str("REDIS_CA", default="")
CACHE_URL = env.str("CACHE_URL", default=redis_url(REDIS_URL, 2, REDIS_PASSWORD, REDIS_CA))
CACHES = {
    "default": {
        "BACKEND": "app.cache.FailOpenRedisCache",
        "LOCATION": CACHE_URL,
        # Cache calls slower than 100 ms count as misses.
        "OPTIONS": {"socket_timeout": 0.1, "socket_connect_timeout": 0.1},
    },
}

# ---- Files ----------------------------------------------------------------------------------------------------------
# Files are in Postgres, because web and workers share no disk, or in S3 (or a compatible service) if a bucket is set.
S3_BUCKET = env.str("S3_BUCKET", default="")
S3_OPTIONS = {
    "endpoint_url": env.str("S3_ENDPOINT_URL", default=""),
    "region_name": env.str("S3_REGION", default=""),
    "access_key": env.str("S3_ACCESS_KEY_ID", default=""),
    "secret_key": env.str("S3_SECRET_ACCESS_KEY", default=""),
}
STORAGES: dict[str, dict[str, Any]] = {
    **({"default": {"BACKEND": "app.files.storage.PostgresStorage"}} if "app.files" in DOMAIN_APPS else {}),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if S3_BUCKET:
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        # Files larger than 8 MB are read by way of the disk, not in memory.
        "OPTIONS": {"bucket_name": S3_BUCKET, "max_memory_size": 8 * 1024 * 1024}
        | {name: value for name, value in S3_OPTIONS.items() if value},
    }

# ---- Celery ---------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=redis_url(REDIS_URL, 0, REDIS_PASSWORD, REDIS_CA))
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default="pressroom.celery_app.result_backend:LedgerBackend")
# A dead Redis host does not answer new connections either. By default a client waits two minutes for it.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2.0, "socket_timeout": 10.0, "health_check_interval": 10,
} | env.json("CELERY_BROKER_TRANSPORT_OPTIONS", default={})  # fmt: skip
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 2.0
CELERY_TASK_DEFAULT_QUEUE = DEFAULT_QUEUE
TASKRUNS_QUEUES, TASKRUNS_APPS = QUEUES, DOMAIN_APPS
CELERY_TASK_QUEUES = {queue.name: {"exchange": queue.name, "routing_key": queue.name} for queue in QUEUES}
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_TRACK_STARTED = True
# Celery's defaults. Each call reads them, and looking up a name that Django's settings lack is slow.
CELERY_TASK_ALWAYS_EAGER, CELERY_TASK_PROTOCOL, CELERY_TASK_REPR_MAXLEVELS = False, 2, 3
CELERY_WORKER_CONSUMER = "pressroom.worker.consumer:LedgerConsumer"
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = CELERY_TASK_CREATE_MISSING_QUEUES = False
# Celery's events, for celery-exporter and Flower. Pressroom's own metrics do not need them.
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = env.bool("CELERY_SEND_EVENTS", default=False)
# Wait for a Redis that refuses (read-only, full) as for one that is down, without a limit.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BEAT_SCHEDULER = "pressroom.beat.scheduler:LedgerScheduler"
# Created in the database if missing, then edited in the admin. Each app has its own in `schedule.py`.
CELERY_BEAT_SCHEDULE = schedules(["pressroom", *DOMAIN_APPS])
TASKS = {"default": {"BACKEND": "pressroom.django_tasks.LedgerBackend"}}
CELERY_TIMEZONE = TIME_ZONE = env.str("TIME_ZONE", default="Asia/Seoul")
USE_TZ = USE_I18N = True
LANGUAGE_CODE = "en"

# ---- The ledger -----------------------------------------------------------------------------------------------------
# Seconds between two heartbeats of a worker, and of silence after which the worker counts as dead.
TASKRUNS_HEARTBEAT = env.float("TASKRUNS_HEARTBEAT", default=5.0)
TASKRUNS_SILENCE = env.float("TASKRUNS_SILENCE", default=20.0)
TASKRUNS_CONTAINER = env.str("TASKRUNS_CONTAINER", default="")
# The grace period: seconds that running tasks have after SIGTERM. The pod's termination grace period less 5.
TASKRUNS_GRACE = env.float("TASKRUNS_GRACE", default=25.0)
# Maximum number of database connections of a worker with threads or greenlets. A prefork process has one.
TASKRUNS_POOL_CONNECTIONS = env.int("TASKRUNS_POOL_CONNECTIONS", default=10)
# Seconds that a published run may be unclaimed before the reconciler looks for its message in Redis.
TASKRUNS_UNCLAIMED = env.float("TASKRUNS_UNCLAIMED", default=10.0)
# Seconds until a run with an unknown task name is tried again, and until it becomes a dead letter.
TASKRUNS_UNKNOWN_PAUSE = env.float("TASKRUNS_UNKNOWN_PAUSE", default=30.0)
TASKRUNS_UNKNOWN_LIMIT = env.float("TASKRUNS_UNKNOWN_LIMIT", default=900.0)
# Maximum size in bytes of the message of a call and of the result of a task.
TASKRUNS_MAX_MESSAGE = env.int("TASKRUNS_MAX_MESSAGE", default=8 * 1024 * 1024)
# File by which a worker, beat or relay shows a supervisor that it is alive. Empty: no file.
TASKRUNS_ALIVE_FILE = env.str("ALIVE_FILE", default="")
# Days to keep finished runs, by status. The variable overrides the statuses that it names.
TASKRUNS_RETENTION = {
    "succeeded": 7, "replaced": 7, "cancelled": 30, "expired": 30, "dead": 90,
    **env.json("TASKRUNS_RETENTION", default={}),
}  # fmt: skip

# ---- Reports --------------------------------------------------------------------------------------------------------
# Seconds that a link to a report's file is valid, and days that a report is kept.
REPORT_LINK_LIFETIME = env.int("REPORT_LINK_LIFETIME", default=3600)
REPORT_RETENTION = env.int("REPORT_RETENTION", default=90, most=36_500)

# ---- HTTP -----------------------------------------------------------------------------------------------------------
# Maximum size of a request's body in bytes. ProblemMiddleware enforces it, because DRF's parsers have no limit.
MAX_BODY_SIZE = env.int("MAX_BODY_SIZE", default=1024 * 1024)
# The same for a cover, and its maximum number of pixels: a small file can contain a very large image.
MAX_COVER_SIZE = env.int("MAX_COVER_SIZE", default=10 * 1024 * 1024)
MAX_COVER_PIXELS = env.int("MAX_COVER_PIXELS", default=25_000_000)
# Origins, like https://app.example.com, whose scripts may call the API from a browser, with bearer tokens.
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    # Before every middleware that answers: without CORS headers a browser hides errors from the script.
    MIDDLEWARE.insert(MIDDLEWARE.index("app.http.problems.ProblemMiddleware"), "corsheaders.middleware.CorsMiddleware")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept", "authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "last-event-id",
]  # fmt: skip
CORS_EXPOSE_HEADERS = ["ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "WWW-Authenticate"]
# Maximum number of event streams per process, each of which holds a thread of gunicorn, and seconds that one lasts.
TASKRUNS_EVENT_STREAMS = env.int("EVENT_STREAMS", default=2, least=0)
TASKRUNS_EVENT_STREAM_LIFETIME = env.float("EVENT_STREAM_LIFETIME", default=30.0, least=1, most=3600)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "app.accounts.sign_in.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["pressroom.http.json_renderer.SafeJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["app.http.parsers.SafeJSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["app.http.filters.ListFilter"],
    "DEFAULT_PAGINATION_CLASS": "app.http.pagination.NewestFirst",
    "DEFAULT_SCHEMA_CLASS": "app.http.openapi.Schema",
    "EXCEPTION_HANDLER": "app.http.problems.exception_handler",
    # Counted by user, or by client address without one. The cache counts, so without Redis there are no limits.
    "DEFAULT_THROTTLE_RATES": {
        "register": env.str("THROTTLE_REGISTER", default="60/hour"),
        "subscribe": env.str("THROTTLE_SUBSCRIBE", default="60/hour"),
        "publish": env.str("THROTTLE_PUBLISH", default="60/hour"),
        "reports": env.str("THROTTLE_REPORTS", default="60/hour"),
        "payments": env.str("THROTTLE_PAYMENTS", default="30/hour"),
        "account": env.str("THROTTLE_ACCOUNT", default="60/hour"),
    },
    # Number of proxies in front whose X-Forwarded-For is trusted. With 0 the client's address is the connection's.
    "NUM_PROXIES": env.int("NUM_PROXIES", default=0, least=0, most=10),
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
# Postgres counts these, so that they hold while the cache is down. The last is in app/blog/subscriptions/services.py.
LIMITS = {
    # "login": all attempts from one address. The others count wrong passwords: for one account from one address, for
    # one account from all addresses that it has not signed in from, and from one address for all accounts.
    "login": env.str("THROTTLE_LOGIN", default="30/min"),
    "lockout_login": env.str("LOCKOUT_LOGIN", default="10/hour"),
    "lockout_account": env.str("LOCKOUT_ACCOUNT", default="50/hour"),
    "lockout_address": env.str("LOCKOUT_ADDRESS", default="100/hour"),
    # Requests from one address for a link to set a new password, and mails about accounts to one address.
    "password_reset": env.str("THROTTLE_PASSWORD_RESET", default="20/hour"),
    "account_mail": env.str("THROTTLE_ACCOUNT_MAIL", default="5/hour"),
    # Mails to one address that ask it to confirm subscriptions.
    "subscription_mail": env.str("THROTTLE_SUBSCRIPTION_MAIL", default="10/day"),
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=14),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
}
STATIC_URL = "static/"
SPECTACULAR_SETTINGS = description(DOMAIN_APPS, STATIC_URL)
AUTHENTICATION_BACKENDS = ["app.accounts.sign_in.backends.LimitedBackend"]
# People sign in on the admin's page. If Django does not know where to go afterwards, it redirects to the admin's index.
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
# Seconds that a link in a mail is valid: to set a new password, to confirm an address.
PASSWORD_RESET_TIMEOUT = env.int("PASSWORD_RESET_TIMEOUT", default=3600)
EMAIL_LINK_TIMEOUT = env.int("EMAIL_LINK_TIMEOUT", default=3 * 86_400)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
STATIC_ROOT = env.str("STATIC_ROOT", default=str(BASE_DIR / "staticfiles"))
WHITENOISE_USE_FINDERS = LOCAL or DEBUG
# If the site is on https, cookies are sent over https only.
HTTPS = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
TRUST_PROXY = env.bool("TRUST_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000 if HTTPS else 0, least=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_INCLUDE_SUBDOMAINS", default=HTTPS)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = [
    # app.http.security_headers redirects requests that reached the proxy by http, but not those within the cluster.
    "security.W008",
    # The owner of a domain puts it on the browsers' preload list and then sets HSTS_PRELOAD.
    "security.W021",
]

# ---- Mail -----------------------------------------------------------------------------------------------------------
# smtp://, smtp+tls://user:password@host:587, consolemail://, sendgrid://:KEY@, ses://?region=…. Without one, local mode
# writes files. A check reports a wrong URL.
EMAIL_URL = env.str("EMAIL_URL", default="" if LOCAL else "smtp://localhost:25")
EMAIL_BACKEND = "app.mail.send.FileBackend"
EMAIL_FILE_PATH = str(VAR_DIR / "mail")
if EMAIL_URL:
    with suppress(EmailUrlError):
        vars().update(email_settings(EMAIL_URL))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Pressroom <press@example.com>")

# ---- Search ---------------------------------------------------------------------------------------------------------
# http(s)://host:port of a Meilisearch server and its API key. Without them, Postgres searches.
MEILISEARCH_URL = env.str("MEILISEARCH_URL", default="").rstrip("/")
MEILISEARCH_KEY = env.str("MEILISEARCH_KEY", default="")

# ---- Other services -------------------------------------------------------------------------------------------------
# Networks, like 10.1.0.0/16, that call_external_api may reach although they are not public.
EXTERNAL_ALLOWED_NETWORKS = env.list("EXTERNAL_ALLOWED_NETWORKS", default=[])
PING_URLS = env.list("PING_URLS", default=[])
SLACK_WEBHOOK_URL = env.str("SLACK_WEBHOOK_URL", default="")

# ---- Payments -------------------------------------------------------------------------------------------------------
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="https://api.stripe.com").rstrip("/")

# ---- Logs -----------------------------------------------------------------------------------------------------------
LOG_FORMAT = env.str("LOG_FORMAT", default="console" if LOCAL else "json")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = logging_config(LOG_FORMAT, LOG_LEVEL)
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # RequestLogMiddleware validates it
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
# Asking for the user would query the database, outside of the code that handles an unavailable one.
DJANGO_STRUCTLOG_USER_ID_FIELD = ""
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_STATUS_4XX_LOG_LEVEL = logging.INFO
# One line per task, at its end. The ledger records the calls and what is running.
DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL = logging.DEBUG

# ---- Metrics --------------------------------------------------------------------------------------------------------
# Port on which workers, the relay and gunicorn's master serve /metrics, on all addresses. 0: off.
TASKRUNS_METRICS_PORT = env.int("METRICS_PORT", default=0, least=0, most=65_535)
if TASKRUNS_METRICS_PORT:
    MIDDLEWARE.insert(0, "app.observability.web_metrics.MetricsMiddleware")

# ---- Sentry ---------------------------------------------------------------------------------------------------------
SENTRY_DSN = env.str("SENTRY_DSN", default="")
SENTRY_TRACES_SAMPLE_RATE = env.float("SENTRY_TRACES_SAMPLE_RATE", default=0.0, least=0, most=1)
ENVIRONMENT = env.str("ENVIRONMENT", default="local" if LOCAL else "production")
RELEASE = env.str("RELEASE", default="")

# For the checks: a sentence for each bad variable above, and the names of the variables that are numbers.
ENVIRONMENT_ERRORS, ENVIRONMENT_NUMBERS = env.wrong, env.numbers
