"""Takes out of an image what its packages bring and nothing here reads: ``python slim.py SITE_PACKAGES``.

Standard library only. Each rule must find something: one that finds nothing is about a package that has changed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

AWS = {"s3", "sesv2", "sso", "sso-oidc", "sts"}
"""Services whose descriptions stay: files, mail, and those that the credentials of a role come from."""
FONTS = {"NanumGothic.ttf", "NanumGothicBold.ttf"}
"""Those that `app.reports.pdf` draws with."""


def services(packages: Path) -> Iterator[Path]:
    """Descriptions of the other services of Amazon's, some 400."""
    return (path for path in (packages / "botocore/data").glob("*/") if path.name not in AWS)


def fonts(packages: Path) -> Iterator[Path]:
    """Weights that no report uses."""
    return (path for path in (packages / "koreanize_matplotlib/fonts").glob("*.ttf") if path.name not in FONTS)


def sources_of_translations(packages: Path) -> Iterator[Path]:
    """What the ``.mo`` files beside them were compiled from."""
    return packages.rglob("*.po")


def tests(packages: Path) -> Iterator[Path]:
    """The packages' own."""
    return (path for path in packages.rglob("tests") if path.is_dir())


def shell(packages: Path) -> Iterator[Path]:
    """That of ``celery amqp repl``, with which every worker would start: 7 MB of memory each."""
    return (path for name in ("click_repl", "prompt_toolkit", "wcwidth") for path in packages.glob(f"{name}/"))


RULES = (services, fonts, sources_of_translations, tests, shell)
NO_SHELL = '''"""In place of click-repl, which Celery's command line imports: a group of commands gets no shell."""


def register_repl(*_, **__):
    pass
'''


def slim(packages: Path) -> int:
    """Delete what the rules find below ``site-packages``. Returns how many files and folders that were.

    In place of Celery's shell there is one that does nothing.

    Raises LookupError for a rule that finds nothing.
    """
    deleted = 0
    for rule in RULES:
        found = list(rule(packages))
        if not found:
            raise LookupError(f"{rule.__name__}: there is nothing of that in {packages}")
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
