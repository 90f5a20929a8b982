"""Does a checkpoint belong to this token list?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.data.kaldi_files import some

# Layers whose first dimension is the vocabulary: the encoder's output and the joint network's.
_OUTPUTS = ("ctc.ctc_lo.weight", "joint_network.output.weight")


def check_checkpoint_vocabulary(checkpoint: Path, tokens: Sequence[str]) -> None:
    """Compare a model file with a token list, before training starts from it.

    The ``config.yaml`` beside it tells the tokens themselves; without one, the shapes of the
    output layers tell their number.

    Raises:
        ValueError: the file cannot be read, or its vocabulary is another one.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such checkpoint; train the stage it comes from first")
    remedy = (
        "use the token list it was trained with, or keep its encoder alone and make all that "
        "depends on the labels anew (--init_from_parts encoder; in YAML init_from.parts)"
    )
    trained = _trained_tokens(checkpoint.parent / "config.yaml")
    for name, weight in _weights(checkpoint).items():
        if trained is None and name.endswith(_OUTPUTS) and weight.shape[0] != len(tokens):
            raise ValueError(
                f"{checkpoint}: made for another vocabulary: {name} has {weight.shape[0]} outputs, "
                f"the token list {len(tokens)} tokens; {remedy}"
            )
    if trained is None or trained == list(tokens):
        return
    if sorted(trained) == sorted(tokens):
        n = next(n for n, token in enumerate(tokens) if token != trained[n])
        raise ValueError(
            f"{checkpoint}: its tokens stand in another order: number {n} is {trained[n]!r}, in "
            f"the token list {tokens[n]!r}; {remedy}"
        )
    differences = [
        f"{what}: {some(sorted(labels))}"
        for what, labels in (
            ("labels that the model does not know", set(tokens) - set(trained)),
            ("labels of the model that the token list lacks", set(trained) - set(tokens)),
        )
        if labels
    ]
    raise ValueError(
        f"{checkpoint}: made for another vocabulary; {'; '.join(differences)}; {remedy}"
    )


def known_tokens(checkpoint: Path) -> list[str]:
    """The tokens that a model file was trained with.

    Raises:
        ValueError: no ``config.yaml`` beside it tells them.
    """
    tokens = _trained_tokens(checkpoint.parent / "config.yaml")
    if tokens is None:
        raise ValueError(f"{checkpoint}: no config.yaml beside it tells the labels of the model")
    return tokens


def check_extension(checkpoint: Path, tokens: Sequence[str], token_type: str | None) -> None:
    """Check that a model's labels can be extended to a token list.

    Raises:
        ValueError: the list lacks some of them, or both are subwords of different models.
    """
    trained = known_tokens(checkpoint)
    if token_type == "bpe" and trained != list(tokens):
        raise ValueError(
            f"{checkpoint}: subwords of another model are other labels, even where they look "
            "alike; train on with the model's own subwords (init_from without vocabulary)"
        )
    missing = sorted(set(trained) - set(tokens))
    if missing:
        raise ValueError(
            f"{checkpoint}: the token list lacks labels that the model has: {some(missing)}; "
            "replay more of the old data, or add them to the list"
        )


def _weights(checkpoint: Path) -> Mapping[str, Any]:
    import torch

    try:
        # mmap: only the shapes are needed
        states = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds on damaged files
        raise ValueError(
            f"{checkpoint}: not a readable checkpoint ({error}); train its stage again"
        ) from error
    states = states.get("model", states)  # checkpoint.pth holds optimizer and others as well
    return {name: value for name, value in states.items() if hasattr(value, "shape")}


def _trained_tokens(config: Path) -> list[str] | None:
    if not config.is_file():
        return None
    loaded = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    tokens = loaded.get("token_list")
    return [str(token) for token in tokens] if isinstance(tokens, list) else None
