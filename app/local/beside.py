"""``make shell`` and ``make psql``: a Django shell and a psql session on the `make up` that runs here."""

from __future__ import annotations

import os
import shutil
import sys
from urllib.parse import unquote, urlsplit

from app.local import running
from app.local.servers import ServiceError, psql_binary


def psql(url: str) -> tuple[list[str], dict[str, str]]:
    """Return the command to open a database, and the environment variables that it needs.

    The password goes into the environment, not on the command line. Raises ServiceError if psql is not installed.
    """
    program = shutil.which("psql") or str(psql_binary())
    parts = urlsplit(url)
    secret = {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return [program, parts._replace(scheme="postgresql", netloc=user + host).geturl()], secret


def main(what: str, arguments: list[str]) -> None:
    """Replace this process by the program. Raises SystemExit with a one-line reason if that is not possible."""
    var = running.var_folder(os.environ)
    found = running.read(var)
    if not found:
        sys.exit(f"make {what}: no `make up` is running here ({var}). Start one in another terminal, or set VAR_DIR")
    env = {**os.environ, **found}
    command = [sys.executable, "manage.py", "shell"]
    if what == "psql":
        try:
            command, secret = psql(found["DATABASE_URL"])
        except ServiceError as error:
            sys.exit(f"make psql: {error}")
        env |= secret
    os.chdir(running.PROJECT)
    os.execvpe(command[0], [*command, *arguments], env)  # noqa: S606 - no shell


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
