"""The blog: posts and their subscribers."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    name = "app.blog"
    label = "blog"

    def ready(self) -> None:
        from app.blog.models import Cover
        from app.files.tasks import files_go_with

        files_go_with(Cover, Cover.files)
