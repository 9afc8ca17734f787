"""File storage that every pod can reach: in Postgres, or in S3 by a setting."""

from django.apps import AppConfig


class FilesConfig(AppConfig):
    name = "app.files"
    label = "files"
