"""Orders, and their payment by Stripe."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    name = "app.payments"
    label = "payments"
