"""Subscriptions of addresses to authors, without HTTP and Celery. ``app/blog/readers/`` has their API and pages."""
