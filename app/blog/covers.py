"""A post's cover: what may be one, and the sizes made of it. Knows nothing of HTTP and nothing of Celery."""

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
"""Pixels. None is made larger than the picture that was uploaded."""
LONGEST_SIDE = 16_383
"""Pixels: WebP knows no longer ones."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow raises for a damaged picture, by format."""


class BadImage(Exception):
    """It cannot be a cover; the text says why."""


def image_check(file: IO[bytes]) -> None:
    """Raises BadImage where the content, whatever it calls itself, is no whole JPEG, PNG or WebP of a fair size."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            # Only the head has been read: a picture too large is refused before it is unfolded.
            _refuse_size(*image.size)
            # A JPEG is read to its end at an eighth of its size, which is enough to see that it is whole.
            image.draft("RGB", (1, 1))
            image.load()
    except Image.DecompressionBombError as error:
        raise BadImage("It has too many pixels.") from error
    except BROKEN as error:
        raise BadImage("This is no JPEG, PNG or WebP image, or a damaged one.") from error


def _refuse_size(width: int, height: int) -> None:
    if width * height > settings.MAX_COVER_PIXELS or max(width, height) > LONGEST_SIDE:
        raise BadImage(
            f"{width} x {height} pixels: {settings.MAX_COVER_PIXELS} in all and {LONGEST_SIDE} a side are allowed."
        )


def cover_upload(*, post: Post, file: File[Any]) -> Cover:
    """Keep a picture until its sizes are made; the post has its old cover until then. Raises BadImage."""
    image_check(file)
    file.seek(0)
    cover = Cover(post=post)
    cover.original = default_storage.save(f"covers/{cover.key}/original", file)
    cover.save()
    return cover


def cover_resize(*, cover: Cover) -> bool:
    """Make the sizes, upright and without what the camera noted, and let them take the place of older covers.

    The original is deleted. May be repeated. False where the cover was removed meanwhile.
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
    """WebP by width."""
    with Image.open(file, formats=FORMATS) as opened:
        # A JPEG need not be unfolded larger than what is wanted of it.
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
