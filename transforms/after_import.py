"""Calls a function with a module as soon as somebody has imported it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class AfterImport(MetaPathFinder):
    """Finds one module as it is found anyway, with a loader that calls a function after it; once.

    Args:
        name: of the module, which is not imported yet.
        call: called with the module.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], None]):
        self.name, self.call = name, call

    def wait(self) -> None:
        """Wait for the module."""
        sys.meta_path.insert(0, self)

    def withdraw(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module, if it is the one that is waited for."""
        if name != self.name or (spec := PathFinder.find_spec(name, path)) is None or spec.loader is None:
            return None
        self.withdraw()
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self.call(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
