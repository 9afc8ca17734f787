"""``manage.py demo_data``."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from app.accounts.services import user_make_author
from pressroom.plugins import parts


class Command(BaseCommand):
    help = "An admin, an author, and what each app's `demo.py` makes for them, to try things with. Does nothing twice."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="outside local mode, too: the passwords are public")

    @transaction.atomic
    def handle(self, *args: Any, force: bool = False, **options: Any) -> None:
        if not (settings.LOCAL or force):
            raise CommandError("demo users have passwords that everybody knows: --force if you mean it")
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin-demo-1")
        author = users.filter(username="author").first() or users.create_user(
            "author", "author@example.com", "author-demo-1"
        )
        user_make_author(author)
        made = [demo.make(author) for demo in parts("demo", settings.DOMAIN_APPS)]
        self.stdout.write(f"demo data: {', '.join([*made, 'admin/admin-demo-1', 'author/author-demo-1'])}")
