"""Fixtures for tests with real workers and a real relay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test.utils import setup_databases, teardown_databases

from tests.support import flush
from tests.support.processes import Stack, stack_in

flush.install()


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: Any
) -> Iterator[None]:
    """The test database, also for modules whose tests have no mark of pytest-django: they share a stack."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        for one, _, is_made in made:
            if is_made:
                one.close()
                _end_others(one, one.settings_dict["NAME"])
        teardown_databases(made, verbosity=0)


def _end_others(connection: Any, name: str) -> None:
    """Postgres may not have missed a process yet that a test killed, and drops no database that anybody uses."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])


@pytest.fixture
def stack(tmp_path: Path, transactional_db: None, redis_server: Any) -> Iterator[Stack]:
    """Nothing runs as yet: a test starts what it needs."""
    with stack_in(tmp_path) as stack:
        yield stack


@pytest.fixture(scope="module")
def shared_stack(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Stack]:
    """A stack for a whole module, whose tests leave each other's runs alone."""
    with django_db_blocker.unblock(), stack_in(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
        for process in stack.processes:
            process.end()
        flush.flush()


@pytest.fixture
def effects(tmp_path: Path) -> str:
    """The file in which the probes note their effects."""
    return str(tmp_path / "effects")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that does not exist: `probe.hold` ends once it does."""
    return tmp_path / "gate"
