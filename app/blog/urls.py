"""The API's posts and subscriptions, and the public pages."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.blog import pages
from app.blog.api import PostViewSet, SubscribeView

router = SimpleRouter()
router.register("api/posts", PostViewSet, basename="post")

urlpatterns = [
    *router.urls,
    path("api/subscriptions/", SubscribeView.as_view(), name="subscriptions"),
    path("", pages.home, name="home"),
    path("posts/<str:slug>/", pages.post_page, name="post-page"),
    path("feed/", pages.feed, name="feed"),
    path("sitemap.xml", pages.sitemap, name="sitemap"),
    path("unsubscribe/<str:token>/", pages.unsubscribe, name="unsubscribe"),
]
