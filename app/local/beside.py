"""``make shell`` and ``make psql``: a shell of Django's, and one of Postgres's, on the `make up` that runs here."""

from __future__ import annotations

import os
import shutil
import sys
from urllib.parse import unquote, urlsplit

from app.local import running
from app.local.servers import ServiceError, psql_binary


def psql(url: str) -> tuple[list[str], dict[str, str]]:
    """The command for a database, and what its environment needs: no password on the command line.

    Raises ServiceError where there is no psql.
    """
    program = shutil.which("psql") or str(psql_binary())
    parts = urlsplit(url)
    secret = {"PGPASSWORD": unquote(parts.password)} if parts.password else {}
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return [program, parts._replace(scheme="postgresql", netloc=user + host).geturl()], secret


def main(what: str, arguments: list[str]) -> None:
    """Become the program. Raises SystemExit, with a line that says why, where that cannot be."""
    var = running.var_folder(os.environ)
    found = running.read(var)
    if not found:
        sys.exit(f"make {what}: no `make up` is ready here ({var}): start one in another terminal, or set VAR_DIR")
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
