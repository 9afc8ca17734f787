"""Celery's own integration suite, against stock Celery and against ours: `make celery-suite`."""
