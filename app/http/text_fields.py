"""Validation of text input. Characters that an output format (XML, mail, PDF, a terminal) cannot carry are refused.

`pressroom.text.carried` replaces them in text that was stored before.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator

from pressroom.text import is_carried

CODE = "characters_not_carried"
NONCHARACTERS = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF)) + "]"
)
"""The 66 code points that will never be characters: https://www.unicode.org/faq/private_use.html."""


def refused_in(text: str) -> str:
    """Return the first few characters that an output format cannot carry, as "U+0007, U+D800", or ""."""
    if is_carried(text) and not NONCHARACTERS.search(text):
        return ""
    refused = dict.fromkeys(one for one in text if not is_carried(one) or NONCHARACTERS.match(one))
    return ", ".join(f"U+{ord(one):04X}" for one in list(refused)[:5])


def validate_carried(text: Any) -> None:
    """Raises ValidationError for control characters (except tabs and line ends), half surrogates and noncharacters."""
    if refused := refused_in(str(text)):
        raise ValidationError(
            f"Some readers cannot show these characters, so they are not allowed: {refused}.", code=CODE
        )


def install() -> None:
    """Make every text field of every form and serializer refuse them, including those of the admin and of libraries.

    Django and Django REST framework give every text field a validator against the one character that Postgres cannot
    store. This replaces the check of that validator, so that no field can be forgotten.
    """

    def validate(self: ProhibitNullCharactersValidator, value: Any) -> None:
        validate_carried(value)

    ProhibitNullCharactersValidator.__call__ = validate  # type: ignore[method-assign]
