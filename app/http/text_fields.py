"""Text from outside: what an outlet (XML, mail, PDF, a terminal) cannot carry is refused where it comes in.

`pressroom.text.carried` is for what was stored before.
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
"""The 66 code points that are no characters, and never will be: https://www.unicode.org/faq/private_use.html."""


def refused_in(text: str) -> str:
    """The characters that an outlet cannot carry, as "U+0007, U+D800"; the first few of them. Empty for none."""
    if is_carried(text) and not NONCHARACTERS.search(text):
        return ""
    refused = dict.fromkeys(one for one in text if not is_carried(one) or NONCHARACTERS.match(one))
    return ", ".join(f"U+{ord(one):04X}" for one in list(refused)[:5])


def validate_carried(text: Any) -> None:
    """Raises ValidationError for control characters (but tabs and line ends), half surrogates and noncharacters."""
    if refused := refused_in(str(text)):
        raise ValidationError(f"Characters that not every reader can show are not allowed: {refused}.", code=CODE)


def install() -> None:
    """Have every text field of every form and serializer refuse them: the admin's and those of libraries as well.

    Django and Django REST framework give each the same validator, against the one character that Postgres cannot store.
    Theirs is this one from now on: a field that is declared anywhere cannot be forgotten.
    """

    def validate(self: ProhibitNullCharactersValidator, value: Any) -> None:
        validate_carried(value)

    ProhibitNullCharactersValidator.__call__ = validate  # type: ignore[method-assign]
