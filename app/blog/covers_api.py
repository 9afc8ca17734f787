"""A post's cover over HTTP: uploaded by its author, served to everybody for ever."""

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
from pressroom.http.task_api import POLL_AFTER, TaskRunSerializer, run_payloads, task_example

A_YEAR = 365 * 24 * 3600


def named_by_content(file: File[Any]) -> File[Any]:
    """The file under its digest: what it was called says nothing, and two requests differ by what they bring."""
    file.name = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return file


class ImageParser(BaseParser):
    """A body that is the picture itself."""

    media_type = "image/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        return {"image": named_by_content(File(io.BytesIO(stream.read())))}


class ImageFormParser(MultiPartParser):
    """A form whose one file is the picture, whatever its field's name."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        form: DataAndFiles[Any, Any] = super().parse(stream, media_type, parser_context)
        files = [file for _, several in form.files.lists() for file in several]
        if len(files) != 1:
            raise serializers.ValidationError({"image": f"One file is wanted, not {len(files)}."})
        return {"image": named_by_content(files[0])}


class ImageSerializer(serializers.Serializer[Any]):
    """For the description of a form."""

    image = serializers.FileField()


class CoverActions(viewsets.GenericViewSet[Post]):
    """The part of the posts' API that is about covers."""

    body_limit: str | None = None

    @extend_schema(
        request={
            **dict.fromkeys(("image/jpeg", "image/png", "image/webp"), OpenApiTypes.BINARY),
            "multipart/form-data": ImageSerializer,
        },
        responses={202: TaskRunSerializer},
        examples=examples(response=task_example("app.blog.tasks.resize_cover", "default")),
    )
    @action(
        detail=True, methods=["put", "post"], parser_classes=[ImageParser, ImageFormParser], body_limit="MAX_COVER_SIZE"
    )
    @idempotent
    def cover(self, request: Request, pk: str) -> Response:
        """Give a post its cover: a JPEG, PNG or WebP. Its sizes are made by the task; until then the old one stays."""
        post = self.get_object()
        # Of a body without content there is nothing to parse.
        image = request.data.get("image") if isinstance(request.data, dict) else None
        if image is None:
            raise serializers.ValidationError({"image": "There is none."})
        with transaction.atomic():
            try:
                cover = covers.cover_upload(post=post, file=image)
            except covers.BadImage as error:
                raise serializers.ValidationError({"image": str(error)}) from error
            [task] = run_payloads([resize_cover.delay(cover.pk)], request)
        headers = {"Location": task["url"], "Retry-After": str(POLL_AFTER)}
        return Response(task, status=status.HTTP_202_ACCEPTED, headers=headers)

    @extend_schema(request=None, responses={204: None})
    @cover.mapping.delete
    def remove_cover(self, request: Request, pk: str) -> Response:
        """Take a post's cover away."""
        self.get_object().covers.all().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


def cover_urls(post: Post, request: Request) -> dict[str, str] | None:
    """Addresses of the post's cover by width in pixels; None where it has none."""
    cover = post.cover
    return None if cover is None else {str(w): request.build_absolute_uri(url) for w, url in cover.urls().items()}


@require_safe
def cover_file(request: HttpRequest, key: str, width: int) -> FileResponse:
    """A size of a cover. Another picture has another address, so whoever has this one need not ask again."""
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
