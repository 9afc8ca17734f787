"""Django's settings for the peers: the database alone. What Pressroom loads besides is not theirs to pay for."""

import environ

env = environ.Env()
DATABASES = {"default": {**env.db_url("DATABASE_URL"), "CONN_MAX_AGE": 60}}
INSTALLED_APPS: list[str] = []
USE_TZ = True
SECRET_KEY = "signs nothing"  # noqa: S105
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
