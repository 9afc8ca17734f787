"""Files in Postgres and in S3: the same to who uses them, and gone with their rows."""

import io
import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from moto.server import ThreadedMotoServer

from app.files.models import Chunk, StoredFile
from app.files.storage import CHUNK, FileTooLarge, PostgresStorage
from app.files.tasks import delete_files

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """S3's protocol on loopback. Yields its address."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["postgres", "s3"])
def storage(request: pytest.FixtureRequest, settings: Any) -> Any:
    """The default storage, as the settings make it of the environment."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_server")
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="press")
        variables = {
            "S3_BUCKET": "press", "S3_ENDPOINT_URL": endpoint, "S3_REGION": "us-east-1",
            "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s",
        }  # fmt: skip
        settings.STORAGES = {**settings.STORAGES, "default": storages_with(variables)["default"]}
    return default_storage


def storages_with(variables: dict[str, str]) -> dict[str, Any]:
    """``STORAGES`` of the settings file, read with these variables."""
    import runpy
    from unittest import mock

    from app.local.servers import PROJECT

    with mock.patch.dict(os.environ, variables):
        storages: dict[str, Any] = runpy.run_path(str(PROJECT / "app" / "settings.py"))["STORAGES"]
    return storages


def content_of(size: int) -> bytes:
    return os.urandom(size)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_what_is_saved_is_read(storage: Any, size: int) -> None:
    content = content_of(size)
    name = storage.save("a folder/report.pdf", ContentFile(content))
    assert name == "a folder/report.pdf"
    assert storage.exists(name)
    assert storage.size(name) == size
    with storage.open(name) as file:
        assert file.read() == content
    with storage.open(name) as file:
        file.seek(size // 2)
        assert file.read(10) == content[size // 2 :][:10]
        file.seek(0)
        assert b"".join(file.chunks(1000)) == content


def test_saving_again_replaces_the_file(storage: Any) -> None:
    for content in (b"a" * (CHUNK + 1), b"b"):
        assert storage.save("x", ContentFile(content)) == "x"
    with storage.open("x") as file:
        assert file.read() == b"b"


def test_what_is_not_there(storage: Any) -> None:
    assert not storage.exists("nothing")
    storage.delete("nothing")
    with pytest.raises(FileNotFoundError):
        storage.open("nothing").read()


def test_a_deleted_file_leaves_nothing(storage: Any) -> None:
    storage.save("a/b/c", ContentFile(b"c" * 2 * CHUNK))
    storage.save("a/d", ContentFile(b"d"))
    assert storage.listdir("a") == (["b"], ["d"])
    delete_files(["a/b/c", "a/d", "a/never was"])
    assert storage.listdir("a") == ([], [])
    assert not Chunk.objects.exists()


class TestInPostgres:
    def test_a_file_that_is_too_large_leaves_nothing_and_the_old_one(self) -> None:
        storage = PostgresStorage(max_size=2 * CHUNK)
        storage.save("x", ContentFile(b"old"))
        with pytest.raises(FileTooLarge, match=str(2 * CHUNK)):
            storage.save("x", ContentFile(content_of(2 * CHUNK + 1)))
        assert storage.open("x").read() == b"old"
        assert Chunk.objects.count() == 1

    def test_a_file_is_of_the_callers_transaction(self) -> None:
        with transaction.atomic():
            default_storage.save("x", ContentFile(b"x"))
            transaction.set_rollback(True)
        assert not StoredFile.objects.exists()

    def test_it_is_streamed_both_ways(self) -> None:
        """In memory are a few chunks, whatever the file's size."""

        class Endless(io.RawIOBase):
            left = 40 * CHUNK

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                count = min(len(buffer), self.left)
                buffer[:count] = b"x" * count
                self.left -= count
                return count

        tracemalloc.start()
        try:
            default_storage.save("x", File(io.BufferedReader(Endless(), CHUNK)))
            with default_storage.open("x") as file:
                assert sum(len(part) for part in file.chunks(65536)) == 40 * CHUNK
            assert tracemalloc.get_traced_memory()[1] < 12 * CHUNK
        finally:
            tracemalloc.stop()

    def test_a_part_of_a_file_costs_its_chunk_only(self) -> None:
        default_storage.save("x", ContentFile(content_of(5 * CHUNK)))
        with default_storage.open("x") as file, CaptureQueriesContext(connection) as queries:
            file.seek(3 * CHUNK + 5)
            file.read(100)
            file.read(100)
        assert len(queries) == 1

    def test_a_file_deleted_while_it_is_read_is_an_error_not_a_short_file(self) -> None:
        default_storage.save("x", ContentFile(content_of(2 * CHUNK)))
        with default_storage.open("x") as file:
            file.read(CHUNK)
            default_storage.delete("x")
            with pytest.raises(FileNotFoundError):
                file.read(1)

    @pytest.mark.parametrize("mode", ["wb", "r", "r+b"])
    def test_a_mode_that_is_not_to_be_had(self, mode: str) -> None:
        with pytest.raises(ValueError, match="mode"):
            default_storage.open("x", mode)
