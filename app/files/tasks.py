"""Deletion of files together with their row. A task of the same transaction deletes them, so neither stays alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.core.files.storage import default_storage
from django.db.models import Model
from django.db.models.signals import post_delete

M = TypeVar("M", bound=Model)


@shared_task(
    queue="default",
    autoretry_for=(Exception,),
    dont_autoretry_for=(SoftTimeLimitExceeded,),
    retry_backoff=True,
    retry_backoff_max=600,
    max_retries=20,
)
def delete_files(names: list[str]) -> None:
    """Delete files whose row is gone. Retries for about an hour while the storage does not answer."""
    for name in names:
        default_storage.delete(name)


def files_go_with(model: type[M], names: Callable[[M], Iterable[str]]) -> None:
    """Delete the files that ``names`` returns whenever a row of ``model`` is deleted, however that happens."""

    def deleted(instance: Any, **_: object) -> None:
        found = [name for name in names(instance) if name]
        if found:
            delete_files.delay(found)

    post_delete.connect(deleted, sender=model, weak=False, dispatch_uid=f"files.{model._meta.label}")
