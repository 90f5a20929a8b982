"""Names of accelerators, and how `accelerators:` of a stage becomes objects."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from espnet_plugin.corpora.strict_parser import nearest
from espnet_plugin.nn.accelerators.base import Accelerator
from espnet_plugin.nn.accelerators.channels_last import ChannelsLast
from espnet_plugin.nn.accelerators.distill import Distill
from espnet_plugin.nn.accelerators.ema import MovingAverage
from espnet_plugin.nn.accelerators.fast_dropout import FastDropout
from espnet_plugin.nn.accelerators.layer_drop import LayerDrop
from espnet_plugin.nn.accelerators.precision import Precision
from espnet_plugin.nn.accelerators.rep_conv import RepConv
from espnet_plugin.nn.accelerators.repa import Repa
from espnet_plugin.nn.accelerators.selective import Selective
from espnet_plugin.nn.accelerators.slim import Slim
from espnet_plugin.nn.accelerators.sparse import Sparse

_classes: dict[str, type[Accelerator]] = {
    "channels_last": ChannelsLast,
    "distill": Distill,
    "ema": MovingAverage,
    "fast_dropout": FastDropout,
    "layer_drop": LayerDrop,
    "precision": Precision,
    "rep_conv": RepConv,
    "repa": Repa,
    "selective": Selective,
    "slim": Slim,
    "sparse": Sparse,
}


def register_accelerator(name: str, accelerator: type[Accelerator]) -> None:
    """Makes `accelerators: {name: {...}}` build `accelerator`; its options are the constructor's.

    Raises:
        ValueError: another class has this name.
    """
    if _classes.get(name, accelerator) is not accelerator:
        raise ValueError(f"the accelerator {name!r} is {_classes[name].__qualname__} already")
    _classes[name] = accelerator


def accelerator_names() -> list[str]:
    """All registered names."""
    return sorted(_classes)


def build_accelerators(options: Mapping[str, Any]) -> dict[str, Accelerator]:
    """Build what a stage's `accelerators:` asks for, in the order of their names.

    Args:
        options: name -> keyword arguments; None switches one off that a file below switched on.

    Raises:
        ValueError: an unknown name or option, or a value that the accelerator refuses.
    """
    built = {}
    for name in sorted(options):
        if options[name] is None:
            continue
        if name not in _classes:
            raise ValueError(
                f"accelerators.{name}: unknown{nearest(name, accelerator_names())}; known: "
                f"{', '.join(accelerator_names())}"
            )
        if not isinstance(options[name], Mapping):
            raise ValueError(
                f"accelerators.{name} must be a mapping of its options ({{}} for none), got "
                f"{options[name]!r}"
            )
        known = list(inspect.signature(_classes[name]).parameters)
        for key in options[name]:
            if key not in known:
                raise ValueError(
                    f"accelerators.{name}.{key}: unknown option{nearest(key, known)}; known: "
                    f"{', '.join(known) or 'none'}"
                )
        try:
            built[name] = _classes[name](**options[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"accelerators.{name}: {error}") from error
    return built
