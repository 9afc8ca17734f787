"""Routes of orders and of Stripe's webhook."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.payments.api import OrderViewSet, WebhookView

router = SimpleRouter()
router.register("api/orders", OrderViewSet, basename="order")

urlpatterns = [*router.urls, path("api/payments/webhook/", WebhookView.as_view(), name="stripe-webhook")]
