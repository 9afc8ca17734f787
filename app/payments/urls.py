"""Orders, and Stripe's webhook."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.payments.api import OrderViewSet, WebhookView

router = SimpleRouter()
router.register("orders", OrderViewSet, basename="order")

urlpatterns = [*router.urls, path("payments/webhook/", WebhookView.as_view(), name="stripe-webhook")]
