"""Text for a terminal: what others wrote must not move its cursor, colour it, or turn its lines around."""

from __future__ import annotations

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of Unicode: controls, formats (those of direction among them), surrogates, unassigned, separators."""


def printable(text: object, *, keep: str = "") -> str:
    """The text with escapes, as Python writes them, for all that a terminal would not show; ``keep`` stays."""
    return "".join(
        each if each in keep or unicodedata.category(each) not in HIDDEN else each.encode("unicode_escape").decode()
        for each in str(text)
    )


def printable_lines(text: object) -> str:
    """The same for a text of several lines: ends of lines and tabs stay."""
    return printable(text, keep="\n\t")
