"""The pages that links in mails lead to, and the page that requests a mail to reset the password."""

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
    """Render a page with a title and one message."""
    return render(request, "accounts/message.html", {"title": title, "text": text, **context}, status=status)


def bad_link(request: HttpRequest) -> HttpResponse:
    """Render the answer to a link that has expired, has been used or is not ours."""
    return message(request, "This link is not valid", "It has expired or has been used. Request a new one.", status=400)


def form_page(request: HttpRequest, form: Any, title: str, button: str, text: str = "") -> HttpResponse:
    """Render a form with one button. The status is 400 if the form has errors."""
    context = {"form": form, "title": title, "button": button, "text": text}
    return render(request, "accounts/form.html", context, status=400 if form is not None and form.errors else 200)


@never_cache
@page
def password_forgotten(request: HttpRequest) -> HttpResponse:
    """Ask for an address and mail a link to it. The page does not reveal whether an account has the address."""
    form = AddressForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        text = "We will send you a link to set a new one."
        return form_page(request, form, "Forgot your password?", "Send a link", text)
    ask_for_reset(request, form.cleaned_data["email"])
    return message(
        request, "Check your mail", "If an account has this address, a mail with a link is on its way to it."
    )


@never_cache
@page
def password_reset(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for a new password and set it. Only a POST sets it, because mail scanners follow links."""
    try:
        user, _ = link_read(RESET, token)
        form = SetPasswordForm(user, request.POST or None)
        if request.method == "POST" and form.is_valid():
            set_password(request, token=token, password=form.cleaned_data["new_password1"])
            link: dict[str, Any] = {"link": reverse("admin:login"), "link_text": "Sign in"} if user.is_staff else {}
            text = "You have been signed out everywhere. Sign in with the new password."
            return message(request, "Your password is set", text, **link)
    except BadLink:
        return bad_link(request)
    except ValidationError as error:
        form.add_error("new_password1", error)
    return form_page(request, form, f"Set a new password for {user.username}", "Set password")


@never_cache
@page
def email_confirm(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for confirmation, then take the address. Only a POST confirms it, because mail scanners follow links."""
    try:
        user, claims = link_read(EMAIL, token)
        if request.method == "POST":
            confirm_email(token)
            text = f"{claims['email']} now belongs to {user.username}."
            return message(request, "Your address is confirmed", text)
    except BadLink:
        return bad_link(request)
    except services.AddressTaken:
        return message(request, "This address is taken", "Another account has confirmed it.", status=409)
    text = f"{claims['email']} will become the address of {user.username}."
    return form_page(request, None, "Confirm your address?", "Confirm", text)
