"""Unique calls from many processes at once, judged from outside: ``make unique``."""
