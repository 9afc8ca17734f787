"""Posts, publication, feed and sitemap."""

from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import services
from app.blog.models import Post
from pressroom.models import TaskRun

pytestmark = pytest.mark.django_db


class TestPosts:
    def test_are_made_as_drafts_of_who_makes_them(self, as_author: APIClient) -> None:
        answer = as_author.post("/api/posts/", {"title": "안녕 World", "body": "…", "status": "published"})
        assert answer.status_code == 201
        assert (answer.json()["status"], answer.json()["author"]) == ("draft", "author")
        assert answer.json()["slug"] == "안녕-world"

    def test_two_of_one_title_have_two_slugs(self, as_author: APIClient) -> None:
        slugs = {as_author.post("/api/posts/", {"title": "!", "body": "…"}).json()["slug"] for _ in range(3)}
        assert len(slugs) == 3

    def test_drafts_are_their_authors_alone(self, draft: Post, as_author: APIClient, as_reader: APIClient) -> None:
        url = f"/api/posts/{draft.pk}/"
        assert as_author.get(url).status_code == 200
        for client in (as_reader, APIClient()):
            assert client.get(url).status_code == 404
            assert client.get("/api/posts/").json()["results"] == []
        for method in ("put", "patch", "delete"):
            assert getattr(as_reader, method)(url, {"title": "mine"}).status_code == 404
        assert as_reader.post(f"{url}publish/").status_code == 404
        assert APIClient().get(draft.get_absolute_url()).status_code == 404

    def test_published_ones_are_read_by_all_and_changed_by_their_author(
        self, published: Post, as_author: APIClient, as_reader: APIClient
    ) -> None:
        url = f"/api/posts/{published.pk}/"
        assert APIClient().get(url).status_code == 200
        assert as_reader.patch(url, {"title": "mine"}).status_code == 403
        assert as_reader.delete(url).status_code == 403
        assert APIClient().patch(url, {"title": "mine"}).status_code == 401
        assert as_author.patch(url, {"title": "New"}).json()["title"] == "New"
        assert as_author.delete(url).status_code == 204

    def test_pages_follow_a_cursor(self, author: User, anonymous: APIClient) -> None:
        for number in range(5):
            services.post_publish(post_id=services.post_create(author=author, title=f"{number}", body="…").pk)
        first = anonymous.get("/api/posts/?page_size=3").json()
        second = anonymous.get(first["next"]).json()
        assert [post["title"] for post in first["results"] + second["results"]] == ["4", "3", "2", "1", "0"]
        assert anonymous.get("/api/posts/?cursor=nonsense").status_code == 404

    def test_their_page_shows_text_not_markup(self, published: Post, anonymous: APIClient) -> None:
        page = anonymous.get(published.get_absolute_url()).content.decode()
        assert "On &lt;b&gt;queues&lt;/b&gt;" in page


class TestPublish:
    def test_answers_with_its_three_tasks(self, draft: Post, author: User, as_author: APIClient) -> None:
        answer = as_author.post(f"/api/posts/{draft.pk}/publish/")
        assert answer.status_code == 200
        assert answer.json()["status"] == "published"
        tasks = {task["name"].rpartition(".")[2]: task for task in answer.json()["tasks"]}
        assert {name: task["queue"] for name, task in tasks.items()} == {
            "notify_subscribers": "emails",
            "reindex_post": "default",
            "invalidate_caches": "default",
        }
        assert {run.owner for run in TaskRun.objects.all()} == {author}
        assert as_author.get(tasks["reindex_post"]["url"]).json()["status"] == "queued"

    def test_tells_slack_where_there_is_one(self, draft: Post, as_author: APIClient, settings: Any) -> None:
        settings.SLACK_WEBHOOK_URL = "https://hooks.example/1"
        answer = as_author.post(f"/api/posts/{draft.pk}/publish/")
        runs = TaskRun.objects.filter(name="app.integrations.tasks.notify_slack")
        assert runs.count() == apps.is_installed("app.integrations")
        for run in runs:
            assert run.arguments == ([f"{draft.title} http://127.0.0.1:8000{draft.get_absolute_url()}"], {})
            assert str(run.pk) in [task["id"] for task in answer.json()["tasks"]]

    def test_a_second_time_starts_nothing(self, draft: Post, as_author: APIClient) -> None:
        for expected in (3, 0):
            answer = as_author.post(f"/api/posts/{draft.pk}/publish/")
            assert answer.status_code == 200
            assert len(answer.json()["tasks"]) == expected
        assert TaskRun.objects.count() == 3


class TestFeedAndSitemap:
    @pytest.mark.parametrize(("url", "key"), [("/feed/", "rss:feed"), ("/sitemap.xml", "sitemap:posts")])
    def test_are_cached_until_invalidated(self, published: Post, anonymous: APIClient, url: str, key: str) -> None:
        link = f"http://127.0.0.1:8000{published.get_absolute_url()}".encode()
        first = anonymous.get(url)
        assert link in first.content
        assert cache.get(key) == first.content
        Post.objects.all().delete()
        assert anonymous.get(url).content == first.content
        services.caches_invalidate()
        assert link not in anonymous.get(url).content

    def test_work_without_redis(self, published: Post, anonymous: APIClient, redis_server: Any) -> None:
        redis_server.stop()
        assert anonymous.get("/feed/").status_code == 200
        assert anonymous.get("/sitemap.xml").status_code == 200

    def test_drafts_are_in_neither(self, draft: Post, anonymous: APIClient) -> None:
        assert draft.slug.encode() not in anonymous.get("/feed/").content + anonymous.get("/sitemap.xml").content
