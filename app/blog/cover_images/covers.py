"""Cover images of posts: validation and resizing. This module knows neither HTTP nor Celery."""

from __future__ import annotations

import io
import struct
import zlib
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from PIL import Image, ImageOps

from app.blog.models import Cover, Post

FORMATS = ("JPEG", "PNG", "WEBP")
WIDTHS = (480, 960, 1600)
"""Pixels. A cover is never larger than the uploaded image."""
LONGEST_SIDE = 16_383
"""Pixels. WebP does not support longer sides."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""The exceptions that Pillow raises for damaged images, depending on the format."""


class BadImage(Exception):
    """The image cannot be a cover. The text says why."""


def image_check(file: IO[bytes]) -> None:
    """Raises BadImage unless the content is a complete JPEG, PNG or WebP within the size limits, whatever its name."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            # Pillow has read only the header so far, so an image that is too large is refused before it is decoded.
            _refuse_size(*image.size)
            # Decode a JPEG at an eighth of its size. That is enough to see that it is complete.
            image.draft("RGB", (1, 1))
            image.load()
    except Image.DecompressionBombError as error:
        raise BadImage("The image has too many pixels.") from error
    except BROKEN as error:
        raise BadImage("This is not a JPEG, PNG or WebP image, or it is damaged.") from error


def _refuse_size(width: int, height: int) -> None:
    if width * height > settings.MAX_COVER_PIXELS or max(width, height) > LONGEST_SIDE:
        raise BadImage(
            f"The image has {width} x {height} pixels. At most {settings.MAX_COVER_PIXELS} pixels in total and "
            f"{LONGEST_SIDE} per side are allowed."
        )


def cover_upload(*, post: Post, file: File[Any]) -> Cover:
    """Store an image until it is resized. The post keeps its old cover until then. Raises BadImage."""
    image_check(file)
    file.seek(0)
    cover = Cover(post=post)
    cover.original = default_storage.save(f"covers/{cover.key}/original", file)
    cover.save()
    return cover


def cover_resize(*, cover: Cover) -> bool:
    """Create the sizes, rotated upright and without metadata, and replace older covers by this one.

    The original is deleted. Calling this again is safe. Returns False if the cover has been removed.
    """
    if cover.ready_at is None:
        with default_storage.open(cover.original) as file:
            sizes = _sizes(file)
        cover.widths = list(sizes)
        for width, content in sizes.items():
            default_storage.save(cover.file(width), ContentFile(content))
        with transaction.atomic():
            if not Cover.objects.filter(pk=cover.pk).update(widths=cover.widths, ready_at=timezone.now()):
                for name in cover.files():
                    default_storage.delete(name)
                return False
            Cover.objects.filter(post=cover.post_id, pk__lt=cover.pk).delete()
    if cover.original:
        default_storage.delete(cover.original)
        Cover.objects.filter(pk=cover.pk).update(original="")
    return True


def _sizes(file: IO[bytes]) -> dict[int, bytes]:
    """Return the WebP images by width in pixels."""
    with Image.open(file, formats=FORMATS) as opened:
        # A JPEG need not be decoded much larger than the largest size.
        opened.draft("RGB", (WIDTHS[-1], WIDTHS[-1]))
        image: Image.Image = ImageOps.exif_transpose(opened)
        profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.info = {}
    sizes = {}
    for width in sorted({min(width, image.width) for width in WIDTHS}):
        height = max(1, round(image.height * width / image.width))
        made = io.BytesIO()
        resized = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
        resized.save(made, "WEBP", quality=80, icc_profile=profile)
        sizes[width] = made.getvalue()
    return sizes
