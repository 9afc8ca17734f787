"""Delete from an image the files of its packages that nothing here reads: ``python slim.py SITE_PACKAGES``.

Uses only the standard library. Each rule must find something. A rule that finds nothing means that a package has
changed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

AWS = {"s3", "sesv2", "sso", "sso-oidc", "sts"}
"""AWS services whose descriptions stay: files, mail, and the services that provide the credentials of a role."""
FONTS = {"NanumGothic.ttf", "NanumGothicBold.ttf"}
"""The fonts that `app.reports.pdf` uses."""


def services(packages: Path) -> Iterator[Path]:
    """The descriptions of the other AWS services, some 400."""
    return (path for path in (packages / "botocore/data").glob("*/") if path.name not in AWS)


def fonts(packages: Path) -> Iterator[Path]:
    """The font weights that no report uses."""
    return (path for path in (packages / "koreanize_matplotlib/fonts").glob("*.ttf") if path.name not in FONTS)


def sources_of_translations(packages: Path) -> Iterator[Path]:
    """The sources of the ``.mo`` files beside them."""
    return packages.rglob("*.po")


def tests(packages: Path) -> Iterator[Path]:
    """The packages' own tests."""
    return (path for path in packages.rglob("tests") if path.is_dir())


def shell(packages: Path) -> Iterator[Path]:
    """The shell of ``celery amqp repl``. Every worker would import it, which takes 7 MB of memory each."""
    return (path for name in ("click_repl", "prompt_toolkit", "wcwidth") for path in packages.glob(f"{name}/"))


RULES = (services, fonts, sources_of_translations, tests, shell)
NO_SHELL = '''"""Replaces click-repl, which Celery's command line imports. No group of commands gets a shell."""


def register_repl(*_, **__):
    pass
'''


def slim(packages: Path) -> int:
    """Delete what the rules find below ``site-packages``. Returns the number of deleted files and folders.

    Also replaces Celery's shell with a module that does nothing. Raises LookupError if a rule finds nothing.
    """
    deleted = 0
    for rule in RULES:
        found = list(rule(packages))
        if not found:
            raise LookupError(f"{rule.__name__}: nothing found in {packages}")
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        deleted += len(found)
    (packages / "click_repl.py").write_text(NO_SHELL)
    return deleted


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
