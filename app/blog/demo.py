"""Demo data: an author's confirmed subscribers and two posts."""

from app.accounts.models import User
from app.blog import search, services
from app.blog.models import Post, audience
from app.blog.subscriptions.services import subscriptions_add

SUBSCRIBERS = 1_000
POSTS = (
    ("Work that is never lost", "A request is answered at once. What is slow is written down first and done after."),
    ("Why the queue is not the truth", "A queue forgets. A table in the same transaction as your data does not."),
)


def make(author: User) -> str:
    """Create what is missing of the demo data. Returns a summary in words."""
    emails = (f"subscriber-{number:04}@example.com" for number in range(1, SUBSCRIBERS + 1))
    subscriptions_add(author=author, emails=emails)
    if not Post.objects.filter(author=author).exists():
        for title, body in POSTS:
            post = services.post_create(author=author, title=title, body=body)
            services.post_publish(post_id=post.pk)
            search.post_reindex(post_id=post.pk)
    return f"{audience(author).count()} subscribers"
