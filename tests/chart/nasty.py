"""Passwords that have broken charts: each has what some layer between a secret and a server takes for its own."""

PASSWORDS = [
    "for-development-only",
    'with"quote',
    "with'apostrophe",
    "back\\slash",
    'both\\"',
    "ends in a backslash\\",
    "@:/#%?&=+",
    "%41%zz",
    "$HOME ${HOME} $(id) `id`",
    "$(REDIS_PASSWORD)",
    "{{ .Values }}",
    " spaces around ",
    "tab\tand # hash",
    "* ? [a-z] ~",
    "-n",
    "pässwörd 비밀번호",
    "a line break at the end\n",
    "\\x41\\n",
    "p" * 500,
]
