"""Orders in the admin, read-only."""

from django.contrib import admin

from app.payments.models import Order
from pressroom.operations.read_only import ReadOnlyAdmin


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin[Order]):
    list_display = ("id", "owner", "plan", "amount", "currency", "status", "created_at", "paid_at")
    list_filter = ("status", "plan")
    list_select_related = ("owner",)
    search_fields = ("id", "payment_intent")
    show_full_result_count = False
