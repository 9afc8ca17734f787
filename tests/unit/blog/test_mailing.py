"""One letter to many, by servers on loopback that speak as the providers' documentation says, and a real SMTP server.

SendGrid: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send, 202 without a body, or errors that
name the field. SES: https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendBulkEmail.html, a status for each.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.mail.bulk import Letter, NoneTaken, Outcome, Recipient, batch_size, send_letter
from app.mail.send import MailPutOff, MailRefused, MailUnavailable, compose, send
from app.mail.url import SES, email_settings
from tests.support.loopback import HANG, Asked, HttpServer, Reply, SmtpServer, http_server, smtp_server


def people(count: int, **addresses: str) -> list[Recipient]:
    """Some recipients; ``p3="…"`` gives the third another address."""
    return [
        Recipient(
            number, addresses.get(f"p{number}", f"p{number}@b.kr"), f"post-7-{number}", f"https://x.kr/unsubscribe/t{number}/"
        )
        for number in range(count)
    ]  # fmt: skip


def letter(title: str = "On {{queues}} & more") -> Letter:
    post = {"title": title, "body": "A queue {{{forgets}}}."}
    return Letter.render("blog/notification", {"post": post, "url": "https://x.kr/posts/q/"})


def sent(*batches: list[Recipient]) -> list[Outcome]:
    return [outcome for outcomes in send_letter(letter(), batches) for outcome in outcomes]


def until_unavailable(*batches: list[Recipient]) -> tuple[list[Outcome], str]:
    """What was told before the server took no more, and what it said then."""
    told: list[Outcome] = []
    try:
        for outcomes in send_letter(letter(), batches):
            told += outcomes
    except MailUnavailable as error:
        return told, str(error)
    raise AssertionError(f"all was taken: {told}")


def verdicts(outcomes: list[Outcome]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.verdict, []).append(outcome.recipient.id)
    return found


def use(settings: Any, url: str) -> None:
    """Mail as EMAIL_URL says."""
    for name, value in email_settings(url).items():
        setattr(settings, name, value)
    settings.DEFAULT_FROM_EMAIL = "신문 <press@x.kr>"


def wait_a_second_for(fault: Reply, settings: Any) -> None:
    """A provider's time-out that a test can wait for, where the fault is a silence."""
    if fault is HANG:
        settings.ANYMAIL |= {"REQUESTS_TIMEOUT": (1, 1)}
        settings.ANYMAIL.get("AMAZON_SES_CLIENT_PARAMS", {}).get("config", {})["read_timeout"] = 1


class TestSendGrid:
    @pytest.fixture
    def server(self, settings: Any) -> Iterator[HttpServer]:
        with http_server(lambda asked: Reply(202)) as server:
            use(settings, f"sendgrid+http://:SG.key@{server.address}")
            yield server

    def test_a_batch_is_one_call_with_each_ones_own_link_and_id(self, server: HttpServer) -> None:
        assert batch_size() == 1000
        outcomes = sent(people(1000), people(2, p1="kim@한국.kr"))
        assert verdicts(outcomes) == {"taken": [*range(1000), 0, 1]}
        first, second = server.asked
        assert (first.method, first.path) == ("POST", "/v3/mail/send")
        assert first.headers["authorization"] == "Bearer SG.key"
        assert first.json["from"] == {"email": "press@x.kr", "name": "신문"}
        assert first.json["headers"] == {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        assert len(first.json["personalizations"]) == 1000
        own = first.json["personalizations"][7]
        assert own["to"] == [{"email": "p7@b.kr"}]
        assert own["headers"] == {
            "List-Unsubscribe": "<https://x.kr/unsubscribe/t7/>",
            "Message-ID": "<post-7-7@x.kr>",
        }
        [(mark, link)] = own["substitutions"].items()
        assert link == "https://x.kr/unsubscribe/t7/"
        contents = {content["type"]: content["value"] for content in first.json["content"]}
        assert all(content.count(mark) == 1 for content in contents.values())
        assert "On {{queues}} & more" in contents["text/plain"]
        # A domain that is not ASCII has its own data too.
        korean = second.json["personalizations"][1]
        assert korean["to"] == [{"email": "kim@xn--3e0b707e.kr"}]
        assert korean["substitutions"]
        assert korean["headers"]["Message-ID"] == "<post-7-1@x.kr>"

    def test_who_is_complained_of_is_left_out_and_the_others_get_theirs(self, server: HttpServer) -> None:
        def answer(asked: Asked) -> Reply:
            bad = [n for n, own in enumerate(asked.json["personalizations"]) if "bad" in own["to"][0]["email"]]
            text = "Does not contain a valid address."
            errors = [{"message": text, "field": f"personalizations.{n}.to.0.email", "help": None} for n in bad[:1]]
            return Reply(400, {"errors": errors}) if bad else Reply(202)

        server.answer = answer
        outcomes = sent(people(5, p1="bad1@b.kr", p3="bad3@b.kr"))
        assert verdicts(outcomes) == {"refused": [1, 3], "taken": [0, 2, 4]}
        assert {outcome.reason for outcome in outcomes} == {"", "Does not contain a valid address."}
        assert len(server.asked) == 3

    def test_an_address_that_is_none_does_not_cost_the_batch(self, server: HttpServer) -> None:
        assert verdicts(sent(people(3, p1="nobody"))) == {"refused": [1], "taken": [0, 2]}
        assert len(server.asked[0].json["personalizations"]) == 2

    @pytest.mark.parametrize(
        "fault",
        [
            Reply(429, {"errors": [{"message": "too many requests"}]}),
            Reply(500),
            Reply(401, {"errors": [{"message": "The provided authorization grant is invalid"}]}),
            Reply(400, {"errors": [{"message": "The from address does not match", "field": "from"}]}),
            Reply(400, {"errors": [{"message": "no", "field": "personalizations.5000.to.0.email"}]}),
            Reply(400),
            HANG,
        ],
        ids=["429", "500", "401", "400 of the sender", "400 of nobody", "400 without a word", "hang"],
    )
    def test_what_was_taken_before_a_fault_is_told_before_it(
        self, server: HttpServer, settings: Any, fault: Reply
    ) -> None:
        wait_a_second_for(fault, settings)
        server.answer = lambda asked: fault if len(server.asked) == 2 else Reply(202)
        told, _ = until_unavailable(people(3), people(2), people(4))
        assert verdicts(told) == {"taken": [0, 1, 2, 0, 1]}

    def test_a_single_mail(self, server: HttpServer) -> None:
        message = compose(template="accounts/welcome", context={}, to="a@b.kr", key="welcome-1")
        send(message)
        assert server.asked[0].json["headers"]["Message-ID"] == "<welcome-1@x.kr>"
        server.answer = lambda asked: Reply(503)
        with pytest.raises(MailUnavailable, match="503"):
            send(message)
        with pytest.raises(MailRefused):
            send(compose(template="accounts/welcome", context={}, to="a@@b.kr", key="welcome-1"))


class TestSES:
    @pytest.fixture
    def server(self, settings: Any) -> Iterator[HttpServer]:
        with http_server(self.results_of()) as server:
            use(settings, f"ses+http://AKIA:secret@{server.address}?region=ap-northeast-2")
            yield server

    @staticmethod
    def results_of(**statuses: str) -> Callable[[Asked], Reply]:
        """An answer with these statuses, by local part; SUCCESS for all others."""

        def answer(asked: Asked) -> Reply:
            results = []
            for entry in asked.json["BulkEmailEntries"]:
                status = statuses.get(entry["Destination"]["ToAddresses"][0].partition("@")[0], "SUCCESS")
                results.append(
                    {"Status": status, "MessageId": "1"} if status == "SUCCESS" else {"Status": status, "Error": "why"}
                )
            return Reply(200, {"BulkEmailEntryResults": results})  # fmt: skip

        return answer

    def test_a_batch_is_one_call_with_each_ones_own_link(self, server: HttpServer) -> None:
        assert batch_size() == 50
        assert verdicts(sent(people(50, p1="kim@한국.kr"))) == {"taken": list(range(50))}
        [asked] = server.asked
        assert (asked.method, asked.path) == ("POST", "/v2/email/outbound-bulk-emails")
        assert "AKIA" in asked.headers["authorization"]
        assert asked.json["FromEmailAddress"] == "=?utf-8?b?7Iug66y4?= <press@x.kr>"
        entry = asked.json["BulkEmailEntries"][7]
        headers = {header["Name"]: header["Value"] for header in entry["ReplacementHeaders"]}
        assert headers["List-Unsubscribe"] == "<https://x.kr/unsubscribe/t7/>"
        assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert json.loads(headers["X-Metadata"]) == {"key": "post-7-7"}
        assert asked.json["BulkEmailEntries"][1]["Destination"]["ToAddresses"] == ["kim@xn--3e0b707e.kr"]
        template = asked.json["DefaultContent"]["Template"]["TemplateContent"]
        data = json.loads(entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"])
        text = handlebars(template["Text"], data)
        assert "On {{queues}} & more" in text
        assert "A queue {{{forgets}}}." in text
        assert "Unsubscribe: https://x.kr/unsubscribe/t7/" in text
        assert handlebars(template["Subject"], data) == "On {{queues}} & more"
        assert '<a href="https://x.kr/unsubscribe/t7/">' in handlebars(template["Html"], data)

    def test_each_ones_status_is_told(self, server: HttpServer) -> None:
        server.answer = self.results_of(p1="MESSAGE_REJECTED", p2="ACCOUNT_THROTTLED", p3="TRANSIENT_FAILURE")
        outcomes = sent(people(5))
        assert verdicts(outcomes) == {"taken": [0, 4], "refused": [1], "put off": [2, 3]}
        assert outcomes[1].reason == "MESSAGE_REJECTED why"

    def test_an_account_that_may_not_send_is_no_fault_of_the_addresses(self, server: HttpServer) -> None:
        server.answer = self.results_of(**{f"p{n}": "ACCOUNT_SENDING_PAUSED" for n in range(50)})
        with pytest.raises(NoneTaken, match="ACCOUNT_SENDING_PAUSED"):
            sent(people(50))

    @pytest.mark.parametrize("status", ["MESSAGE_REJECTED", "TRANSIENT_FAILURE"])
    def test_a_batch_of_which_none_is_taken_is_put_off(self, server: HttpServer, status: str) -> None:
        server.answer = self.results_of(**{f"p{n}": status for n in range(50)})
        told, why = until_unavailable(people(50, p3="nobody"))
        assert verdicts(told) == {"put off": [n for n in range(50) if n != 3], "refused": [3]}
        assert status in why
        told = sent(people(5))
        assert verdicts(told) == {"put off": list(range(5))}

    @pytest.mark.parametrize("address", ["nobody", "\u017f@b.kr", f"a@{'한' * 60}.kr"])
    def test_an_address_that_is_none_does_not_cost_the_batch(self, server: HttpServer, address: str) -> None:
        assert verdicts(sent(people(3, p1=address))) == {"taken": [0, 2], "refused": [1]}
        assert len(server.asked[0].json["BulkEmailEntries"]) == 2
        assert verdicts(sent(people(1, p0=address))) == {"refused": [0]}
        assert len(server.asked) == 1

    @pytest.mark.parametrize(
        "fault",
        [
            Reply(429, {"message": "slow"}, {"x-amzn-ErrorType": "TooManyRequestsException"}),
            Reply(500),
            Reply(400, {"message": "no"}, {"x-amzn-ErrorType": "MailFromDomainNotVerifiedException"}),
            HANG,
        ],
        ids=["429", "500", "400", "hang"],
    )
    def test_a_fault_is_told_after_one_try(self, server: HttpServer, settings: Any, fault: Reply) -> None:
        wait_a_second_for(fault, settings)
        server.answer = lambda asked: fault
        with pytest.raises(MailUnavailable):
            sent(people(3))
        assert len(server.asked) == 1

    def test_without_credentials_it_says_so(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        use(settings, "ses+http://127.0.0.1:9?region=ap-northeast-2")
        assert settings.EMAIL_BACKEND == SES
        with pytest.raises(MailUnavailable, match="credentials"):
            sent(people(1))

    def test_a_single_mail(self, server: HttpServer) -> None:
        server.answer = lambda asked: Reply(200, {"MessageId": "1"})
        send(compose(template="accounts/welcome", context={}, to="a@b.kr", key="welcome-1"))
        assert server.asked[0].path == "/v2/email/outbound-emails"
        server.answer = lambda asked: Reply(500)
        with pytest.raises(MailUnavailable):
            send(compose(template="accounts/welcome", context={}, to="a@b.kr", key="welcome-1"))


def handlebars(template: str, data: dict[str, str]) -> str:
    """What SES makes of a template: names in three braces alone, and no name that is not given."""
    rendered = re.sub(r"\{\{\{(\w+)\}\}\}", lambda found: data[found[1]], template)
    assert not re.search(r"\{\{\{?\w", re.sub(r"\{\{\{(\w+)\}\}\}", "", template))
    return rendered


@contextmanager
def mail_server(settings: Any) -> Iterator[SmtpServer]:
    with smtp_server() as (server, port):
        use(settings, f"smtp://127.0.0.1:{port}")
        yield server


class TestSMTP:
    @pytest.fixture
    def server(self, settings: Any) -> Iterator[SmtpServer]:
        with mail_server(settings) as server:
            yield server

    def test_batches_share_a_connection_and_each_mail_is_whole(self, server: SmtpServer) -> None:
        assert batch_size() == 25
        assert len(sent(people(3), people(2, p1="kim@한국.kr"))) == 5
        assert server.connections == 1
        assert server.recipients() == ["p0@b.kr", "p1@b.kr", "p2@b.kr", "p0@b.kr", "kim@xn--3e0b707e.kr"]
        mail = server.mails[1]
        assert mail["Message-ID"] == "<post-7-1@x.kr>"
        assert mail["List-Unsubscribe"] == "<https://x.kr/unsubscribe/t1/>"
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        text, html = (part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart())
        assert "On {{queues}} & more" in text
        assert "https://x.kr/unsubscribe/t1/" in text
        assert "On {{queues}} &amp; more" in html
        assert "https://x.kr/unsubscribe/t1/" in html

    def test_refused_and_put_off_ones_do_not_keep_the_others_from_theirs(self, server: SmtpServer) -> None:
        server.replies = {"p1@b.kr": "550 5.1.1 no such user", "p2@b.kr": "451 4.7.1 greylisted"}
        server.on_data = {"p3@b.kr": "554 5.7.1 spam", "p4@b.kr": "452 4.2.2 full"}
        outcomes = sent(people(7, p5="nobody"))
        assert verdicts(outcomes) == {"refused": [1, 3, 5], "put off": [2, 4], "taken": [0, 6]}
        reasons = {outcome.recipient.id: outcome.reason for outcome in outcomes}
        assert (reasons[1], reasons[4]) == ("550 5.1.1 no such user", "452 4.2.2 full")

    @pytest.mark.parametrize("where", ["replies", "on_data"])
    @pytest.mark.parametrize("fault", ["drop", "421 4.3.2 shutting down"])
    def test_a_server_that_goes_away_in_the_middle(self, server: SmtpServer, where: str, fault: str) -> None:
        setattr(server, where, {"p2@b.kr": fault})
        told, _ = until_unavailable(people(5))
        assert verdicts(told) == {"taken": [0, 1]}

    @pytest.mark.parametrize("reply", ["554 5.7.1 relay access denied", "450 4.7.1 too fast"])
    def test_a_server_that_takes_none_is_not_asked_for_all(self, server: SmtpServer, reply: str) -> None:
        server.replies = {f"p{number}@b.kr": reply for number in range(100)}
        told, why = until_unavailable(people(100))
        # Not refused: it may be the relay that is set up badly.
        assert verdicts(told) == {"put off": list(range(20))}
        assert reply in why

    def test_refusals_are_believed_once_a_mail_is_taken(self, server: SmtpServer) -> None:
        server.replies = {f"p{number}@b.kr": "550 5.1.1 no such user" for number in (*range(19), 20, 39)}
        outcomes = sent(people(40))
        assert [outcome.recipient.id for outcome in outcomes] == list(range(40))
        assert verdicts(outcomes)["refused"] == [*range(19), 20, 39]
        assert "put off" not in verdicts(outcomes)

    def test_a_short_list_of_whom_none_is_taken_is_put_off(self, server: SmtpServer) -> None:
        server.replies = {f"p{number}@b.kr": "554 5.7.1 relay access denied" for number in range(3)}
        outcomes = sent(people(3, p1="nobody"))
        assert verdicts(outcomes) == {"put off": [0, 2], "refused": [1]}
        assert outcomes[0].reason == "554 5.7.1 relay access denied"

    def test_addresses_that_are_none_say_nothing_of_the_server(self, server: SmtpServer) -> None:
        outcomes = sent(people(30, **{f"p{number}": "nobody" for number in range(29)}))
        assert verdicts(outcomes) == {"refused": list(range(29)), "taken": [29]}

    @pytest.mark.parametrize(
        "address", ["\u017f@b.kr", f"a@{'한' * 60}.kr", "a@\u200d.com"], ids=["local part", "long label", "no letter"]
    )
    def test_an_address_that_no_server_can_be_told_of(self, server: SmtpServer, address: str) -> None:
        outcomes = sent(people(3, p1=address))
        assert verdicts(outcomes) == {"refused": [1], "taken": [0, 2]}
        assert outcomes[1].reason
        assert server.recipients() == ["p0@b.kr", "p2@b.kr"]

    def test_no_server_at_all(self, settings: Any) -> None:
        use(settings, "smtp://127.0.0.1:9")
        with pytest.raises(MailUnavailable):
            sent(people(1))

    @pytest.mark.parametrize(
        ("reply", "error"),
        [("550 no such user", MailRefused), ("450 later", MailPutOff), ("421 closing", MailUnavailable)],
    )
    def test_a_single_mail(self, server: SmtpServer, reply: str, error: type[Exception]) -> None:
        message = compose(template="accounts/welcome", context={}, to="a@b.kr", key="welcome-1")
        send(message)
        assert server.recipients() == ["a@b.kr"]
        server.replies = {"a@b.kr": reply}
        with pytest.raises(error, match=reply):
            send(message)


def test_nobody_can_write_the_mark_into_a_post() -> None:
    assert letter().mark != letter().mark
    assert len(letter().mark) > 32
