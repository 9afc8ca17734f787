"""``manage.py relay``, without the guard that ODD_PROBE names."""

import django
from django.core.management import execute_from_command_line

from tests.odd.probe import install

if __name__ == "__main__":
    django.setup()
    install()
    execute_from_command_line(["manage.py", "relay"])
