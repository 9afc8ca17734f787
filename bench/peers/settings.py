"""Django settings for the peers: only a database, so that they do not pay for what Pressroom loads."""

import environ

env = environ.Env()
DATABASES = {"default": {**env.db_url("DATABASE_URL"), "CONN_MAX_AGE": 60}}
INSTALLED_APPS: list[str] = []
USE_TZ = True
SECRET_KEY = "signs nothing"  # noqa: S105
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
