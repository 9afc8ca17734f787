"""Routes of the posts and subscriptions API, and of the public pages."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.blog import pages
from app.blog.api import PostViewSet, SubscribeView
from app.blog.covers_api import cover_file

router = SimpleRouter()
router.register("api/posts", PostViewSet, basename="post")

urlpatterns = [
    *router.urls,
    path("api/subscriptions/", SubscribeView.as_view(), name="subscriptions"),
    path("", pages.home, name="home"),
    path("posts/<str:slug>/", pages.post_page, name="post-page"),
    path("covers/<slug:key>/<int:width>.webp", cover_file, name="cover"),
    path("feed/", pages.feed, name="feed"),
    path("sitemap.xml", pages.sitemap, name="sitemap"),
    path("robots.txt", pages.robots, name="robots"),
    path("subscribe/", pages.subscribe, name="subscribe"),
    path("subscribe/done/", pages.subscribed, name="subscribed"),
    path("unsubscribe/<str:token>/", pages.unsubscribe, name="unsubscribe"),
]
