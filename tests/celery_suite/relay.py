"""The relay, which knows the suite's tasks as it knows those of the site."""

from django.core.management import execute_from_command_line

from tests.celery_suite.apps import build

if __name__ == "__main__":
    build()
    execute_from_command_line(["manage.py", "relay"])
