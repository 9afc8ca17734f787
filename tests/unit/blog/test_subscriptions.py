"""Subscribing to an author: asking, confirming, unsubscribing, by the API and by the pages, and odd ways to do so."""

import json
import re
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings as site
from django.core import mail
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework.throttling import ScopedRateThrottle

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.blog import changes, services, tasks
from app.blog.models import Delivery, Post, Subscriber, Subscription, audience
from app.blog.subscriptions.services import subscriptions_add, unconfirmed_cleanup
from app.erasure import erase
from pressroom.models import TaskRun
from tests.support.ledger_rows import change_run
from tests.support.waiting import until
from tests.unit.blog import mailing

pytestmark = pytest.mark.django_db
API = "/api/subscriptions/"
ME = "reader@example.com"


def mail_post(post: Post) -> int:
    """Execute what waits, empty the outbox, and mail the post. Returns how many subscribers the mailing reached."""
    mailing.work_to_the_end()
    mail.outbox.clear()
    run = mailing.start(post)
    mailing.work_to_the_end()
    run.refresh_from_db()
    return int(run.result)


@pytest.fixture
def kim(author: User) -> User:
    return writer("kim")


@pytest.fixture
def lee(author: User) -> User:
    return writer("lee")


def writer(name: str) -> User:
    """An author with a published post."""
    user = User.objects.create_user(name, f"{name}@example.com", "a-long-passphrase-1")
    user_make_author(user)
    with transaction.atomic():
        services.post_publish(post_id=services.post_create(author=user, title=f"By {name}", body="b").pk)
    return user


def ask(author: str = "kim", email: str = ME, **headers: str) -> Any:
    return APIClient().post(API, {"author": author, "email": email}, **headers)


def work() -> list[str]:
    """Do what a worker would with each waiting mail. Returns the links in the mails that went out, with addresses."""
    sent = len(mail.outbox)
    for run in TaskRun.objects.filter(status="queued", name="app.blog.tasks.send_confirmation_email").order_by("id"):
        args, kwargs = run.arguments
        tasks.send_confirmation_email.apply(args=args, kwargs=kwargs, task_id=str(run.pk)).get()
        change_run(run.pk, status="succeeded")
    bodies = [str(message.body) for message in mail.outbox[sent:]]
    return [link for body in bodies for link in re.findall(rf"{re.escape(site.SITE_URL)}(/\S+/)", body)]


def confirmed(author: str = "kim", email: str = ME) -> Subscription:
    """Subscribe as a reader does."""
    assert ask(author, email).status_code == 202
    [link] = work()
    assert Client().post(link).status_code == 200
    return audience(User.objects.get(username=author)).get(subscriber__email=email.lower())


def later(hours: float) -> Any:
    """Move all times in the database back."""
    for name in ("asked_at", "confirmed_at", "unsubscribed_at", "created_at"):
        for one in Subscription.objects.exclude(**{name: None}):
            Subscription.objects.filter(pk=one.pk).update(**{name: getattr(one, name) - timedelta(hours=hours)})
    for who in Subscriber.objects.all():
        Subscriber.objects.filter(pk=who.pk).update(created_at=who.created_at - timedelta(hours=hours))


class TestAsking:
    def test_counts_once_the_address_has_confirmed(self, kim: User) -> None:
        assert ask().status_code == 202
        assert not audience(kim).exists()
        [link] = work()
        [sent] = mail.outbox
        assert (sent.to, sent.subject) == ([ME], "Confirm your subscription to kim")
        page = Client().get(link)
        assert (page.status_code, b"Subscribe to kim?" in page.content) == (200, True)
        assert "no-store" in page["Cache-Control"]
        assert not audience(kim).exists(), "a mail scanner's GET does not confirm"
        assert b"You are subscribed" in Client().post(link).content
        assert audience(kim).get().subscriber.email == ME

    def test_by_the_page_leads_to_one_that_can_be_loaded_again(self, kim: User, client: Client) -> None:
        page = client.get("/authors/kim/").content.decode()
        assert 'action="/authors/kim/subscribe/"' in page
        answer = client.post("/authors/kim/subscribe/", {"email": " Reader@Example.com "})
        assert (answer.status_code, answer["Location"]) == (302, "/subscribe/done/")
        assert client.get(answer["Location"]).status_code == 200
        assert len(work()) == 1
        assert mail.outbox[0].to == [ME]

    def test_the_answer_does_not_tell_who_is_known(self, kim: User, lee: User, client: Client, settings: Any) -> None:
        """Neither by what it says nor by what it takes: status, headers, body, statements and tasks are the same."""
        settings.LIMITS = settings.LIMITS | {"subscription_mail": "1/hour"}
        confirmed()
        ask("lee", "often@example.com")
        work()
        Subscriber.objects.create(email="off@example.com", active=False, switched_off="It refused 3 posts.")
        told, costs = [], []
        for email in (ME, "off@example.com", "often@example.com", "new@example.com", "new@example.com"):
            with CaptureQueriesContext(connection) as queries:
                answer = ask(email=email)
            page = client.post("/authors/kim/subscribe/", {"email": email})
            told.append([(one.status_code, one.content, *others(one)) for one in (answer, page)])
            costs.append([query["sql"].split("(")[0].split()[:3] for query in queries])
        assert all(one == told[0] for one in told)
        assert all(cost == costs[0] for cost in costs)
        runs = TaskRun.objects.filter(name__endswith="send_confirmation_email", status="queued")
        assert runs.count() == 2 * len(told), "each request called the task"
        assert ME not in str([run.arguments for run in runs])

    def test_one_mail_for_each_address_and_author_in_24_hours(self, kim: User, lee: User) -> None:
        for email in (ME, ME, "Reader@EXAMPLE.com", "other@example.com"):
            ask(email=email)
        assert len(work()) == 2
        ask("lee")
        assert len(work()) == 1
        later(23.9)
        ask()
        assert work() == []
        later(0.2)
        ask()
        ask()
        assert len(work()) == 1
        assert Subscriber.objects.count() == 2

    def test_at_the_same_time_is_one_mail(self, transactional_db: None) -> None:
        writer("kim")
        start, failed = threading.Barrier(4), []

        def request() -> None:
            try:
                start.wait()
                if ask().status_code != 202:
                    failed.append("refused")
            finally:
                connections.close_all()

        threads = [threading.Thread(target=request) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: not any(thread.is_alive() for thread in threads), "all have asked")
        assert not failed
        assert (Subscriber.objects.count(), Subscription.objects.count()) == (1, 1)
        assert len(work()) == 1

    def test_a_task_that_runs_twice_or_late_sends_the_same_mail_or_none(self, kim: User) -> None:
        ask()
        run = TaskRun.objects.get(name__endswith="send_confirmation_email")
        args, _ = run.arguments
        for _ in range(2):
            assert tasks.send_confirmation_email.apply(args=args).get() is True
        first, second = mail.outbox
        assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"]
        later(25)
        ask()
        assert tasks.send_confirmation_email.apply(args=args).get() is False, "another mail was asked for since"

    def test_of_too_many_authors_for_one_address_sends_no_mail_and_does_not_tell(
        self, kim: User, lee: User, settings: Any
    ) -> None:
        settings.LIMITS = settings.LIMITS | {"subscription_mail": "1/hour"}
        first = ask()
        assert len(work()) == 1
        for email in (ME, ME.upper(), ME):
            again = ask("lee", email)
            assert (again.status_code, again.content) == (first.status_code, first.content)
        page = Client().post("/authors/lee/subscribe/", {"email": ME})
        assert (page.status_code, page["Location"]) == (302, "/subscribe/done/")
        assert work() == [], "the limit of the address"
        ask("lee", "other@example.com")
        ask()
        assert len(work()) == 1, "another address, and the same author again"
        later(1.1)
        ask("lee")
        assert len(work()) == 1

    def test_too_often_from_one_client_is_429(self, kim: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"subscribe": "2/hour"})
        answers = [ask(email=f"s{number}@example.com").status_code for number in range(3)]
        assert answers == [202, 202, 429]
        page = Client().post("/authors/kim/subscribe/", {"email": "s3@example.com"})
        assert page.status_code == 429
        assert 0 < int(page["Retry-After"]) <= 3600
        assert b"Too many subscriptions" in page.content
        assert Subscriber.objects.count() == 2

    def test_works_without_redis(self, kim: User, redis_server: Any) -> None:
        redis_server.stop()
        assert Client().post("/authors/kim/subscribe/", {"email": ME}).status_code == 302

    def test_with_a_key_is_repeated(self, kim: User) -> None:
        first, second = (ask(HTTP_IDEMPOTENCY_KEY="k") for _ in range(2))
        assert first.json() == second.json()
        assert second["Idempotency-Replayed"] == "true"
        assert TaskRun.objects.filter(name__endswith="send_confirmation_email").count() == 1

    def test_an_expired_sign_in_does_not_matter(self, kim: User) -> None:
        assert ask(HTTP_AUTHORIZATION="Bearer expired").status_code == 202

    def test_another_sites_form_is_refused(self, kim: User) -> None:
        answer = Client(enforce_csrf_checks=True).post("/authors/kim/subscribe/", {"email": ME})
        assert answer.status_code == 403
        assert b"The form has expired" in answer.content
        assert not Subscriber.objects.exists()

    @pytest.mark.parametrize(
        "email",
        ["", " ", "kim", "kim@", "a@b.kr\x00", "a@b.kr\nBcc: x@y.kr", "\ud800@b.kr", "a" * 300 + "@b.kr", "a b@c.kr",
         f"a@{'İ' * 60}.{'İ' * 60}.{'İ' * 60}.kr"],
    )  # fmt: skip
    def test_an_address_that_is_none_is_said_beside_the_field(self, kim: User, client: Client, email: str) -> None:
        body = b"email=" + email.encode("utf-8", "surrogatepass")
        answer = client.post("/authors/kim/subscribe/", body, content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 400
        page = answer.content.decode()
        assert 'aria-invalid="true"' in page
        assert re.search(r'<p id="email-note" class="note error" role="alert">[^<]+</p>', page)
        assert not Subscriber.objects.exists()

    def test_an_author_is_who_has_published(self, author: User, kim: User, reader: User, draft: Post) -> None:
        """A user without posts has no page, so that nobody can find out who has an account."""
        for name in ("author", "reader", "nobody", "KIM", "\x00", "x" * 500):
            assert ask(name).status_code == 400, name
            for path in ("", "subscribe/", "feed/"):
                url = f"/authors/{name}/{path}".replace("\x00", "%00")
                assert Client(raise_request_exception=False).get(url).status_code == 404, (name, path)
        User.objects.filter(pk=kim.pk).update(is_active=False)
        assert ask().status_code == 400

    def test_an_author_may_subscribe_to_herself(self, kim: User) -> None:
        assert confirmed("kim", "kim@example.com").subscriber.email == kim.email


def others(answer: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.items() if name != "X-Request-ID"]


class TestConfirming:
    def test_twice_is_once(self, kim: User) -> None:
        ask()
        [link] = work()
        for _ in range(2):
            assert b"You are subscribed" in Client().post(link).content
        assert audience(kim).count() == 1

    @pytest.mark.parametrize("unsubscribes", ["before", "after", "all"])
    def test_a_link_from_before_does_not_undo_unsubscribing(self, kim: User, unsubscribes: str) -> None:
        ask()
        [link] = work()
        if unsubscribes == "after":
            Client().post(link)
        one = Subscription.objects.get()
        token = one.subscriber.token if unsubscribes == "all" else one.token
        assert Client().post(f"/unsubscribe/{token}/").status_code == 200
        for answer in (Client().get(link), Client().post(link)):
            assert (answer.status_code, b"This link is not valid" in answer.content) == (400, True)
        assert not audience(kim).exists()

    def test_who_left_comes_back_by_a_new_link(self, kim: User) -> None:
        token = confirmed().token
        Client().post(f"/unsubscribe/{token}/")
        later(25)
        assert confirmed().token == token
        ask()
        later(25)
        ask()
        assert work() == [], "who is subscribed gets no mail"

    def test_who_left_today_comes_back_by_the_page(self, kim: User) -> None:
        url = f"/unsubscribe/{confirmed().token}/"
        assert b'name="again"' in Client().post(url).content
        assert b"You are subscribed again" in Client().post(url, {"again": "1"}).content
        assert audience(kim).exists()

    def test_who_never_confirmed_does_not_come_back_by_the_page(self, kim: User) -> None:
        ask()
        url = f"/unsubscribe/{Subscription.objects.get().token}/"
        assert b'name="again"' not in Client().post(url).content
        Client().post(url, {"again": "1"})
        assert not audience(kim).exists()
        assert Client().post("/unsubscribe/guessed/", {"again": "1"}).status_code == 404

    def test_switches_an_address_on_again(self, kim: User, lee: User) -> None:
        confirmed("lee")
        Subscriber.objects.update(active=False, switched_off="It refused 3 posts in a row.", refusals=3)
        one = confirmed().subscriber
        assert (one.active, one.switched_off, one.refusals) == (True, "", 0)
        assert audience(lee).exists(), "it had not left this one"

    @pytest.mark.parametrize("meanwhile", ["time", "secret", "erased", "inactive", "address", "another author's"])
    def test_a_link_ends_with_what_it_was_made_for(self, kim: User, lee: User, settings: Any, meanwhile: str) -> None:
        ask()
        [link] = work()
        now = timezone.now()
        if meanwhile == "time":
            now += timedelta(seconds=settings.EMAIL_LINK_TIMEOUT + 1)
        elif meanwhile == "secret":
            settings.SECRET_KEY = "another"
        elif meanwhile == "erased":
            erase(kim)
        elif meanwhile == "inactive":
            User.objects.filter(pk=kim.pk).update(is_active=False)
        elif meanwhile == "address":
            Subscriber.objects.all().delete()
        else:
            ask("lee")
            [other] = work()
            # The signature of the one under the claims of the other.
            link = "/subscribe/confirm/" + ":".join(
                [*link.split("/")[3].split(":")[:2], other.split("/")[3].split(":")[2]]
            )
            link += "/"
        with time_machine.travel(now, tick=True):
            for answer in (Client().get(link), Client().post(link)):
                assert (answer.status_code, b"This link is not valid" in answer.content) == (400, True)
        assert not Subscription.objects.exclude(confirmed_at=None).exists()

    @pytest.mark.parametrize(
        "token", ["x", "a:b:c", "é", "\u202e", ":" * 50, "a" * 2_000, "{}", "null", "%00", "%ED%A0%80"]
    )
    def test_what_is_no_link_gets_a_page_that_says_so(self, client: Client, token: str) -> None:
        for path, status in (("subscribe/confirm", 400), ("unsubscribe", 404)):
            for answer in (client.get(f"/{path}/{token}/"), client.post(f"/{path}/{token}/")):
                assert answer.status_code == status
                assert b"This link is not valid" in answer.content

    def test_another_sites_form_does_not_confirm(self, kim: User) -> None:
        ask()
        [link] = work()
        assert Client(enforce_csrf_checks=True).post(link).status_code == 403
        assert not audience(kim).exists()


class TestUnsubscribing:
    def test_from_one_author_by_one_click(self, kim: User, lee: User) -> None:
        """As a mail program does: RFC 8058."""
        token = confirmed().token
        confirmed("lee")
        asked = Client().get(f"/unsubscribe/{token}/")
        assert b"Unsubscribe from kim?" in asked.content
        assert audience(kim).exists(), "following the link ends nothing"
        body = "List-Unsubscribe=One-Click"
        client = Client(enforce_csrf_checks=True)
        for _ in range(2):
            answer = client.post(f"/unsubscribe/{token}/", body, content_type="application/x-www-form-urlencoded")
            assert (answer.status_code, b"You are unsubscribed" in answer.content) == (200, True)
        assert (audience(kim).count(), audience(lee).count()) == (0, 1)
        assert b"You are unsubscribed" in Client().get(f"/unsubscribe/{token}/").content

    @pytest.mark.parametrize("by", ["page", "address"])
    def test_from_all(self, kim: User, lee: User, by: str) -> None:
        one = confirmed()
        confirmed("lee")
        confirmed("lee", "other@example.com")
        if by == "page":
            assert b'name="all"' in Client().get(f"/unsubscribe/{one.token}/").content
            answer = Client().post(f"/unsubscribe/{one.token}/", {"all": "1"})
        else:
            assert b"Unsubscribe from all authors?" in Client().get(f"/unsubscribe/{one.subscriber.token}/").content
            answer = Client().post(f"/unsubscribe/{one.subscriber.token}/")
        assert b"any more mail about new posts" in answer.content
        assert (audience(kim).count(), audience(lee).count()) == (0, 1)

    @pytest.mark.django_db(transaction=True)
    def test_the_links_of_a_mail_end_this_authors_alone(self, kim: User, lee: User) -> None:
        confirmed()
        confirmed("lee")
        mail_post(Post.objects.get(author=kim))
        headers = mail.outbox[-1].extra_headers
        link = headers["List-Unsubscribe"].strip("<>").removeprefix(site.SITE_URL)
        Client().post(link, {"List-Unsubscribe": "One-Click"})
        assert (audience(kim).count(), audience(lee).count()) == (0, 1)

    def test_an_author_who_is_gone_leaves_a_clear_page(self, kim: User) -> None:
        token = confirmed().token
        erase(kim)
        assert not Subscription.objects.exists()
        answer = Client().post(f"/unsubscribe/{token}/")
        assert (answer.status_code, b"the subscription no longer exists" in answer.content) == (404, True)

    def test_the_token_is_not_logged(self, kim: User, lines: Any) -> None:
        ask()
        links = [*work(), f"/unsubscribe/{Subscription.objects.get().token}/"]
        for link in links:
            assert Client().get(link).status_code == 200
        told = lines()
        assert [line["request"] for line in told if line["event"] == "request_finished"][-2:] == [
            "GET /subscribe/confirm/***/", "GET /unsubscribe/***/",
        ]  # fmt: skip
        assert not [link for link in links if link.split("/")[-2] in json.dumps(told)]


class TestWhoIsMailed:
    """The table of cases: two authors, overlapping audiences, and what takes an address out of one."""

    CASES = [
        # address, what it did with kim and with lee, and whose posts come to it
        ("both@example.com", ("confirmed", "confirmed"), {"kim", "lee"}),
        ("kims@example.com", ("confirmed", ""), {"kim"}),
        ("lees@example.com", ("", "confirmed"), {"lee"}),
        ("nobodys@example.com", ("", ""), set()),
        ("asked@example.com", ("asked", "asked"), set()),
        ("half@example.com", ("asked", "confirmed"), {"lee"}),
        ("left@example.com", ("left", "confirmed"), {"lee"}),
        ("left-all@example.com", ("confirmed", "left all"), set()),
        ("left-unasked@example.com", ("asked left", "asked"), set()),
        ("back@example.com", ("left back", ""), {"kim"}),
        ("off@example.com", ("confirmed", "confirmed off"), set()),
        ("off-and-on@example.com", ("confirmed off on", ""), {"kim"}),
        ("twice@example.com", ("confirmed confirmed", "confirmed"), {"kim", "lee"}),
        ("Case@Example.COM", ("confirmed", "left"), {"kim"}),
        ("kim@example.com", ("confirmed", ""), {"kim"}),
        ("kim@example.com", ("", "confirmed"), {"kim", "lee"}),
    ]

    @staticmethod
    def act(author: str, email: str, steps: Iterable[str]) -> None:
        for step in steps:
            mine = Subscription.objects.filter(author__username=author, subscriber__email=email.lower())
            if step in ("asked", "confirmed", "left", "on"):
                ask(author, email)
                for link in work():
                    if step != "asked":
                        Client().post(link)
            if step == "left":
                Client().post(f"/unsubscribe/{mine.get().token}/")
            elif step == "all":
                Client().post(f"/unsubscribe/{mine.get().token}/", {"all": "1"})
            elif step == "back":
                Client().post(f"/unsubscribe/{mine.get().token}/", {"again": "1"})
            elif step == "off":
                Subscriber.objects.filter(email=email.lower()).update(active=False, switched_off="It refused.")
                later(25)

    @pytest.mark.django_db(transaction=True)
    def test_each_mail_goes_exactly_to_whom_it_should(
        self, kim: User, lee: User, settings: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"subscribe": "1000/hour"})
        for email, steps, _ in self.CASES:
            for author, what in zip(("kim", "lee"), steps, strict=True):
                self.act(author, email, what.split())
        wanted: dict[str, set[str]] = {}
        for email, _, whose in self.CASES:
            wanted[email.lower()] = whose
        for author in (kim, lee):
            expected = sorted(email for email, whose in wanted.items() if author.username in whose)
            assert mail_post(Post.objects.get(author=author)) == len(expected)
            assert sorted(message.to[0] for message in mail.outbox) == expected
            assert all(f"subscribed to {author.username} at" in str(message.body) for message in mail.outbox)


class TestAuthorsView:
    def test_her_count_and_pages_are_hers_alone(self, kim: User, lee: User, reader: User) -> None:
        subscriptions_add(author=kim, emails=(f"s{number}@example.com" for number in range(45)))
        subscriptions_add(author=lee, emails=["s1@example.com", "lees@example.com"])
        ask("kim", "unconfirmed@example.com")
        Client().post(f"/unsubscribe/{audience(kim).get(subscriber__email='s44@example.com').token}/")
        seen, url = [], f"{API}?page_size=20"
        client = APIClient()
        client.force_authenticate(kim)
        assert client.get(f"{API}count/").json() == {"count": 44}
        while url:
            page = client.get(url).json()
            assert len(page["results"]) <= 20
            seen += page["results"]
            url = page["next"]
        assert [row["email"] for row in seen] == [f"s{number}@example.com" for number in reversed(range(44))]
        assert {row["author"] for row in seen} == {"kim"}
        assert all(row["confirmed_at"] for row in seen)
        assert "token" not in json.dumps(seen)
        assert client.get(f"{API}?author=lee").json()["results"] == []
        client.force_authenticate(reader)
        assert client.get(API).json()["results"] == []
        assert client.get(f"{API}count/").json() == {"count": 0}


class TestAuthorsPages:
    def test_have_her_posts_page_by_page(self, author: User, kim: User) -> None:
        for number in range(45):
            services.post_publish(post_id=services.post_create(author=author, title=f"No. {number}", body="b").pk)
        Post.objects.filter(author=author).update(published_at=timezone.now())
        url, found, pages = "/authors/author/", [], 0
        while url:
            page = Client().get(url).content.decode()
            found += re.findall(r">No\. (\d+)</a>", page)
            more = re.search(r'<a href="(\?before=\d+)" rel="next">', page)
            url, pages = f"/authors/author/{more[1]}" if more else "", pages + 1
        assert (pages, found) == (3, [str(number) for number in reversed(range(45))])
        other = Post.objects.get(author=kim).pk
        for before in ("x", "-1", "", "9" * 30, "1", "%00", "１", other):
            assert Client().get(f"/authors/author/?before={before}").status_code == 404, before

    def test_are_listed_by_name(self, kim: User, reader: User, draft: Post) -> None:
        for number in range(60):
            writer(f"writer-{number:02}")
        first = Client().get("/authors/").content.decode()
        assert re.findall(r'rel="author">(\S+?)</a>', first)[:2] == ["kim", "writer-00"]
        more = re.search(r'<a href="(\?after=[^"]+)" rel="next">', first)
        assert more is not None
        second = Client().get(f"/authors/{more[1]}").content.decode()
        names = re.findall(r'rel="author">(\S+?)</a>', first + second)
        assert names == ["kim", *(f"writer-{number:02}" for number in range(60))]
        for after in ("%00", "%07"):
            assert Client().get(f"/authors/?after={after}").status_code == 404

    def test_feed_and_sitemap_know_them(self, kim: User, lee: User) -> None:
        feed = Client().get("/authors/kim/feed/")
        assert feed["Content-Type"].startswith("application/rss+xml")
        assert b"By kim" in feed.content
        assert b"By lee" not in feed.content
        assert f"<link>{site.SITE_URL}/authors/kim/</link>".encode() in feed.content
        assert f"{site.SITE_URL}/authors/lee/".encode() in Client().get("/sitemap.xml").content
        for url in ("/", Post.objects.get(author=kim).get_absolute_url()):
            assert b'href="/authors/kim/"' in Client().get(url).content

    @pytest.mark.parametrize("name", ["a/b", "feed", "a b", "김", "a.b@c+d-e_f", "x/feed", "?", "#%25", "."])
    def test_may_have_any_name(self, name: str) -> None:
        """A program that makes users asks no form what a name may be."""
        user = User.objects.create_user(name, "odd@example.com")
        services.post_publish(post_id=services.post_create(author=user, title="Odd", body="b").pk)
        assert Client().get("/").status_code == 200
        assert Client().get("/authors/").status_code == 200
        assert Client().get("/sitemap.xml").status_code == 200
        assert ask(name).status_code == 202
        assert len(work()) == 1


class TestErasureAndCleanUp:
    def test_of_an_author_ends_the_subscriptions_to_her(self, kim: User, lee: User) -> None:
        confirmed()
        confirmed("lee")
        erase(kim)
        assert [one.author for one in Subscription.objects.all()] == [lee]

    def test_of_a_reader_takes_the_address_with_all_of_it(self, kim: User, reader: User) -> None:
        confirmed()
        User.objects.filter(pk=reader.pk).update(email_verified_at=timezone.now())
        erase(User.objects.get(pk=reader.pk))
        assert not Subscriber.objects.exists()
        assert not Subscription.objects.exists()

    def test_what_nobody_confirmed_goes_after_30_days(self, kim: User, lee: User) -> None:
        confirmed("lee", "half@example.com")
        for email in ("half@example.com", "never@example.com", "late@example.com"):
            ask(email=email)
        mailed = Subscriber.objects.create(email="mailed@example.com")
        Delivery.objects.create(post=Post.objects.get(author=kim), subscriber=mailed)
        Subscriber.objects.create(email="old@example.com", active=False, switched_off="It unsubscribed.")
        Subscriber.objects.create(email="orphan@example.com")
        assert unconfirmed_cleanup(seconds=60) is None
        assert (Subscriber.objects.count(), Subscription.objects.count()) == (6, 4)
        later(31 * 24)
        ask(email="late@example.com")
        for _ in range(2):
            assert unconfirmed_cleanup(seconds=60) is None
        assert set(Subscriber.objects.values_list("email", flat=True)) == {
            f"{name}@example.com" for name in ("half", "late", "mailed", "old")
        }
        assert {(one.author.username, one.subscriber.email) for one in Subscription.objects.all()} == {
            ("lee", "half@example.com"), ("kim", "late@example.com"),
        }  # fmt: skip

    def test_out_of_turn_the_clean_up_goes_on_where_it_stopped(self, kim: User) -> None:
        for number in range(3):
            ask(email=f"s{number}@example.com")
        later(31 * 24)
        after, turns = 0, 0
        while (position := unconfirmed_cleanup(after=after, seconds=0)) is not None:
            after, turns = position, turns + 1
            assert turns < 1000
        assert not Subscriber.objects.exists()

    def test_by_the_task(self, kim: User) -> None:
        ask()
        later(31 * 24)
        tasks.cleanup_unconfirmed.apply().get()
        assert not Subscriber.objects.exists()


def test_the_form_of_the_home_page_is_the_only_authors(kim: User) -> None:
    assert b'action="/authors/kim/subscribe/"' in Client().get("/").content
    writer("lee")
    page = Client().get("/").content
    assert b"<form" not in page
    assert b"Choose an author" in page


def test_a_deactivated_author_keeps_posts_but_takes_no_subscriptions(kim: User) -> None:
    User.objects.filter(pk=kim.pk).update(is_active=False)
    for url in ("/", Post.objects.get().get_absolute_url()):
        page = Client().get(url).content
        assert b"kim" in page
        assert b"/authors/kim/" not in page


def test_changes_in_a_transaction_that_is_undone_ask_nobody(kim: User) -> None:
    def fail() -> None:
        with transaction.atomic():
            changes.subscribe(author=kim, email=ME)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not Subscriber.objects.exists()
    assert not TaskRun.objects.exists()
