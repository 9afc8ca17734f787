"""Settings, all from the environment. Nothing here raises: ``manage.py check`` (``app/checks``) says what is wrong."""

import logging
import secrets
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import django_stubs_ext

from app.api_settings import description
from app.environment import Environment
from app.mail.url import EmailUrlError, email_settings
from app.observability.logs import logging_config
from app.queues import DEFAULT_QUEUE, QUEUES
from app.schedules import schedules

# Lets ModelAdmin[Post] and its like be written, which the type checker wants and Django does not know.
django_stubs_ext.monkeypatch()

if find_spec("app.local"):  # which the image does not have
    from app.local import running

    # manage.py and celery beside a `make up` have its settings without anybody exporting them.
    running.join()
env = Environment()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))

# Local mode is `make up` and the tests: a laptop, loopback only. It may have defaults that production may not.
LOCAL = env.bool("LOCAL", default=False)
DEBUG = env.bool("DEBUG", default=False)

SECRET_KEY_IS_SET = LOCAL or bool(env.str("SECRET_KEY", default=""))
# Unset, the key is a random one, so that `check` can run and say so; no process serves with it.
SECRET_KEY = env.str("SECRET_KEY", default="") or secrets.token_urlsafe(50)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if LOCAL else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Who registers: "open", readers, whom an admin may make authors; "authors", who publish at once; "closed", nobody.
REGISTRATION = env.str("REGISTRATION", default="open")
SITE_URL = env.str("SITE_URL", default="http://127.0.0.1:8000").rstrip("/")

# What this site is about. An app that is taken out of this list takes its routes (`urls.py`) and its schedules
# (`schedule.py`) along: docs/your-app.md.
DOMAIN_APPS = [
    "app.accounts",
    "app.blog",
    "app.reports",
    "app.integrations",
    "app.payments",
    "app.files",
]
INSTALLED_APPS = [
    "app",  # first, so that its templates come before those of Django's admin and of the API's documents
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
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "pressroom",
    *DOMAIN_APPS,
    "pressroom.operations",
]

MIDDLEWARE = [
    "app.http.security_headers.SecurityHeadersMiddleware",
    "app.http.health.HealthMiddleware",
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
DATABASES = {"default": env.db_url_config(DATABASE_URL or "postgres://localhost:5432/pressroom")}
DATABASES["default"]["ENGINE"] = "pressroom.database"
DATABASES["default"].setdefault("OPTIONS", {})
# PgBouncer in transaction mode: no server-side cursors, no prepared statements kept on a server connection.
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60, least=0)
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
for _name, _value in {
    "connect_timeout": 5,
    # A host that is gone says nothing. Found out in 10 s where it is sent something, in 20 s where it is waited for.
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}.items():
    DATABASES["default"]["OPTIONS"].setdefault(_name, _value)
# Seconds that a web process waits for the answer to one statement; whether the server answers at all it asks first, and
# waits a second for that.
WEB_DATABASE_TIMEOUT = env.float("WEB_DATABASE_TIMEOUT", default=10.0)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379").rstrip("/")
REDIS_PASSWORD = env.str("REDIS_PASSWORD", default="")
REDIS_CA = env.str("REDIS_CA", default="")


def redis_database(number: int) -> str:
    """The URL of a database of ``REDIS_URL``, with what is given besides it."""
    scheme, _, rest = REDIS_URL.partition("://")
    user, _, host = rest.rpartition("@")
    if REDIS_PASSWORD:
        rest = f"{user}:{quote(REDIS_PASSWORD, safe='')}@{host}"
    trust = f"?ssl_cert_reqs=required&ssl_ca_certs={quote(REDIS_CA)}" if REDIS_CA else ""
    return f"{scheme}://{rest}/{number}{trust}"


CACHE_URL = env.str("CACHE_URL", default=redis_database(2))
CACHES = {
    "default": {
        "BACKEND": "app.cache.FailOpenRedisCache",
        "LOCATION": CACHE_URL,
        # A cache that does not answer at once is no cache: 100 ms, then the request goes on without it.
        "OPTIONS": {"socket_timeout": 0.1, "socket_connect_timeout": 0.1},
    },
}

# ---- Files ----------------------------------------------------------------------------------------------------------
# In Postgres, for web and workers share no disk; in S3, or what speaks its protocol, where a bucket is named.
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
        # What is read is on disk from 8 MB on, not in memory.
        "OPTIONS": {"bucket_name": S3_BUCKET, "max_memory_size": 8 * 1024 * 1024}
        | {name: value for name, value in S3_OPTIONS.items() if value},
    }

# ---- Celery ---------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=redis_database(0))
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", default="pressroom.celery_app.result_backend:LedgerBackend")
# A pod of Redis that went without a word answers nothing, not even to a new connection: for two minutes, by default.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2.0, "socket_timeout": 10.0, "health_check_interval": 10,
} | env.json("CELERY_BROKER_TRANSPORT_OPTIONS", default={})  # fmt: skip
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 2.0
CELERY_TASK_DEFAULT_QUEUE = DEFAULT_QUEUE
TASKRUNS_QUEUES = QUEUES
CELERY_TASK_QUEUES = {queue.name: {"exchange": queue.name, "routing_key": queue.name} for queue in QUEUES}
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_TRACK_STARTED = True
# Celery's defaults. Each call asks for them, and to find that Django's settings do not have one takes longest.
CELERY_TASK_ALWAYS_EAGER, CELERY_TASK_PROTOCOL, CELERY_TASK_REPR_MAXLEVELS = False, 2, 3
CELERY_WORKER_CONSUMER = "pressroom.worker.consumer:LedgerConsumer"
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Celery's events, which celery-exporter and Flower read; our own metrics need none.
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = env.bool("CELERY_SEND_EVENTS", default=False)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A Redis that refuses (read-only, full) is waited for like one that is away; and for as long as it takes.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BEAT_SCHEDULER = "pressroom.beat.scheduler:LedgerScheduler"
# Made in the database where missing; edited in the admin from then on. Each app keeps its own in `schedule.py`.
CELERY_BEAT_SCHEDULE = schedules(["pressroom", *DOMAIN_APPS])
CELERY_TIMEZONE = TIME_ZONE = env.str("TIME_ZONE", default="Asia/Seoul")
USE_TZ = True
LANGUAGE_CODE = "en"
USE_I18N = True

# ---- The ledger -----------------------------------------------------------------------------------------------------
# Seconds between two signs of life of a worker, and of silence after which what it ran is given to others.
TASKRUNS_HEARTBEAT = env.float("TASKRUNS_HEARTBEAT", default=5.0)
TASKRUNS_SILENCE = env.float("TASKRUNS_SILENCE", default=20.0)
# Seconds that running tasks have after SIGTERM: the pod's termination grace period less 5.
TASKRUNS_GRACE = env.float("TASKRUNS_GRACE", default=25.0)
# Connections of a worker of threads or greenlets, at most; under prefork each process has one.
TASKRUNS_POOL_CONNECTIONS = env.int("TASKRUNS_POOL_CONNECTIONS", default=10)
# Seconds that a published task may be unclaimed before its message is looked for in Redis.
TASKRUNS_UNCLAIMED = env.float("TASKRUNS_UNCLAIMED", default=10.0)
# Seconds until a task whose name a worker did not know is tried again, and after which it is given up.
TASKRUNS_UNKNOWN_PAUSE = env.float("TASKRUNS_UNKNOWN_PAUSE", default=30.0)
TASKRUNS_UNKNOWN_LIMIT = env.float("TASKRUNS_UNKNOWN_LIMIT", default=900.0)
# Bytes that a call's message, or a task's result, may have.
TASKRUNS_MAX_MESSAGE = env.int("TASKRUNS_MAX_MESSAGE", default=8 * 1024 * 1024)
# Where a worker, beat or relay shows a supervisor that it lives; nowhere without.
ALIVE_FILE = env.str("ALIVE_FILE", default="")
# Days that what has ended is kept, by its status; named ones change these.
TASKRUNS_RETENTION = {
    "succeeded": 7, "replaced": 7, "cancelled": 30, "expired": 30, "dead": 90,
    **env.json("TASKRUNS_RETENTION", default={}),
}  # fmt: skip

# ---- Reports --------------------------------------------------------------------------------------------------------
# Seconds that a link to a report's file is good for, and days that a report is kept.
REPORT_LINK_LIFETIME = env.int("REPORT_LINK_LIFETIME", default=3600)
REPORT_RETENTION = env.int("REPORT_RETENTION", default=90, most=36_500)

# ---- HTTP -----------------------------------------------------------------------------------------------------------
# Bytes of a request's body; DRF's parsers know no limit of their own, so ProblemMiddleware holds this one.
MAX_BODY_SIZE = env.int("MAX_BODY_SIZE", default=1024 * 1024)
# The same for a post's cover, and how many pixels it may unfold to: a small file can be a very large picture.
MAX_COVER_SIZE = env.int("MAX_COVER_SIZE", default=10 * 1024 * 1024)
MAX_COVER_PIXELS = env.int("MAX_COVER_PIXELS", default=25_000_000)
# Origins, as https://app.example.com, whose scripts may call the API from a browser, by bearer token.
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    # Before all that answers by itself: a browser shows its script no error without these headers.
    MIDDLEWARE.insert(MIDDLEWARE.index("app.http.problems.ProblemMiddleware"), "corsheaders.middleware.CorsMiddleware")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept", "authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "last-event-id",
]  # fmt: skip
CORS_EXPOSE_HEADERS = ["ETag", "Idempotency-Replayed", "Link", "Location", "Retry-After", "WWW-Authenticate"]
# Streams of events that one process has open at most: each holds one of gunicorn's threads; and seconds that one lasts.
EVENT_STREAMS = env.int("EVENT_STREAMS", default=2, least=0)
EVENT_STREAM_LIFETIME = env.float("EVENT_STREAM_LIFETIME", default=30.0, least=1, most=3600)
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
    # By user, or by address where there is none; counted in the cache, so without Redis nobody is held up.
    "DEFAULT_THROTTLE_RATES": {
        "register": env.str("THROTTLE_REGISTER", default="60/hour"),
        "subscribe": env.str("THROTTLE_SUBSCRIBE", default="60/hour"),
        "publish": env.str("THROTTLE_PUBLISH", default="60/hour"),
        "reports": env.str("THROTTLE_REPORTS", default="60/hour"),
        "payments": env.str("THROTTLE_PAYMENTS", default="30/hour"),
        "account": env.str("THROTTLE_ACCOUNT", default="60/hour"),
    },
    # Proxies in front whose X-Forwarded-For is believed; with 0 the address is the connection's.
    "NUM_PROXIES": env.int("NUM_PROXIES", default=0, least=0, most=10),
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
# Counted in Postgres, so also while the cache is away: app/accounts/sign_in/limits.py.
LIMITS = {
    # Attempts to sign in from one address, at any door; and wrong passwords: for one account from one address, for one
    # account from addresses that it has not signed in from, and from one address for whatever account.
    "login": env.str("THROTTLE_LOGIN", default="30/min"),
    "lockout_login": env.str("LOCKOUT_LOGIN", default="10/hour"),
    "lockout_account": env.str("LOCKOUT_ACCOUNT", default="50/hour"),
    "lockout_address": env.str("LOCKOUT_ADDRESS", default="100/hour"),
    # Requests from one address for a link that sets a new password, and mails about accounts to one address.
    "password_reset": env.str("THROTTLE_PASSWORD_RESET", default="20/hour"),
    "account_mail": env.str("THROTTLE_ACCOUNT_MAIL", default="5/hour"),
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
# Who must sign in does so at the admin's page; where Django does not know whither, it leads to a page that is there.
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
# Seconds that the link of a mail is good for: to set a new password, to confirm an address.
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
# Over https alone, where the site is there.
HTTPS = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
TRUST_PROXY = env.bool("TRUST_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000 if HTTPS else 0, least=0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_INCLUDE_SUBDOMAINS", default=HTTPS)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = [
    # app.http.security_headers redirects what came over http to the proxy, and not what comes from within the cluster.
    "security.W008",
    # A domain is put on the browsers' list by its owner, who then sets HSTS_PRELOAD.
    "security.W021",
]

# ---- Mail -----------------------------------------------------------------------------------------------------------
# smtp://, smtp+tls://user:password@host:587, consolemail://, sendgrid://:KEY@, ses://?region=…; none writes files in
# local mode. What is wrong with it is told by a check.
EMAIL_URL = env.str("EMAIL_URL", default="" if LOCAL else "smtp://localhost:25")
EMAIL_BACKEND = "app.mail.send.FileBackend"
EMAIL_FILE_PATH = str(VAR_DIR / "mail")
if EMAIL_URL:
    with suppress(EmailUrlError):
        vars().update(email_settings(EMAIL_URL))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Pressroom <press@example.com>")

# ---- Search ---------------------------------------------------------------------------------------------------------
# http(s)://host:port of a Meilisearch and a key for it; without, Postgres searches.
MEILISEARCH_URL = env.str("MEILISEARCH_URL", default="").rstrip("/")
MEILISEARCH_KEY = env.str("MEILISEARCH_KEY", default="")

# ---- Other services -------------------------------------------------------------------------------------------------
# Networks, as 10.1.0.0/16, that call_external_api may reach though they are not public.
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
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # made sane by our middleware
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
# To ask who it is would ask the database, and outside of what answers for an absent one.
DJANGO_STRUCTLOG_USER_ID_FIELD = ""
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_STATUS_4XX_LOG_LEVEL = logging.INFO
# A line a task, at its end: what is called and what runs stands in the ledger.
DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL = logging.DEBUG

# ---- Metrics --------------------------------------------------------------------------------------------------------
# Where a worker, the relay and gunicorn's master serve /metrics, at all addresses; 0: nowhere.
METRICS_PORT = env.int("METRICS_PORT", default=0, least=0, most=65_535)
if METRICS_PORT:
    MIDDLEWARE.insert(0, "app.observability.web_metrics.MetricsMiddleware")

# ---- Sentry ---------------------------------------------------------------------------------------------------------
SENTRY_DSN = env.str("SENTRY_DSN", default="")
SENTRY_TRACES_SAMPLE_RATE = env.float("SENTRY_TRACES_SAMPLE_RATE", default=0.0, least=0, most=1)
ENVIRONMENT = env.str("ENVIRONMENT", default="local" if LOCAL else "production")
RELEASE = env.str("RELEASE", default="")

# What is wrong with the variables above, a sentence each, and the names of those that are numbers: for the checks.
ENVIRONMENT_ERRORS, ENVIRONMENT_NUMBERS = env.wrong, env.numbers
