"""``manage.py queues``."""

from typing import Any

from django.core.management.base import BaseCommand

from pressroom.conf import declared_queues
from pressroom.queues import as_values


class Command(BaseCommand):
    help = "Prints the queues of the setting TASKRUNS_QUEUES as values of the Helm chart, for `helm install -f`."
    # It reads one setting, so it also runs where an image is built, without a database.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(as_values(declared_queues().values()), ending="")
