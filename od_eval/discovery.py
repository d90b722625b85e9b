"""Finds the modules of a package, so that a new one (a section, a check) needs no registration."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules_of(package: ModuleType) -> list[ModuleType]:
    """Imports all modules directly in a package, in the order of their names."""
    return [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name)
    ]
