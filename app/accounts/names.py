"""Folding of user names, so that names that read alike count as one name."""

from __future__ import annotations

import unicodedata
from unicodedata import normalize

# Hangul fillers: letters that are invisible. Django's name validator accepts them as letters.
INVISIBLE = str.maketrans("", "", "\u115f\u1160\u3164\uffa0")
LONGEST = 600
"""Maximum length of a folded name: case folding turns one character into at most three, and a name has up to 150."""
ALPHABETS = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
"""Scripts that contain letters which look like letters of another script in this list."""


def fold(name: str) -> str:
    """Return the form that names share if they differ only in case, width or Unicode form (NFKC, case folding)."""
    return normalize("NFKC", normalize("NFKC", name).casefold()).translate(INVISIBLE)[:LONGEST]


def is_deceptive(name: str) -> bool:
    """Whether the name contains invisible letters or mixes alphabets with letters that look alike."""
    if name.translate(INVISIBLE) != name:
        return True
    words = {unicodedata.name(letter, "").partition(" ")[0] for letter in name if letter.isalpha()}
    return len(words.intersection(ALPHABETS)) > 1
