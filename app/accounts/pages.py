"""The pages that the mails' links lead to, and the one that asks for such a mail."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from app.accounts import services
from app.accounts.actions import ask_for_reset, confirm_email, set_password
from app.accounts.links import EMAIL, RESET, BadLink, link_read

page = require_http_methods(["GET", "HEAD", "POST"])


class AddressForm(forms.Form):
    """An e-mail address."""

    email = forms.EmailField(
        label="E-mail address", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )


def message(request: HttpRequest, title: str, text: str, *, status: int = 200, **context: str) -> HttpResponse:
    """A page that says one thing."""
    return render(request, "accounts/message.html", {"title": title, "text": text, **context}, status=status)


def bad_link(request: HttpRequest) -> HttpResponse:
    """Too old, used, or no link of ours."""
    return message(
        request, "This link is not valid", "It is too old, or was used: have a new one mailed to you.", status=400
    )


def form_page(request: HttpRequest, form: Any, title: str, button: str, text: str = "") -> HttpResponse:
    """A form of one button; 400 where it was filled in wrong."""
    context = {"form": form, "title": title, "button": button, "text": text}
    return render(request, "accounts/form.html", context, status=400 if form is not None and form.errors else 200)


@never_cache
@page
def password_forgotten(request: HttpRequest) -> HttpResponse:
    """Ask for an address, and mail it a link. The answer does not tell whether the address is known."""
    form = AddressForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return form_page(request, form, "Forgot your password?", "Send a link", "A link to set a new one is mailed.")
    ask_for_reset(request, form.cleaned_data["email"])
    return message(request, "Look into your mail", "If this address is known, a mail with a link is on its way to it.")


@never_cache
@page
def password_reset(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for a new password, and set it: by POST, for mail scanners follow links."""
    try:
        user, _ = link_read(RESET, token)
        form = SetPasswordForm(user, request.POST or None)
        if request.method == "POST" and form.is_valid():
            set_password(request, token=token, password=form.cleaned_data["new_password1"])
            link: dict[str, Any] = {"link": reverse("admin:login"), "link_text": "Sign in"} if user.is_staff else {}
            text = "You have been signed out everywhere: sign in with the new one."
            return message(request, "Your password is set", text, **link)
    except BadLink:
        return bad_link(request)
    except ValidationError as error:
        form.add_error("new_password1", error)
    return form_page(request, form, f"Set a new password for {user.username}", "Set password")


@never_cache
@page
def email_confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether, and take the address as the account's: by POST, for mail scanners follow links."""
    try:
        user, claims = link_read(EMAIL, token)
        if request.method == "POST":
            confirm_email(token)
            return message(request, "Your address is confirmed", f"{claims['email']} belongs to {user.username}.")
    except BadLink:
        return bad_link(request)
    except services.AddressTaken:
        return message(request, "This address is taken", "Another account has confirmed it.", status=409)
    text = f"{claims['email']} becomes the address of {user.username}."
    return form_page(request, None, "Confirm your address?", "Confirm", text)
