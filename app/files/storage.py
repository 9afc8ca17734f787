"""A Django storage in Postgres. Workers and web processes share no disk, but they share a database."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.core.files import File
from django.core.files.storage import Storage
from django.db import transaction
from django.utils.deconstruct import deconstructible

from app.files.models import Chunk, StoredFile

CHUNK = 1024 * 1024
"""Bytes per row. Reading and writing hold one chunk in memory."""
MAX_SIZE = 100 * CHUNK
"""Maximum size of a file in bytes. Larger files belong in S3."""


class FileTooLarge(ValueError):
    """The file exceeds the maximum size. Nothing was stored."""


@deconstructible
class PostgresStorage(Storage):
    """Stores files as rows and streams them in and out. A reader sees the file as it was opened, or gets an error.

    Saving under an existing name replaces the file, as in S3, so that a task that runs again leaves one file.
    """

    def __init__(self, max_size: int = MAX_SIZE) -> None:
        self.max_size = max_size

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return the name unchanged, so that saving replaces an existing file."""
        return name

    def _save(self, name: str, content: File[Any]) -> str:
        with transaction.atomic():
            StoredFile.objects.filter(name=name).delete()
            file = StoredFile.objects.create(name=name, size=0)
            for number, chunk in enumerate(_parts(content)):
                file.size += len(chunk)
                if file.size > self.max_size:
                    raise FileTooLarge(f"{name} is larger than {self.max_size} bytes")
                Chunk.objects.create(file=file, number=number, content=chunk)
            file.save(update_fields=["size"])
        return name

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open a file for reading. Raises FileNotFoundError, and ValueError for any mode but "rb"."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r} is not supported: this storage opens files only for reading, as bytes")
        return File(io.BufferedReader(_Chunks(self._row(name)), CHUNK), name)

    def delete(self, name: str) -> None:
        StoredFile.objects.filter(name=name).delete()

    def exists(self, name: str) -> bool:
        return StoredFile.objects.filter(name=name).exists()

    def size(self, name: str) -> int:
        return self._row(name).size

    def get_created_time(self, name: str) -> datetime:
        return self._row(name).created_at

    get_modified_time = get_created_time

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Return the folders and the files directly in ``path``."""
        prefix = f"{path.strip('/')}/".lstrip("/")
        below = StoredFile.objects.filter(name__startswith=prefix).values_list("name", flat=True)
        rests = [name.removeprefix(prefix) for name in below]
        folders = sorted({rest.partition("/")[0] for rest in rests if "/" in rest})
        return folders, sorted(rest for rest in rests if "/" not in rest)

    def _row(self, name: str) -> StoredFile:
        row = StoredFile.objects.filter(name=name).first()
        if row is None:
            raise FileNotFoundError(name)
        return row


def _parts(content: File[Any]) -> Iterator[bytes]:
    """Yield the content in parts of CHUNK bytes. ``chunks()`` of an in-memory upload yields one part of any size."""
    with suppress(AttributeError, io.UnsupportedOperation):  # as in Django's chunks()
        content.seek(0)
    while part := content.read(CHUNK):
        yield part


class _Chunks(io.RawIOBase):
    """The bytes of a file, with one row in memory at a time. No cursor or transaction stays open between two rows."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self._position = 0
        self._number: int | None = None
        self._chunk = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer. Raises FileNotFoundError if the file has been deleted or replaced."""
        if self._position >= self._file.size:
            return 0
        number, begin = divmod(self._position, CHUNK)
        if number != self._number:
            chunk = self._file.chunks.filter(number=number).values_list("content", flat=True).first()
            if chunk is None:
                raise FileNotFoundError(f"{self._file.name} no longer exists")
            self._number, self._chunk = number, bytes(chunk)
        part = self._chunk[begin : begin + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
