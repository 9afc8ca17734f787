"""Posts, subscribers, and who was told of what."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse


class Post(models.Model):
    """An article: its author's alone until it is published."""

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
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("post-page", kwargs={"slug": self.slug})


def unsubscribe_token() -> str:
    """256 random bits: who has it may end the subscription."""
    return secrets.token_urlsafe(32)


class Subscriber(models.Model):
    """An address that wants to be told of new posts, until it says stop."""

    email = models.EmailField()
    active = models.BooleanField(default=True)
    token = models.CharField(max_length=64, unique=True, default=unsubscribe_token, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(Lower("email"), name="subscriber_email_unique")]

    def __str__(self) -> str:
        return self.email


class Delivery(models.Model):
    """A subscriber was told of a post: recorded as soon as the mail server has taken the mail, or refused it."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="deliveries")
    subscriber = models.ForeignKey(Subscriber, on_delete=models.CASCADE, related_name="deliveries")
    refused = models.TextField(default="", help_text="What the mail server said, where it refused the address.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["post", "subscriber"], name="delivery_once")]

    def __str__(self) -> str:
        return f"{self.post_id} to {self.subscriber_id}"
