"""The form to subscribe, which several pages show."""

from __future__ import annotations

from django import forms

from app.blog.subscriptions import folded


class SubscribeForm(forms.Form):
    """The address to send new posts to."""

    email = forms.EmailField(
        max_length=254,
        error_messages={"required": "Enter your e-mail address.", "invalid": "Enter a valid e-mail address."},
        widget=forms.EmailInput(attrs={"autocomplete": "email", "aria-describedby": "email-note"}),
    )

    def clean_email(self) -> str:
        return folded(self.cleaned_data["email"])
