"""Routes. Each app of the site has its own ``urls.py``, with full paths."""

from django.conf import settings
from django.contrib import admin
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView

from app.http.csp import from_here_only
from pressroom.plugins import parts

admin.autodiscover()
admin.site.site_header = admin.site.site_title = "Pressroom"

handler400, handler403 = "app.http.problems.bad_request", "app.http.problems.permission_denied"
handler404, handler500 = "app.http.problems.page_not_found", "app.http.problems.server_error"
urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/operations/", include("pressroom.operations.urls")),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", from_here_only(SpectacularSwaggerSplitView.as_view(url_name="schema")), name="docs"),
    path("api/redoc/", from_here_only(SpectacularRedocView.as_view(url_name="schema")), name="redoc"),
    # Browsers request this for pages that name no icon, for example for JSON.
    path("favicon.ico", RedirectView.as_view(url=static("site/favicon.ico"))),
    path("api/tasks/", include("pressroom.http.urls")),
    path("api/", include("pressroom.http.flow_api")),
    *(path("", include(urls)) for urls in parts("urls", settings.DOMAIN_APPS)),
]
