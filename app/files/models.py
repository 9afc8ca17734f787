"""A file in Postgres: a row for what it is, and one for each megabyte of it."""

from __future__ import annotations

from django.db import models


class StoredFile(models.Model):
    """A file by its name. It is there whole or not at all: its chunks are of the same transaction."""

    name = models.TextField(unique=True)
    size = models.BigIntegerField(help_text="In bytes.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Chunk(models.Model):
    """The bytes from ``number`` megabytes on; the last chunk is shorter."""

    file = models.ForeignKey(StoredFile, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "number"], name="chunk_once")]

    def __str__(self) -> str:
        return f"{self.file_id}: {self.number}"
