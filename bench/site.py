"""``gunicorn bench.site``: the site, except that a new post starts a durable task in its transaction."""

from django.conf import settings

settings.ROOT_URLCONF = __name__

from app.wsgi import application  # noqa: E402 - this loads Django, which must know the routes below

__all__ = ["application", "urlpatterns"]

from django.db import transaction  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.serializers import BaseSerializer  # noqa: E402

from app.blog.api import PostViewSet  # noqa: E402
from app.blog.models import Post  # noqa: E402
from app.urls import urlpatterns as of_the_site  # noqa: E402
from bench.measure import PAYLOAD  # noqa: E402
from bench.peers.ours import durable  # noqa: E402


class PostsWithTask(PostViewSet):
    """The site's view, with a task for each new post."""

    def perform_create(self, serializer: BaseSerializer[Post]) -> None:
        with transaction.atomic():
            super().perform_create(serializer)
            assert serializer.instance is not None
            durable.delay(serializer.instance.pk, PAYLOAD)


urlpatterns = [path("api/posts/", PostsWithTask.as_view({"get": "list", "post": "create"})), *of_the_site]
