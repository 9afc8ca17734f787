"""What a supervisor asks: alive, ready, and whether the schema is as far as the code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, RequestFactory

from pressroom.database import readiness
from pressroom.http.health import HealthMiddleware
from pressroom.management.commands import migrate
from tests.support.waiting import until

LAST = ("taskruns", "0004_autovacuum")


@pytest.fixture
def behind(transactional_db: None) -> Iterator[Any]:
    """The record of a migration, gone: the database of an older release, or so it seems."""
    recorder = MigrationRecorder(connection)
    row = recorder.migration_qs.get(app=LAST[0], name=LAST[1])
    recorder.record_unapplied(*LAST)
    yield row
    recorder.record_unapplied(*LAST)
    recorder.record_applied(*LAST)


def test_probes_need_no_known_host(client: Client, settings: Any, db: None) -> None:
    settings.ALLOWED_HOSTS = ["press.example.com"]
    assert client.get("/admin/login/", headers={"host": "10.1.2.3:8000"}).status_code == 400
    assert client.get("/livez", headers={"host": "10.1.2.3:8000"}).content == b"alive\n"
    version = settings.SPECTACULAR_SETTINGS["VERSION"]
    assert client.get("/readyz", headers={"host": "10.1.2.3:8000"}).content.decode() == f"ready, version {version}\n"


def test_ready_once_migrated_and_from_then_on(behind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = HealthMiddleware(lambda request: pytest.fail("it is not for the application"))
    request = RequestFactory().get("/readyz")
    answer = probe(request)
    assert answer.status_code == 503
    assert answer.content == b"migration taskruns.0004_autovacuum not applied: `manage.py migrate`\n"
    behind.save(force_insert=True)
    assert probe(request).status_code == 200
    behind.delete()
    assert probe(request).status_code == 200


def test_a_probe_that_fails_is_no_error_that_django_mails(
    behind: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MIDDLEWARE = ["pressroom.http.health.HealthMiddleware"]
    with caplog.at_level("INFO"):
        assert Client().get("/readyz").status_code == 503
    assert "django.request" not in [record.name for record in caplog.records]
    [record] = [record for record in caplog.records if record.name == "pressroom.http.health"]
    assert (record.levelname, record.getMessage()) == (
        "INFO", "not ready: migration taskruns.0004_autovacuum not applied: `manage.py migrate`",
    )  # fmt: skip


def test_a_schema_further_than_the_code_is_as_good(db: None) -> None:
    MigrationRecorder(connection).record_applied("taskruns", "9999_of_the_next_release")
    assert readiness.missing() is None


def test_without_postgres_it_says_so(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    nowhere = connection.copy()
    nowhere.settings_dict = nowhere.settings_dict | {"PORT": 1}
    monkeypatch.setattr(readiness, "connection", nowhere)
    assert str(readiness.missing()).startswith("Postgres did not answer: connection failed")


def test_waiting_ends_when_told(behind: Any, caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 3

    assert not readiness.wait(pause)
    assert [record.message for record in caplog.records] == [
        "waiting: migration taskruns.0004_autovacuum not applied: `manage.py migrate`"
    ]
    behind.save(force_insert=True)
    assert readiness.wait(pause)
    assert len(pauses) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_a_migration_steps_back_from_a_locked_table(patience: float) -> None:
    """Else everybody who needs the table waits behind it."""
    call_command("migrate", "taskruns", "0003", verbosity=0)
    told = StringIO()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        other.execute("SELECT 1 FROM taskruns_taskrun")
        other.execute("LOCK TABLE taskruns_taskrun IN ACCESS EXCLUSIVE MODE")
        release = threading.Thread(
            target=lambda: (until(lambda: "trying again" in told.getvalue(), "it stepped back"), other.rollback())
        )
        refused = pytest.raises(CommandError, match="stayed locked") if not patience else nullcontext()
        try:
            if patience:
                release.start()
            with refused:
                call_command("migrate", "taskruns", wait=patience, lock_timeout=0.1, verbosity=0, stderr=told)
            assert ("trying again" in told.getvalue()) == bool(patience)
        finally:
            if patience:
                release.join()
            other.rollback()
            call_command("migrate", "taskruns", verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_a_migration_in_a_deadlock_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres ends one of two that wait for each other. Here the migration looks first, and so is the one."""
    tries = []

    def operations(*args: Any, **options: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1s'")
            cursor.execute("LOCK TABLE auth_group")
            tries.append(len(tries))
            cursor.execute("LOCK TABLE auth_permission")

    monkeypatch.setattr(migrate.DjangoCommand, "handle", operations)
    told = StringIO()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as other:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("LOCK TABLE auth_permission")

        def meet() -> None:
            until(lambda: tries, "the migration has the first table")
            other.execute("LOCK TABLE auth_group")
            other.rollback()

        meets = threading.Thread(target=meet)
        meets.start()
        call_command("migrate", wait=60.0, lock_timeout=30.0, verbosity=0, stderr=told)
        meets.join()
    assert "trying again" in told.getvalue()
    assert len(tries) >= 2


@pytest.mark.django_db(transaction=True)
def test_an_index_that_is_built_concurrently_waits_for_older_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits behind it. What a migration without a transaction has done already could not be done again."""
    limits = []

    def operations(*args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE INDEX CONCURRENTLY odd ON auth_group (name)")
            cursor.execute("SHOW lock_timeout")
            limits.append(cursor.fetchone()[0])

    monkeypatch.setattr(migrate.DjangoCommand, "handle", operations)
    parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    waits = """
        SELECT count(*) FROM pg_stat_activity
        WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock' AND now() - query_start > '0.5 s'
            AND datname = current_database()
    """
    with psycopg.connect(**parameters) as other, psycopg.connect(**parameters, autocommit=True) as watch:
        other.execute("INSERT INTO auth_group (name) VALUES ('old')")

        def release() -> None:
            until(lambda: watch.execute(waits).fetchone() == (1,), "it waits for longer than the limit")
            other.rollback()

        releases = threading.Thread(target=release)
        releases.start()
        call_command("migrate", lock_timeout=0.1, verbosity=0)
        releases.join()
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'odd'::regclass")
        assert cursor.fetchone() == (True,)
        cursor.execute("DROP INDEX odd")
    assert limits == ["100ms"]


@pytest.mark.parametrize("skip_checks", [True, False])
def test_a_migration_waits_for_its_database(monkeypatch: pytest.MonkeyPatch, db: None, skip_checks: bool) -> None:
    nowhere = connection.copy()
    nowhere.settings_dict = nowhere.settings_dict | {"PORT": 1}
    monkeypatch.setattr(migrate, "connections", {"default": nowhere})
    told = StringIO()
    with pytest.raises(Exception, match="connection failed"):
        call_command("migrate", wait=1.5, stderr=told, skip_checks=skip_checks)
    assert told.getvalue().count("waiting for the database: connection failed") == 2
