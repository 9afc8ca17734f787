"""Django's settings beside stock Celery: the database, for the callers' transactions."""

import environ

DATABASES = {"default": environ.Env().db_url("DATABASE_URL")}
USE_TZ = True
SECRET_KEY = "signs nothing"
