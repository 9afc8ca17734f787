"""Posts, and the people who are told of them."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    name = "app.blog"
    label = "blog"
