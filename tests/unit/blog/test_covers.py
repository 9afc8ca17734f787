"""Covers: what is refused, what becomes of a picture, who sees it and how long it is kept."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from rest_framework.test import APIClient

from app.accounts.models import User
from app.blog import services
from app.blog.models import Cover, Post
from app.blog.tasks import resize_cover
from app.files.models import StoredFile
from app.files.storage import CHUNK
from app.files.tasks import delete_files
from pressroom.models import TaskRun

pytestmark = pytest.mark.django_db

RED, BLUE = (200, 10, 10), (10, 10, 200)
ORIENTATION, MAKER, GPS = 0x0112, 0x010F, 0x8825


@pytest.fixture
def post(author: User) -> Post:
    post = services.post_create(author=author, title="표지", body="…")
    services.post_publish(post_id=post.pk)
    return post


@pytest.fixture
def url(post: Post) -> str:
    return f"/api/posts/{post.pk}/cover/"


def picture(size: tuple[int, int] = (2000, 1000), kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **options)
    return out.getvalue()


def put(client: APIClient, url: str, content: bytes, content_type: str = "image/jpeg", **extra: Any) -> Any:
    return client.generic("PUT", url, content, content_type, **extra)


def resized(post: Post) -> dict[str, Image.Image]:
    """The sizes that the task makes of the newest upload, by width, as they are served."""
    assert resize_cover(post.covers.first().pk)
    cover = Post.objects.get(pk=post.pk).cover
    assert cover is not None
    return {
        str(width): Image.open(io.BytesIO(b"".join(Client().get(url).streaming_content)))
        for width, url in cover.urls().items()
    }


class TestUpload:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_a_picture_is_taken_and_its_sizes_follow(self, as_author: Any, post: Post, url: str, kind: str) -> None:
        answer = put(as_author, url, picture(kind=kind), f"image/{kind.lower()}")
        assert answer.status_code == 202, answer.content
        assert answer["Location"] == answer.json()["url"]
        assert answer.json()["name"] == "app.blog.tasks.resize_cover"
        assert as_author.get(f"/api/posts/{post.pk}/").json()["cover"] is None
        sizes = resized(post)
        assert {width: image.size for width, image in sizes.items()} == {
            "480": (480, 240), "960": (960, 480), "1600": (1600, 800),
        }  # fmt: skip
        assert {image.format for image in sizes.values()} == {"WEBP"}
        assert Cover.objects.get().original == ""
        assert StoredFile.objects.count() == 3, "the original is gone"

    def test_as_a_form_of_more_than_a_row_of_the_storage(self, as_author: Any, post: Post, url: str) -> None:
        out = io.BytesIO()
        Image.frombytes("RGB", (700, 700), os.urandom(700 * 700 * 3)).save(out, "PNG")
        assert CHUNK < out.tell() < 2 * CHUNK, "in memory, for Django"
        file = SimpleUploadedFile("noise.png", out.getvalue(), "image/png")
        assert as_author.post(url, {"image": file}, format="multipart").status_code == 202
        assert set(resized(post)) == {"480", "700"}

    def test_as_a_form(self, as_author: Any, post: Post, url: str) -> None:
        file = SimpleUploadedFile("../../holiday.jpg", picture(), "image/jpeg")
        assert as_author.post(url, {"image": file}, format="multipart").status_code == 202
        assert set(resized(post)) == {"480", "960", "1600"}

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("empty", b""),
            ("text", b"GIF89a is what it says"),
            ("a gif", picture((10, 10), "GIF")),
            ("a tiff", picture((10, 10), "TIFF")),
            ("a page", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
            ("half a jpeg", picture()[:9_000]),
            ("half a png", picture(kind="PNG")[:-200]),
            ("half a webp", picture(kind="WEBP")[:-200]),
            ("a jpeg's head", picture()[:20]),
            ("too many pixels", picture((5001, 5000), "PNG")),
            ("too long", picture((1, 16_384), "PNG")),
        ],
    )
    def test_what_is_no_picture_is_refused_and_leaves_nothing(
        self, as_author: Any, url: str, name: str, content: bytes
    ) -> None:
        answer = put(as_author, url, content)
        assert answer.status_code == 400, name
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["errors"][0]["pointer"] == "#/image"
        assert [model.objects.count() for model in (Cover, StoredFile, TaskRun)] == [0, 0, 0]

    def test_a_decompression_bomb_is_refused_by_its_head(self, as_author: Any, url: str) -> None:
        """65,000 x 65,000 pixels would be 12 GB; the file has a hundred bytes."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        answer = put(as_author, url, bomb, "image/png")
        assert answer.status_code == 400
        assert "pixels" in answer.json()["errors"][0]["detail"]

    def test_two_files_or_none_in_a_form(self, as_author: Any, url: str) -> None:
        files = [SimpleUploadedFile(name, picture((9, 9))) for name in "ab"]
        assert as_author.post(url, {"a": files[0], "b": files[1]}, format="multipart").status_code == 400
        assert as_author.post(url, {"a": "text"}, format="multipart").status_code == 400
        assert not Cover.objects.exists()

    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/pdf", ""])
    def test_another_content_type(self, as_author: Any, url: str, content_type: str) -> None:
        assert put(as_author, url, picture((9, 9)), content_type).status_code == 415

    def test_who_may(self, as_reader: Any, author: User, url: str) -> None:
        assert put(APIClient(), url, picture((9, 9))).status_code == 401
        assert put(as_reader, url, picture((9, 9))).status_code == 403
        draft = services.post_create(author=author, title="draft", body="…")
        assert put(as_reader, f"/api/posts/{draft.pk}/cover/", picture((9, 9))).status_code == 404
        assert put(as_reader, "/api/posts/99999999999999999999/cover/", picture((9, 9))).status_code == 404
        assert as_reader.delete(url).status_code == 403
        assert not Cover.objects.exists()

    def test_a_key_answers_again_and_takes_no_other_picture(self, as_author: Any, url: str) -> None:
        key = {"HTTP_IDEMPOTENCY_KEY": "k"}
        first = put(as_author, url, picture((9, 9)), **key)
        again = put(as_author, url, picture((9, 9)), **key)
        assert (again.status_code, again.json()) == (202, first.json())
        assert put(as_author, url, picture((9, 10)), **key).status_code == 422
        assert Cover.objects.count() == 1


class TestSizeOfTheBody:
    def test_a_cover_may_be_larger_than_other_bodies(self, as_author: Any, url: str, settings: Any) -> None:
        settings.MAX_BODY_SIZE = 1_000
        assert len(picture()) > settings.MAX_BODY_SIZE
        assert put(as_author, url, picture()).status_code == 202
        assert put(as_author, url.removesuffix("cover/"), picture()).status_code == 413
        assert put(as_author, "/api/nowhere/", picture()).status_code == 413

    @pytest.mark.parametrize("chunked", [False, True])
    def test_but_not_of_any_size(self, as_author: Any, url: str, settings: Any, chunked: bool) -> None:
        settings.MAX_COVER_SIZE = len(picture()) - 1
        extra: dict[str, Any] = {}
        if chunked:
            extra = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "", "wsgi.input": io.BytesIO(picture())}
        answer = put(as_author, url, picture(), **extra)
        assert answer.status_code == 413
        assert str(settings.MAX_COVER_SIZE) in answer.json()["detail"]
        assert not Cover.objects.exists()


class TestSizes:
    def test_a_small_picture_is_not_made_larger(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture((600, 300)))
        assert {width: image.size for width, image in resized(post).items()} == {"480": (480, 240), "600": (600, 300)}

    def test_it_is_turned_upright_and_tells_nothing_of_where_it_was_taken(
        self, as_author: Any, post: Post, url: str
    ) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = 6  # to be turned by 90 degrees clockwise
        exif[MAKER] = "a camera"
        exif.get_ifd(GPS)[2] = (37.0, 33.0, 59.0)
        put(as_author, url, picture((2000, 1000), exif=exif))
        for image in resized(post).values():
            assert image.height == 2 * image.width
            assert not image.getexif()
            assert "exif" not in image.info
            assert "xmp" not in image.info
            top, bottom = (image.convert("RGB").getpixel((image.width // 2, y)) for y in (5, image.height - 5))
            assert top[0] > 150 > top[2], "what was left is on top"
            assert bottom[2] > 150 > bottom[0]

    @pytest.mark.parametrize(
        ("kind", "mode", "expected"),
        [
            ("JPEG", "CMYK", "RGB"),
            ("JPEG", "L", "RGB"),
            ("PNG", "P", "RGB"),
            ("PNG", "LA", "RGBA"),
            ("PNG", "RGBA", "RGBA"),
            ("PNG", "I;16", "RGB"),
            ("PNG", "1", "RGB"),
            ("WEBP", "RGBA", "RGBA"),
        ],
    )
    def test_every_mode(self, as_author: Any, post: Post, url: str, kind: str, mode: str, expected: str) -> None:
        content = picture((500, 100), kind, mode) if mode != "I;16" else _sixteen_bits()
        if expected == "RGBA":
            content = _half_transparent(kind, mode)
        assert put(as_author, url, content).status_code == 202
        assert {image.mode for image in resized(post).values()} == {expected}

    def test_a_new_cover_takes_the_old_ones_place_when_it_is_ready(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture())
        resized(post)
        old = as_author.get(f"/api/posts/{post.pk}/").json()["cover"]
        put(as_author, url, picture((500, 500)))
        assert as_author.get(f"/api/posts/{post.pk}/").json()["cover"] == old
        resized(post)
        new = as_author.get(f"/api/posts/{post.pk}/").json()["cover"]
        assert set(new) == {"480", "500"}
        run_deletions()
        assert StoredFile.objects.count() == 2
        assert Client().get(old["480"]).status_code == 404

    def test_the_task_may_run_again(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture())
        cover = post.covers.get()
        assert resize_cover(cover.pk)
        assert resize_cover(cover.pk)
        # Killed after the sizes were made and before the original was gone.
        default_storage.save(cover.original, io.BytesIO(b"x"))
        Cover.objects.update(original=cover.original)
        assert resize_cover(cover.pk)
        assert not default_storage.exists(cover.original)
        assert StoredFile.objects.count() == 3

    def test_a_cover_that_is_gone(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture())
        pk = post.covers.get().pk
        assert as_author.delete(url).status_code == 204
        assert resize_cover(pk) is False
        run_deletions()
        assert not StoredFile.objects.exists()

    def test_the_files_go_with_the_post(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture())
        resized(post)
        assert as_author.delete(f"/api/posts/{post.pk}/").status_code == 204
        run_deletions()
        assert not StoredFile.objects.exists()


class TestServing:
    def test_for_a_year_and_by_etag(self, as_author: Any, post: Post, url: str) -> None:
        put(as_author, url, picture())
        resized(post)
        address = as_author.get("/api/posts/").json()["results"][0]["cover"]["480"]
        answer = Client().get(address)
        assert answer["Content-Type"] == "image/webp"
        assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
        assert Client().get(address, HTTP_IF_NONE_MATCH=answer["ETag"]).status_code == 304
        for width in ("481", "3000000000", "9" * 100):
            assert Client().get(address.replace("480.webp", f"{width}.webp")).status_code == 404
        assert Client().get("/covers/x/3000000000.webp").status_code == 404
        assert Client().post(address).status_code == 405

    def test_on_the_posts_page(self, as_author: Any, post: Post, url: str) -> None:
        assert b"<img" not in Client().get(post.get_absolute_url()).content
        put(as_author, url, picture())
        resized(post)
        page = Client().get(post.get_absolute_url()).content.decode()
        cover = Post.objects.get().cover
        assert cover is not None
        assert f'src="{cover.urls()[1600]}"' in page
        assert f"{cover.urls()[480]} 480w" in page

    def test_a_list_of_posts_asks_for_all_covers_at_once(
        self, as_author: Any, author: User, django_assert_max_num_queries: Any
    ) -> None:
        for number in range(10):
            post = services.post_create(author=author, title=f"{number}", body="…")
            put(as_author, f"/api/posts/{post.pk}/cover/", picture((50, 50)))
            resize_cover(post.covers.get().pk)
        with django_assert_max_num_queries(5):
            assert all(post["cover"] for post in as_author.get("/api/posts/").json()["results"])


def run_deletions() -> None:
    """What the rows of the ledger would have a worker do."""
    for run in TaskRun.objects.filter(name="app.files.tasks.delete_files"):
        delete_files(*run.arguments[0])


def _sixteen_bits() -> bytes:
    out = io.BytesIO()
    Image.new("I;16", (500, 100), 30_000).save(out, "PNG")
    return out.getvalue()


def _half_transparent(kind: str, mode: str) -> bytes:
    image = Image.new("RGBA", (500, 100), (*RED, 255))
    image.paste((0, 0, 0, 0), (0, 0, 250, 100))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, lossless=True)
    return out.getvalue()
