"""Names that read alike are one name."""

from __future__ import annotations

import unicodedata
from unicodedata import normalize

# Letters that show as nothing: Hangul fillers. The name validator takes them for letters.
INVISIBLE = str.maketrans("", "", "\u115f\u1160\u3164\uffa0")
LONGEST = 600
"""Characters of a folded name: case folding makes three of one at most, and a name has 150."""
ALPHABETS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
"""Scripts whose letters look like those of another one in this list."""


def fold(name: str) -> str:
    """What two names that differ in case, width or form alone have in common (NFKC, case folding)."""
    return normalize("NFKC", normalize("NFKC", name).casefold()).translate(INVISIBLE)[:LONGEST]


def is_deceptive(name: str) -> bool:
    """Whether the name has invisible letters, or mixes alphabets that look alike."""
    if name.translate(INVISIBLE) != name:
        return True
    words = {unicodedata.name(letter, "").partition(" ")[0] for letter in name if letter.isalpha()}
    return len(words.intersection(ALPHABETS)) > 1
