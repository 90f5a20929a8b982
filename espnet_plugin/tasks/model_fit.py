"""Building a model, if its configuration describes the one whose parameters a file holds.

It is made twice: first on PyTorch's meta device, where parameters have shapes and no memory, and
then in earnest. Both times every parameter is counted as a module takes it up, and building ends at
the first that is too many for the file: ten thousand layers cost as little as ten.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_plugin.packages.weights import Header, read_header

#: Parameters that a task may make and drop again, beside those of the model: heads it replaces.
_SPARE_TENSORS, _SPARE_ELEMENTS = 500, 1 << 22
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def build_fitting_model(
    task: Any, config: Path, weights: Path, device: str
) -> tuple[Any, argparse.Namespace]:
    """What ESPnet's ``build_model_from_file`` gives.

    Args:
        task: one of ESPnet's, or ours.
        config, weights: of one training.
        device: where the model goes.

    Raises:
        ValueError: the file of the parameters is damaged, or they are another model's.
    """
    try:
        header = read_header(weights)
    except ValueError as error:  # an old format that only ESPnet's loader knows, or a damaged file
        try:
            return task.build_model_from_file(config, weights, device)  # type: ignore[no-any-return]
        except Exception:
            raise error from None
    check_shapes(task.build_model, config, weights, header)
    with _no_larger_than(config, weights, header):
        return task.build_model_from_file(config, weights, device)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _no_larger_than(config: Path, weights: Path, header: Header) -> Iterator[None]:
    most_tensors = 2 * len(header.shapes) + _SPARE_TENSORS
    most_elements = 2 * header.elements + _SPARE_ELEMENTS
    tensors = elements = 0

    def count(module: Any, name: str, parameter: Any) -> None:
        nonlocal tensors, elements
        if parameter is None or torch.nn.parameter.is_lazy(parameter):
            return
        tensors += 1
        elements += parameter.numel()
        if tensors > most_tensors or elements > most_elements:
            raise _TooLarge

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    except _TooLarge:
        raise ValueError(
            f"{config}: describes a model of at least {tensors} tensors and {elements} parameters; "
            f"{weights} holds {len(header.shapes)} and {header.elements}. They do not belong "
            "together"
        ) from None
    finally:
        hook.remove()


class _TooLarge(Exception):
    """Raised inside a module's constructor, and nowhere else."""


def check_shapes(
    build: Callable[[argparse.Namespace], torch.nn.Module],
    config: Path,
    weights: Path,
    header: Header,
) -> None:
    """Build a model without memory, and compare its parameters with those in a file.

    What cannot be built so is left to building in earnest, which has the better message.

    Raises:
        ValueError: it has more parameters than the file, or others of the same names.
    """
    with _no_larger_than(config, weights, header):
        try:
            arguments = argparse.Namespace(**yaml.load(config.read_text("utf-8"), _LOADER))
            shapes = _shapes(build, arguments)
        except _TooLarge:
            raise
        except Exception:
            return
    for name, shape in shapes.items():
        there = header.shapes.get(name, shape)
        if there != shape:
            raise ValueError(
                f"{config}: describes a model whose {name} has the shape {shape}; in {weights} it "
                f"has {there}. They do not belong together"
            )


def _shapes(
    build: Callable[[argparse.Namespace], torch.nn.Module], arguments: argparse.Namespace
) -> dict[str, tuple[int, ...]]:
    """Of a model's parameters and buffers; neither random numbers nor the log show a trace."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = build(arguments)
    finally:
        logging.disable(level)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
