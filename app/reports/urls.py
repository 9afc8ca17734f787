"""Routes under ``/api/reports/``."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from app.reports.api import ReportDownloadView, ReportViewSet

router = SimpleRouter()
router.register("", ReportViewSet, basename="report")

urlpatterns = [
    path("download/<str:token>/", ReportDownloadView.as_view(), name="report-download"),
    *router.urls,
]
