"""Registers our classes with ESPnet as soon as ESPnet's ASR task is imported, and not before.

Importing that task takes some ten seconds, and a machine may have no ESPnet at all; yet
`import espnet_plugin` has to be cheap and has to be enough. So it registers at once when the task
is loaded already, and otherwise leaves a finder on `sys.meta_path` that waits for the task's
import and registers at its end.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

TASK_MODULE = "espnet2.tasks.asr"
#: Gets the error when registering fails; None: it is raised. The start-up hook of an installation
#: sets it, since programs that never asked for us have to go on as if we were not there.
on_error: Callable[[Exception], None] | None = None


class _RegisteringLoader(importlib.abc.Loader):
    """Runs the task module's own loader, then registers."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if on_error is not None:
            self._loader.exec_module(module)
            try:
                _register()
            except Exception as error:
                on_error(error)
            return
        from espnet_plugin.compat.nltk_offline import no_nltk_downloads

        with no_nltk_downloads():
            self._loader.exec_module(module)
        _register()


def _register() -> None:
    from espnet_plugin.tasks.registry import register

    register()


class _TaskFinder(importlib.abc.MetaPathFinder):
    """Finds only the task module, by asking the other finders and wrapping what they found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != TASK_MODULE:
            return None
        sys.meta_path.remove(self)  # once is enough, and find_spec below must not come back here
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


def install() -> None:
    """See the module's docstring. Idempotent; harmless where ESPnet is not installed."""
    loaded = sys.modules.get(TASK_MODULE)
    initializing = getattr(getattr(loaded, "__spec__", None), "_initializing", False)
    if loaded is not None and not initializing:
        _register()
    elif loaded is None and not any(isinstance(f, _TaskFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TaskFinder())
