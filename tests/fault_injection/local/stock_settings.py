"""Django's settings beside stock Celery: the database, for the effects."""

import environ

env = environ.Env()
DATABASES = {"default": {**env.db_url("DATABASE_URL"), "OPTIONS": {"connect_timeout": 5}}}
USE_TZ = True
SECRET_KEY = "signs nothing"
