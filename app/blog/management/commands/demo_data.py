"""``manage.py demo_data``."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from app.blog import search, services
from app.blog.models import Subscriber

SUBSCRIBERS = 1_000
POSTS = (
    ("Work that is never lost", "A request is answered at once. What is slow is written down first and done after."),
    ("Why the queue is not the truth", "A queue forgets. A table in the same transaction as your data does not."),
)


class Command(BaseCommand):
    help = "An admin, an author, 1,000 subscribers and two posts to try things with. Does nothing twice."

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
        Subscriber.objects.bulk_create(
            [Subscriber(email=f"subscriber-{number:04}@example.com") for number in range(1, SUBSCRIBERS + 1)],
            ignore_conflicts=True,
        )
        if not author.posts.exists():
            for title, body in POSTS:
                post = services.post_create(author=author, title=title, body=body)
                services.post_publish(post_id=post.pk)
                search.post_reindex(post_id=post.pk)
        self.stdout.write(
            f"demo data: {Subscriber.objects.count()} subscribers, admin/admin-demo-1, author/author-demo-1"
        )
