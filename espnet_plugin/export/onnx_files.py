"""Writing one network as an ONNX file, with metadata, and as a smaller one with int8 weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Of the oldest runtimes that anybody has; what our operators need.
OLDEST_OPSET = 13
#: Largest difference between PyTorch's and the file's numbers, relative to the largest of them.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Network:
    """One of the three networks.

    Attributes:
        name: of the file, without ending.
        module: in evaluation mode.
        example: inputs that show their shapes; as large as lengths may not stay fixed.
        inputs, outputs: names; axes of inputs and outputs that vary: name -> {axis: its name}.
        padded: whether the second output tells how many frames of the first are valid.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]
    padded: bool = False


def require(*packages: str) -> None:
    """Raises ImportError where a package of the extra is missing, saying how to get it."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"export needs {', '.join(missing)}: pip install 'espnet-progressive[export]'"
        )


def write_network(network: Network, folder: Path, opset: int, meta: Mapping[str, Any]) -> Path:
    """Write ``<name>.onnx`` and compare it with the module.

    Raises:
        ValueError: an operator has no counterpart in that opset, or the numbers differ.
    """
    path = folder / f"{network.name}.onnx"
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, about shapes that the axes cover
            torch.onnx.export(
                network.module,
                network.example,
                str(path),
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                dynamic_axes={name: dict(axes) for name, axes in network.axes.items()},
                opset_version=opset,
                dynamo=False,  # its successor fixes the example's length in relative attention
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        path.unlink(missing_ok=True)
        raise ValueError(
            f"the {network.name} ({type(network.module).__name__}) cannot be written in ONNX of "
            f"opset {opset}: {str(error).splitlines()[0]}"
        ) from error
    _add_metadata(path, meta)
    _compare(network, path)
    return path


def _add_metadata(path: Path, meta: Mapping[str, Any]) -> None:
    import onnx

    model = onnx.load(str(path))
    for key, value in meta.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(model, str(path))


def run(path: Path, inputs: Sequence[Tensor], names: Sequence[str]) -> list[np.ndarray]:
    """What ONNX Runtime computes from a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    found: list[np.ndarray] = session.run(None, feed)
    return found


def _compare(network: Network, path: Path) -> None:
    with torch.no_grad():
        wanted = network.module(*network.example)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    found = run(path, network.example, network.inputs)
    for name, ours, theirs in zip(network.outputs, wanted, found, strict=True):
        if network.padded and ours.dim() == 3:  # [N, T, J]; after an utterance's end is anything
            inside = torch.arange(ours.shape[1]) < wanted[1][:, None]
            ours, theirs = ours[inside], theirs[inside.numpy()]
        largest = float(ours.abs().max())
        difference = float(np.abs(ours.numpy() - theirs).max())
        if not difference <= TOLERANCE * max(largest, 1.0):
            raise ValueError(
                f"{path}: {name} differs from PyTorch's by {difference:.3g} (largest value "
                f"{largest:.3g}); this network is not exported right, please report it"
            )


def write_int8(path: Path) -> Path:
    """``<name>.int8.onnx``: weights of matrix products as int8, a quarter of the size.

    Raises:
        ValueError: the file has an operator that cannot be quantised.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name(f"{path.stem}.int8.onnx")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends preprocessing on every call
    try:
        quantize_dynamic(
            str(path), str(target), op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
        )
    except Exception as error:
        target.unlink(missing_ok=True)
        raise ValueError(f"{path}: cannot be made int8: {error}; export with --no_int8") from error
    finally:
        root.setLevel(level)
    return target
