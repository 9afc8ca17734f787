"""Posts, covers, subscribers, subscriptions, deliveries and views."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse


class Post(models.Model):
    """An article. Only its author sees it until it is published."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        PUBLISHED = "published"

    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="posts")
    title = models.CharField(max_length=200)
    slug = models.SlugField(max_length=80, unique=True, allow_unicode=True)
    body = models.TextField()
    status = models.TextField(choices=Status.choices, default=Status.DRAFT)
    published_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    search = SearchVectorField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            GinIndex(fields=["search"], name="post_search"),
            models.Index(fields=["-published_at"], name="post_published", condition=Q(status="published")),
            models.Index(fields=["author", "-published_at"], name="post_of_author", condition=Q(status="published")),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("post-page", kwargs={"slug": self.slug})

    @property
    def cover(self) -> Cover | None:
        """The newest cover that has been resized. One query, or no query if ``covers`` are prefetched."""
        return next((cover for cover in self.covers.all() if cover.ready_at), None)

    @property
    def cover_upload(self) -> Cover | None:
        """The newest cover, if it is not resized yet or could not be."""
        newest = next(iter(self.covers.all()), None)
        return newest if newest is not None and newest.ready_at is None else None


def cover_key() -> str:
    """Return 128 random bits in hex, so that nobody can guess the URL of a draft's cover."""
    return secrets.token_hex(16)


class Cover(models.Model):
    """An image for a post. The original is stored until the sizes have been made; from then on only the sizes are."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="covers")
    key = models.CharField(max_length=32, unique=True, default=cover_key, editable=False)
    original = models.TextField(default="", help_text="Its name in the storage, while it is there.")
    widths = ArrayField(models.PositiveIntegerField(), default=list, help_text="Of the sizes, in pixels.")
    ready_at = models.DateTimeField(null=True)
    failure = models.TextField(default="", help_text="Why its sizes were not made.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"of {self.post_id}"

    def file(self, width: int) -> str:
        """Return the name of a size in the storage."""
        return f"covers/{self.key}/{width}.webp"

    def files(self) -> list[str]:
        """Return the names of all files of this cover in the storage."""
        return [name for name in (self.original, *map(self.file, self.widths)) if name]

    def urls(self) -> dict[int, str]:
        """Return the paths of the sizes by width, smallest first."""
        return {width: reverse("cover", args=[self.key, width]) for width in self.widths}

    @property
    def largest(self) -> str:
        return self.urls()[max(self.widths)]

    @property
    def srcset(self) -> str:
        return ", ".join(f"{url} {width}w" for width, url in self.urls().items())


def unsubscribe_token() -> str:
    """Return 256 random bits as text. Whoever has the token may end the subscription."""
    return secrets.token_urlsafe(32)


class Subscriber(models.Model):
    """An address to which authors' new posts may be mailed. Its subscriptions say whose."""

    email = models.EmailField()
    active = models.BooleanField(default=True, help_text="Whether any mail about posts goes to it.")
    switched_off = models.TextField(default="", db_default="", blank=True, help_text="Why it is not active.")
    refusals = models.PositiveSmallIntegerField(
        default=0, db_default=0, editable=False, help_text="Posts in a row whose mail was refused for good."
    )
    token = models.CharField(
        max_length=64, unique=True, default=unsubscribe_token, editable=False, help_text="Ends all its subscriptions."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(Lower("email"), name="subscriber_email_unique")]
        # Rows are inserted in the order of time, so a BRIN index finds the few pages that belong to a period.
        indexes = [BrinIndex(fields=["created_at"], name="subscriber_created", autosummarize=True)]

    def __str__(self) -> str:
        return self.email


class Subscription(models.Model):
    """An address's subscription to an author. ``audience`` says which ones count.

    The row stays when the subscription ends, so that old links in mails still lead somewhere. Times are the database's.
    """

    # The index of the constraint serves lookups by author.
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subscriptions_to", db_index=False
    )
    subscriber = models.ForeignKey(Subscriber, on_delete=models.CASCADE, related_name="subscriptions")
    token = models.CharField(
        max_length=64, unique=True, default=unsubscribe_token, editable=False, help_text="Ends this subscription."
    )
    asked_at = models.DateTimeField(null=True, help_text="When the last mail with a link to confirm was asked for.")
    confirmed_at = models.DateTimeField(null=True, help_text="When the address last confirmed; null before that.")
    unsubscribed_at = models.DateTimeField(null=True, help_text="When the address unsubscribed; null while it has not.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["author", "subscriber"], name="subscription_once")]
        indexes = [
            # A mailing walks through it by ranges of subscriber ids.
            models.Index(
                fields=["author", "subscriber"],
                name="subscription_audience",
                condition=Q(confirmed_at__isnull=False, unsubscribed_at__isnull=True),
            ),
            # The nightly clean-up deletes the oldest of these.
            models.Index(
                fields=["created_at"], name="subscription_unconfirmed", condition=Q(confirmed_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscriber_id} to {self.author_id}"


def counting() -> models.QuerySet[Subscription]:
    """Return the subscriptions that count: confirmed and not unsubscribed, with an active address."""
    return Subscription.objects.filter(
        confirmed_at__isnull=False, unsubscribed_at__isnull=True, subscriber__active=True
    )


def audience(author: Any) -> models.QuerySet[Subscription]:
    """Return the subscriptions to the author, a user or its id, that count: those to which new posts are mailed."""
    return counting().filter(author=author)


def subscribers_confirmed() -> models.QuerySet[Subscriber]:
    """Return the addresses that are or were subscribed to an author. The others have confirmed nothing yet.

    An address without a confirmed subscription that is not active was subscribed before subscriptions had authors.
    """
    confirmed = Subscription.objects.filter(subscriber=models.OuterRef("pk"), confirmed_at__isnull=False)
    return Subscriber.objects.filter(models.Exists(confirmed) | Q(active=False))


class Delivery(models.Model):
    """The record that a mail about a post was accepted or refused, written as soon as the mail server has answered."""

    # The index of the constraint serves lookups by post. Another index would cost a million writes a post.
    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    subscriber = models.ForeignKey(Subscriber, on_delete=models.CASCADE, related_name="deliveries")
    refused = models.TextField(default="", help_text="What the mail server said, where it refused the address.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["post", "subscriber"], name="delivery_once")]
        indexes = [BrinIndex(fields=["at"], name="delivery_at", autosummarize=True)]

    def __str__(self) -> str:
        return f"{self.post_id} to {self.subscriber_id}"


class Notification(models.Model):
    """The progress of the mailing about a post. The mailing's own run writes it; the chunks write rows of their own."""

    post = models.OneToOneField(Post, on_delete=models.CASCADE, primary_key=True, related_name="notification")
    task = models.TextField(default="", db_default="", help_text="Celery id of the run that plans the mailing.")
    total = models.PositiveIntegerField(help_text="Subscribers when it began.")
    told = models.PositiveIntegerField(default=0, help_text="Deliveries, refused ones included.")
    position = models.BigIntegerField(default=0, help_text="Subscribers up to this id are in a chunk.")
    rounds = models.PositiveSmallIntegerField(default=0, help_text="How often those put off were tried again.")
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)
    failure = models.TextField(default="", help_text="Why it stopped before everybody was told.")

    def __str__(self) -> str:
        return f"{self.post_id}: {self.told} of {self.total}"

    @property
    def status(self) -> str:
        """Whether the mailing is running, has stopped, or is done."""
        if self.failure:
            return "stopped"
        return "running" if self.ended_at is None else "done"


class NotificationChunk(models.Model):
    """A part of a mailing: the subscribers with ids from ``first`` to ``last``. One task mails them."""

    class Status(models.TextChoices):
        WAITING = "waiting"
        """To be called again."""
        CALLED = "called"
        """Its task has not ended."""
        PUT_OFF = "put off"
        """Mails of it were put off and wait for the next round."""
        FAILED = "failed"
        DONE = "done"

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    status = models.TextField(choices=Status.choices, default=Status.CALLED)
    task = models.TextField(help_text="Celery id of the task that mails it. No other one may.")
    position = models.BigIntegerField(help_text="Subscribers up to this id have had their turn in this round.")
    told = models.PositiveIntegerField(default=0, help_text="Deliveries, refused ones included.")
    put_off = models.PositiveIntegerField(default=0, help_text="Mails put off in this round.")
    failure = models.TextField(default="", help_text="Why it was not mailed completely.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["post", "first"], name="notificationchunk_once")]
        indexes = [models.Index(fields=["post"], name="notificationchunk_called", condition=Q(status="called"))]

    def __str__(self) -> str:
        return f"{self.post_id}, {self.first} to {self.last}: {self.status}"


class MailOutage(models.Model):
    """That the mail server accepts nothing from mailings. At most one row, and none while the server accepts mail."""

    failures = models.PositiveIntegerField(help_text="Attempts in a row after which nothing was accepted.")
    since = models.DateTimeField(help_text="When the first of them failed.")
    paused_at = models.DateTimeField(help_text="When the pause began. Attempts from before do not make it longer.")
    retry_at = models.DateTimeField(help_text="No mailing asks the server before then.")
    reason = models.TextField()

    def __str__(self) -> str:
        return f"{self.failures} failures: {self.reason}"


class View(models.Model):
    """A reading of a post. Within a minute or so it is counted into DailyViews and deleted.

    The table is unlogged: it writes no write-ahead log, so it is cheap, and it is empty after a crash of Postgres.
    """

    post = models.ForeignKey(Post, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.post_id} at {self.at}"


class DailyViews(models.Model):
    """The number of readings of a post on a day, in the time zone of the settings."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="daily_views", db_index=False)
    day = models.DateField()
    views = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "daily views"
        constraints = [models.UniqueConstraint(fields=["post", "day"], name="daily_views_once")]
        indexes = [models.Index(fields=["day"], name="daily_views_day")]

    def __str__(self) -> str:
        return f"{self.post_id} on {self.day}: {self.views}"
