"""Hooks that run when the program has imported a module."""

from __future__ import annotations

import sys

from tracekit.auto import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Hook = Callable[[ModuleType], object]


class Hooks:
    """
    Hooks by the module that they wait for, and the finder that notices its import.

    It finds no module itself: it asks the other finders, and lets the loader that they name run
    the hooks after the module, once. The loader stays the module's own, so that resources,
    sources and `python -m` see what they would see without us.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[str, Hook]]] = {}

    def add(self, module: str, name: str, hook: Hook) -> None:
        """Run *hook* with *module* when it has been imported; *name* says which, should it fail."""
        self._waiting.setdefault(module, []).append((name, hook))

    def watch(self) -> None:
        """Run the hooks of modules that are there, and those of others when they come."""
        for name in self._waiting:
            module = sys.modules.get(name)
            if module is not None:
                self._run(name, module)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return what the other finders find, made to run the hooks of *name*."""
        if name not in self._waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                failures.guarded(f"import of {name}", lambda spec=spec: self._arm(spec))  # type: ignore[misc]
                return spec
        return None

    def _arm(self, spec: ModuleSpec) -> None:
        """Shadow the method of this one loader; a loader that is a class would load all modules so."""
        loader: Any = spec.loader
        if loader is None or isinstance(loader, type):
            failures.count(f"import of {spec.name}", "its loader cannot be watched")
            return
        load = loader.exec_module

        def load_and_run(module: ModuleType) -> None:
            if module.__spec__ is not spec:  # a loader of many modules, as of a zip file
                load(module)
                return
            loader.__dict__.pop("exec_module", None)
            load(module)
            self._run(spec.name, module)

        loader.exec_module = load_and_run

    def _run(self, name: str, module: ModuleType) -> None:
        for title, hook in self._waiting[name]:
            failures.guarded(title, lambda hook=hook: hook(module))  # type: ignore[misc]
