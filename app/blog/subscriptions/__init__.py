"""Subscriptions of addresses to authors, without HTTP and Celery. ``app/blog/readers/`` has their API and pages."""

from app.blog.subscriptions.services import subscriptions_add

__all__ = ["subscriptions_add"]
