"""The settings that describe the API. None of them comes from the environment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def description(domain_apps: Collection[str], static_url: str) -> dict[str, Any]:
    """Return ``SPECTACULAR_SETTINGS`` for a site with these apps and static files below ``static_url``."""
    return {
        "TITLE": "Pressroom",
        "DESCRIPTION": "A publishing backend whose slow work never blocks a request and is never lost.",
        "VERSION": "0.1.0",
        "OAS_VERSION": "3.1.0",
        # Requests and answers get separate schemas, so that neither lists fields of the other.
        "COMPONENT_SPLIT_REQUEST": True,
        "SERVE_INCLUDE_SCHEMA": False,
        "SWAGGER_UI_DIST": "SIDECAR",
        # This is JavaScript. The plugin is in app/static/site/apidocs.js.
        "SWAGGER_UI_SETTINGS": "{deepLinking: true, plugins: [forScreenReaders]}",
        "SWAGGER_UI_FAVICON_HREF": f"/{static_url}site/favicon.svg",
        "REDOC_DIST": "SIDECAR",
        "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "app.http.openapi.add_problems"],
        "ENUM_NAME_OVERRIDES": {
            **({"PostStatusEnum": "app.blog.models.Post.Status"} if "app.blog" in domain_apps else {}),
            "TaskStatusEnum": "pressroom.http.run_filter.STATUSES",
            "KindEnum": "pressroom.models.Target",
        },
    }
