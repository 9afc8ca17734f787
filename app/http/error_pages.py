"""Error pages for people. They need only their template: no session and no database."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

TEXTS = {
    400: ("This request is not valid", "Check the address, or go back, reload the page and try again."),
    403: ("You may not see this page", "Your account does not have permission to see it. Another account may."),
    404: ("Page not found", "There is no page at this address. It may have been removed."),
    405: ("This page does not accept this kind of request", "Follow a link to it instead."),
    413: ("That was too large", "What you sent is larger than the site accepts."),
    429: ("Too many requests", "Wait a few minutes, then try again."),
    500: ("Something went wrong", "The error is in the site's log. Try again in a few minutes."),
    503: ("Back in a moment", "The site cannot reach its database. Try again in a few seconds."),
}
"""Heading and text of the page, by status."""
EXPIRED_FORM = (
    "The form has expired",
    "Go back, reload the page and submit the form again. Your browser must accept cookies from this site.",
)


def wants_page(request: HttpRequest) -> bool:
    """Whether the client prefers HTML to JSON or accepts both equally. Browsers and clients without Accept do."""
    offered = ["text/html", "application/problem+json", "application/json"]
    return request.get_preferred_type(offered) in (None, "text/html")


def error_page(status: int, text: tuple[str, str] | None = None) -> HttpResponse:
    """Render the page for a status. ``text`` replaces the usual heading and sentence."""
    phrase = HTTPStatus(status).phrase
    heading, sentence = text or TEXTS.get(status, (phrase, HTTPStatus(status).description or phrase))
    context = {"status": status, "heading": heading, "text": sentence}
    return HttpResponse(render_to_string("site/error.html", context), status=status)
