"""Placeholder until the checks below are written."""


def refuse_misconfiguration() -> None:
    """Refuse to serve with settings that are wrong."""
