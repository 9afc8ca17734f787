"""Files that every pod can read: a storage in Postgres, or S3 by setting."""

from django.apps import AppConfig


class FilesConfig(AppConfig):
    name = "app.files"
    label = "files"
