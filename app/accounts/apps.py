"""Accounts: registration, sign-in and the mails about them."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "app.accounts"
    label = "accounts"

    def ready(self) -> None:
        from django.core import checks

        from app.accounts.checks import names_alike

        checks.register(names_alike, checks.Tags.database)
