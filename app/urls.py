"""Routes. Each app of the domain keeps its own in ``urls.py``, with its whole paths."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView

from app.apidocs import from_here_only
from app.parts import parts

admin.autodiscover()
admin.site.site_header = admin.site.site_title = "Pressroom"

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/operations/", include("app.operations.urls")),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", from_here_only(SpectacularSwaggerView.as_view(url_name="schema")), name="docs"),
    path("api/redoc/", from_here_only(SpectacularRedocView.as_view(url_name="schema")), name="redoc"),
    path("api/tasks/", include("app.taskruns.urls")),
    *(path("", include(urls)) for urls in parts("urls", settings.DOMAIN_APPS)),
]
