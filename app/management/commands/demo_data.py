"""``manage.py demo_data``."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from app.accounts.services import user_make_author
from pressroom.plugins import parts


class Command(BaseCommand):
    help = "Create an admin, an author and the demo data of each app's `demo.py`. Existing data is not created again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="run outside local mode although passwords are public")

    @transaction.atomic
    def handle(self, *args: Any, force: bool = False, **options: Any) -> None:
        if not (settings.LOCAL or force):
            raise CommandError("the passwords of the demo users are public: use --force if you really want them")
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin-demo-1")
        author = users.filter(username="author").first() or users.create_user(
            "author", "author@example.com", "author-demo-1"
        )
        user_make_author(author)
        made = [demo.make(author) for demo in parts("demo", settings.DOMAIN_APPS)]
        self.stdout.write(f"demo data: {', '.join([*made, 'admin/admin-demo-1', 'author/author-demo-1'])}")
