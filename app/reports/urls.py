"""Routes under ``/api/reports/``."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.reports.api import ReportDownloadView, ReportViewSet

router = SimpleRouter()
router.register("api/reports", ReportViewSet, basename="report")

urlpatterns = [
    path("api/reports/download/<str:token>/", ReportDownloadView.as_view(), name="report-download"),
    *router.urls,
]
