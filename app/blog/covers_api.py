"""The API for covers. Authors upload them. Everybody can fetch them, and caches may keep them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser, DataAndFiles, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from app.blog import covers
from app.blog.models import Cover, Post
from app.blog.tasks import resize_cover
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples
from pressroom.http.task_api import POLL_AFTER, CalledTaskSerializer, called_payload, task_example

A_YEAR = 365 * 24 * 3600


def named_by_content(file: File[Any]) -> File[Any]:
    """Name the file by its digest. The original name means nothing, and the digest tells two uploads apart."""
    file.name = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return file


class ImageParser(BaseParser):
    """Parses a body that is the image itself."""

    media_type = "image/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        return {"image": named_by_content(File(io.BytesIO(stream.read())))}


class ImageFormParser(MultiPartParser):
    """Parses a form with exactly one file, whatever the name of its field."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        form: DataAndFiles[Any, Any] = super().parse(stream, media_type, parser_context)
        files = [file for _, several in form.files.lists() for file in several]
        if len(files) != 1:
            raise serializers.ValidationError({"image": f"Send exactly one file, not {len(files)}."})
        return {"image": named_by_content(files[0])}


class ImageSerializer(serializers.Serializer[Any]):
    """A form with the image."""

    image = serializers.FileField()


class CoverActions(viewsets.GenericViewSet[Post]):
    """The actions of the posts' API that concern covers."""

    body_limit: str | None = None

    @extend_schema(
        request={
            **dict.fromkeys(("image/jpeg", "image/png", "image/webp"), OpenApiTypes.BINARY),
            "multipart/form-data": ImageSerializer,
        },
        responses={202: CalledTaskSerializer},
        examples=examples(response=task_example("app.blog.tasks.resize_cover", "default", repeated=False)),
    )
    @action(
        detail=True, methods=["put", "post"], parser_classes=[ImageParser, ImageFormParser], body_limit="MAX_COVER_SIZE"
    )
    @idempotent
    def cover(self, request: Request, pk: str) -> Response:
        """Upload a cover for a post, as JPEG, PNG or WebP. The old cover stays until a task has resized the new one."""
        post = self.get_object()
        # An empty body never reaches the parser.
        image = request.data.get("image") if isinstance(request.data, dict) else None
        if image is None:
            raise serializers.ValidationError({"image": "No image was sent."})
        with transaction.atomic():
            try:
                cover = covers.cover_upload(post=post, file=image)
            except covers.BadImage as error:
                raise serializers.ValidationError({"image": str(error)}) from error
            task = called_payload(resize_cover.delay(cover.pk), request)
        headers = {"Location": task["url"], "Retry-After": str(POLL_AFTER)}
        return Response(task, status=status.HTTP_202_ACCEPTED, headers=headers)

    @extend_schema(request=None, responses={204: None})
    @cover.mapping.delete
    def remove_cover(self, request: Request, pk: str) -> Response:
        """Remove the cover of a post."""
        self.get_object().covers.all().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


def cover_urls(post: Post, request: Request) -> dict[str, str] | None:
    """Return the URLs of the post's cover by width in pixels, or None if it has no cover."""
    cover = post.cover
    return None if cover is None else {str(w): request.build_absolute_uri(url) for w, url in cover.urls().items()}


@require_safe
def cover_file(request: HttpRequest, key: str, width: int) -> FileResponse:
    """Serve one size of a cover. A URL never changes its content, so clients need not fetch it again."""
    cover = Cover.objects.filter(key=key, ready_at__isnull=False).first()
    if cover is None or width not in cover.widths:
        raise Http404
    try:
        file = default_storage.open(cover.file(width))
    except FileNotFoundError as error:
        raise Http404 from error
    response = FileResponse(file, content_type="image/webp")
    response["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
    response["ETag"] = f'"{key}-{width}"'
    return response
