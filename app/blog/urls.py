"""Routes of the posts and subscriptions API, and of the public pages."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.blog import author_pages, pages
from app.blog.api import PostViewSet
from app.blog.cover_images.covers_api import cover_file
from app.blog.subscribing import subscription_pages
from app.blog.subscribing.subscriptions_api import SubscriptionViewSet

router = SimpleRouter()
router.register("api/posts", PostViewSet, basename="post")
router.register("api/subscriptions", SubscriptionViewSet, basename="subscription")

urlpatterns = [
    *router.urls,
    path("", pages.home, name="home"),
    path("posts/<str:slug>/", pages.post_page, name="post-page"),
    path("covers/<slug:key>/<int:width>.webp", cover_file, name="cover"),
    path("feed/", pages.feed, name="feed"),
    path("sitemap.xml", pages.sitemap, name="sitemap"),
    path("robots.txt", pages.robots, name="robots"),
    path("authors/", author_pages.author_list, name="authors"),
    # A name may contain anything, if a program has made the user.
    path("authors/<path:username>/feed/", author_pages.AuthorFeed(), name="author-feed"),
    path("authors/<path:username>/subscribe/", subscription_pages.subscribe, name="subscribe"),
    path("authors/<path:username>/", author_pages.author_page, name="author"),
    path("subscribe/done/", subscription_pages.subscribed, name="subscribed"),
    path("subscribe/confirm/<str:token>/", subscription_pages.confirm, name="confirm-subscription"),
    path("unsubscribe/<str:token>/", subscription_pages.unsubscribe, name="unsubscribe"),
]
