"""Limits while workers are killed, judged from outside: ``make limits``."""
