"""Model files from outside: tensors, and nothing that could run or that is larger than it looks."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.data.kaldi_files import some
from espnet_plugin.packages.bounded_zip import bounded_zip

#: Bytes of the table of names and shapes in a model file; some 100 a tensor.
_TABLE = 8 << 20


@dataclass(frozen=True)
class Header:
    """What a model file says about its tensors.

    Attributes:
        shapes: by name.
        elements: of all tensors together.
        largest: size of the largest dimension of any tensor.
    """

    shapes: Mapping[str, tuple[int, ...]]
    elements: int
    largest: int


def read_header(path: Path) -> Header:
    """Names and shapes of a model file's tensors; the numbers themselves are not read.

    Raises:
        ValueError: see `read_weights`.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in read_weights(path).items()}
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    return Header(shapes, sum(_product(shape) for shape in shapes.values()), largest)


def _product(shape: Iterable[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def read_weights(path: Path) -> Mapping[str, Any]:
    """The tensors of a model file, by name; not in memory until they are used.

    Raises:
        ValueError: damaged, made to run code when it is loaded, or with tensors that are larger
            than the file.
    """
    import torch

    try:
        _check_members(path)
        states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{path}: refused: it holds more than tensors, and loading it could run code "
            f"({reason[-1] if reason else error})"
        ) from error
    except Exception as error:  # torch raises many kinds on damaged files
        raise ValueError(f"{path}: not a readable model file ({error}); fetch it again") from error
    if not isinstance(states, Mapping) or not all(torch.is_tensor(v) for v in states.values()):
        raise ValueError(f"{path}: not a table of tensors; expected the parameters of a model")
    _check_sizes(path, states)
    return states


def _check_members(path: Path) -> None:
    """The zip file that torch.save writes: nothing compressed, and a table of bounded size.

    Raises:
        ValueError: it is something else.
        zipfile.BadZipFile: it is no zip file.
    """
    if not zipfile.is_zipfile(path):
        return  # torch says what it is
    with bounded_zip(path) as file:
        for info in file.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its member {info.filename} is compressed")
            if info.filename.endswith(".pkl") and info.file_size > _TABLE:
                raise ValueError(f"its table of tensors has {info.file_size} bytes")


def _check_sizes(path: Path, states: Mapping[str, Any]) -> None:
    """A tensor of strides 0 has any size in no space, and would be a model of that size.

    Raises:
        ValueError: a tensor is larger than its storage, or all are than the file.
    """
    import torch

    total = 0
    for name, tensor in states.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        size = tensor.numel() * tensor.element_size() if plain else -1
        if size < 0 or size > tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: parameter {name} is larger than what the file has of it")
        total += size
    # parameters that share their storage (tied ones) stand under several names
    if total > 4 * path.stat().st_size:
        raise ValueError(f"{path}: its parameters are larger than the file")


def check_names(path: Path, have: Iterable[str], want: Iterable[str]) -> None:
    """A model's parameters must all be there: ESPnet would leave the rest at random values.

    Raises:
        ValueError: naming parameters that the file lacks.
    """
    missing = sorted(set(want) - set(have))
    if missing:
        raise ValueError(
            f"{path}: lacks parameters of the model that its configuration describes: "
            f"{some(missing)}; fetch or pack it again"
        )
