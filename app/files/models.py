"""Files in Postgres: one row for the metadata of a file, and one row for each megabyte of its content."""

from __future__ import annotations

from django.db import models


class StoredFile(models.Model):
    """A file by name. It exists completely or not at all, because one transaction writes all its chunks."""

    name = models.TextField(unique=True)
    size = models.BigIntegerField(help_text="In bytes.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Chunk(models.Model):
    """The bytes that start at ``number`` megabytes. The last chunk may be shorter."""

    file = models.ForeignKey(StoredFile, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "number"], name="chunk_once")]

    def __str__(self) -> str:
        return f"{self.file_id}: {self.number}"
