"""Progressive training of neural transducers inside ESPnet (Zhou et al., Interspeech 2022).

Importing this package makes its model, decoders, losses, optimizer and schedulers available in
ESPnet's own tables, whether ESPnet is imported before or after.
"""

from espnet_plugin import import_hook as _import_hook
from espnet_plugin import moved as _moved

__version__ = "0.1.0"
__all__ = ["__version__", "register"]


def register() -> None:
    """Registers with ESPnet now (imports ESPnet's ASR task).

    Raises:
        ImportError: if ESPnet is not installed.
    """
    from espnet_plugin.tasks.registry import register as register_now

    register_now()


_import_hook.install()
_moved.install()
