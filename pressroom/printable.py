"""Text for a terminal: foreign text must not move the cursor, change colours or reverse the direction of lines."""

from __future__ import annotations

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories: controls, formats (such as direction marks), surrogates, private use, unassigned, separators."""


def printable(text: object, *, keep: str = "") -> str:
    """Return the text with Python's escapes for all characters that a terminal would not show, except ``keep``."""
    return "".join(
        each if each in keep or unicodedata.category(each) not in HIDDEN else each.encode("unicode_escape").decode()
        for each in str(text)
    )


def printable_lines(text: object) -> str:
    """Return what `printable` does, with line ends and tabs kept."""
    return printable(text, keep="\n\t")
