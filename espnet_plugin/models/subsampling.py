"""The constant subsampling of an encoder, measured on the encoder itself.

Shape legend: T' feature frames, F features, N probes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from espnet_plugin.nn.chunking import Subsampling


@torch.no_grad()
def measure_subsampling(
    encoder: nn.Module, encode: Callable[[Tensor, Tensor], Tensor], features: int
) -> Subsampling:
    """Encoder frames as a function of feature frames.

    Args:
        encoder: whose parameters tell device and dtype; in evaluation mode.
        encode: features [N, T', F] and lengths [N] -> encoder frames [N].
        features: F.

    Raises:
        ValueError: when the encoder's length is not floor((T' - offset) / factor).
    """
    parameter = next(encoder.parameters())
    lengths = torch.arange(200, 264, device=parameter.device)
    feats = torch.zeros(len(lengths), 263, features, device=parameter.device, dtype=parameter.dtype)
    frames = encode(feats, lengths).tolist()
    steps = [i for i in range(1, len(frames)) if frames[i] != frames[i - 1]]
    factor = steps[1] - steps[0] if len(steps) > 1 else 0
    offset = int(lengths[steps[0]]) - factor * frames[steps[0]] if factor else 0
    found = Subsampling(max(factor, 1), offset)
    if factor < 1 or frames != [found.encoder_frames(n) for n in lengths.tolist()]:
        raise ValueError(
            f"{type(encoder).__name__} maps feature frames {lengths.tolist()[:9]}... to "
            f"{frames[:9]}... encoder frames, which is no constant subsampling; chunked "
            "training needs one (set loss_conf.chunk_size to 0)"
        )
    return found
