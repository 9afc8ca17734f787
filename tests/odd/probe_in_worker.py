"""Included by a worker before the tasks."""

from tests.odd.probe import install

install()
