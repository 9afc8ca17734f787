"""Pressroom: a publishing backend whose slow work never blocks a request and is never lost."""

from app.celery import app as celery_app

__all__ = ["celery_app"]
