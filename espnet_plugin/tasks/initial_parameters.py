"""Do the parameters that a training starts from fit its model? Told before anything trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from espnet2.torch_utils.safe_torch_load import safe_torch_load

from espnet_plugin.data.kaldi_files import some


def check_initial_parameters(init_param: str, model: torch.nn.Module) -> None:
    """Compare a model file with a model, for ESPnet's ``--init_param file:source:target:exclude``.

    Only whole-model starts are looked at (no source and target key), which the pipeline uses. What
    the model has beyond the file starts at random, as ESPnet does it.

    Raises:
        ValueError: the file has parameters of other shapes or names; says which.
    """
    path, source, target, exclude = [*init_param.split(":", 3), "", "", ""][:4]
    if source or target:
        return
    prefixes = tuple(part for part in exclude.split(",") if part)
    states: Mapping[str, torch.Tensor] = safe_torch_load(Path(path), map_location="cpu", mmap=True)
    own = model.state_dict()
    taken = {k: v for k, v in states.items() if not prefixes or not k.startswith(prefixes)}
    unknown = [name for name in taken if name not in own]
    shapes = [
        f"{name} {list(value.shape)} instead of {list(own[name].shape)}"
        for name, value in taken.items()
        if name in own and value.shape != own[name].shape
    ]
    if not taken:
        raise ValueError(f"{path}: nothing to start from is left, all of it is excluded: {exclude}")
    if unknown or shapes:
        told = [
            f"{what}: {some(names)}"
            for what, names in (("other sizes", shapes), ("not in this model", unknown))
            if names
        ]
        raise ValueError(
            f"{path}: made for another model; {'; '.join(told)}; take the model's encoder, decoder "
            "and input from the config.yaml beside it, or start from parts of it that fit "
            "(--init_from_parts; in YAML init_from: {parts: , exclude: })"
        )
