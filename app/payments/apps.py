"""Payments: orders and their payment through Stripe."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    name = "app.payments"
    label = "payments"
