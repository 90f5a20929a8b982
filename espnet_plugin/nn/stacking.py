"""Blocks of a trained encoder as the first blocks of another depth (stacking, arXiv 2307.06440).

The stacked model is not the function that the shallow one was: expect a jump of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

BLOCKS = "encoder.encoders."


def stack_blocks(states: Mapping[str, Tensor], blocks: Sequence[int]) -> dict[str, Tensor]:
    """A model's parameters and buffers with other encoder blocks.

    Args:
        states: state dict; blocks are named ``encoder.encoders.<i>.``, from 0.
        blocks: block i of the result is block ``blocks[i]`` of ``states``.

    Returns:
        A state dict of ``len(blocks)`` blocks; everything else as it was.

    Raises:
        ValueError: ``states`` has no blocks, or not all that ``blocks`` names.
    """
    by_block: dict[int, dict[str, Tensor]] = {}
    stacked = {}
    for name, value in states.items():
        number, dot, rest = name.removeprefix(BLOCKS).partition(".")
        if name.startswith(BLOCKS) and dot and number.isdigit():
            by_block.setdefault(int(number), {})[rest] = value
        else:
            stacked[name] = value
    missing = sorted(set(blocks) - by_block.keys())
    if missing or not blocks:
        raise ValueError(
            f"blocks {list(blocks)}: the model to start from has encoder blocks 0 to "
            f"{len(by_block) - 1}, not {missing}"
            if by_block and blocks
            else f"blocks {list(blocks)}: there is nothing to stack"
        )
    for target, source in enumerate(blocks):
        for rest, value in by_block[source].items():
            stacked[f"{BLOCKS}{target}.{rest}"] = value.clone()
    return stacked
