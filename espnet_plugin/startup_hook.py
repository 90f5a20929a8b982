"""What makes ESPnet know our classes after `pip install`, without an import.

Installing puts a copy of this file beside the package, ``_espnet_progressive_startup.py``, and a
``.pth`` file whose one line imports it whenever a Python of that environment starts (setup.py).
So it imports nothing that is not loaded by then, not even the rest of this package, and only
leaves a finder that waits for ESPnet's tasks. ``ESPNET_PROGRESSIVE_STARTUP=0`` in the environment:
not even that.
"""

import os
import sys

#: The package of ESPnet's tasks, imported before any of them.
TASKS = "espnet2.tasks"


class WaitingFinder:
    """Finds nothing. When ESPnet's tasks are first looked for, it imports espnet_plugin."""

    def __init__(self) -> None:
        self.waiting = True

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """The import system's question; the answer is always that others know better."""
        # It stays where it is: sys.meta_path is being walked, and must not get shorter.
        if fullname == TASKS and self.waiting:
            self.waiting = False
            load()


def load() -> None:
    """Imports espnet_plugin, which then waits for the ASR task.

    Nobody asked for it in this program: what fails is said and breaks nothing.
    """
    if "espnet_plugin" in sys.modules:
        return  # this program did ask
    try:
        from espnet_plugin import import_hook

        import_hook.on_error = complain
    except ModuleNotFoundError as error:
        if error.name != "espnet_plugin":  # else it was removed, and this file left behind
            complain(error)
    except Exception as error:
        complain(error)


def complain(error: Exception) -> None:
    """Says on standard error that ESPnet does without us."""
    print(
        "espnet-progressive: its classes are not in ESPnet's tables, everything else works: "
        f"{type(error).__name__}: {error}",
        file=sys.stderr,
    )


def install() -> None:
    """Leaves the finder, once."""
    if os.environ.get("ESPNET_PROGRESSIVE_STARTUP") == "0":
        return
    if not any(type(finder).__name__ == "WaitingFinder" for finder in sys.meta_path):
        sys.meta_path.insert(0, WaitingFinder())


install()
