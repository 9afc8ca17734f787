"""Loads what ODD_PROBE names: the module that puts a guard out in this process."""

from __future__ import annotations

import importlib
import os


def install() -> None:
    if name := os.environ.get("ODD_PROBE"):
        importlib.import_module(f"tests.support.probes.{name}")
