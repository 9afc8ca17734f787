"""The pages on which a reader subscribes to an author, confirms, and unsubscribes."""

from __future__ import annotations

from math import ceil
from types import SimpleNamespace

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe
from rest_framework.throttling import ScopedRateThrottle

from app.blog import changes
from app.blog.models import Subscriber, Subscription
from app.blog.readers.author_pages import author_or_404
from app.blog.subscriptions.form import SubscribeForm
from app.blog.subscriptions.links import BadLink, confirmation_read
from app.blog.subscriptions.services import (
    subscription_confirm,
    subscription_end,
    subscription_resume,
    token_find,
)
from pressroom.text import is_carried

page = require_http_methods(["GET", "HEAD", "POST"])


@page
def subscribe(request: HttpRequest, username: str) -> HttpResponse:
    """Show and process the form to subscribe to an author.

    As in the API, requests are limited by client, mails by address, and the answer reveals nothing about an address.
    """
    author = author_or_404(username)
    form = SubscribeForm(request.POST if request.method == "POST" else None)
    status, wait = 200, 0.0
    if form.is_bound:
        throttle = ScopedRateThrottle()
        if not throttle.allow_request(request, SimpleNamespace(throttle_scope="subscribe")):  # type: ignore[arg-type]
            form.add_error("email", "Too many subscriptions from your network. Try again later.")
            status, wait = 429, throttle.wait() or 60
        elif form.is_valid():
            changes.subscribe(author=author, email=form.cleaned_data["email"])
            return redirect("subscribed")
        else:
            status = 400
    response = render(request, "blog/subscribe.html", {"author": author, "form": form}, status=status)
    if wait:
        response["Retry-After"] = str(ceil(wait))
    return response


@require_safe
def subscribed(request: HttpRequest) -> HttpResponse:
    """The page after subscribing. The form redirects here, so that a reload does not submit it again."""
    return render(request, "blog/subscribed.html")


@never_cache
@page
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm a subscription on POST. A GET only asks, because mail scanners follow links."""
    is_done = request.method == "POST"
    try:
        subscription = subscription_confirm(token=token) if is_done else confirmation_read(token)
    except BadLink:
        return render(request, "blog/confirm.html", {"is_bad": True}, status=400)
    return render(request, "blog/confirm.html", {"done": is_done, "subscription": subscription})


@csrf_exempt  # Mail programs post here without a CSRF token (RFC 8058). The URL's token authorizes the request.
@never_cache
@page
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """End a subscription on POST, or all of the address. A GET only asks, because mail scanners follow links.

    A POST without fields of the page's forms, as from a mail program, ends what the token is for.
    """
    found = token_find(token) if is_carried(token) else None
    if found is None:
        return render(request, "blog/unsubscribe.html", {"is_bad": True}, status=404)
    done = ""
    if request.method == "POST":
        if "again" in request.POST:
            done = "again" if subscription_resume(token=token) else ""
        else:
            everywhere = "all" in request.POST or isinstance(found, Subscriber)
            subscription_end(token=token, everywhere=everywhere)
            done = "all" if everywhere else "one"
    elif isinstance(found, Subscription):
        done = "one" if found.unsubscribed_at else ""
    elif not found.subscriptions.filter(unsubscribed_at=None).exists():
        done = "all"
    is_one = isinstance(found, Subscription)
    subscriber = found.subscriber if isinstance(found, Subscription) else found
    context = {"done": done, "subscription": found if is_one else None, "subscriber": subscriber}
    return render(request, "blog/unsubscribe.html", context)
