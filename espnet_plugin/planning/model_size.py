"""Parameters of a model from its configuration, roughly, where building it would take too long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONFORMERS = ("conformer", "progressive_conformer")


def model_parameters(options: Mapping[str, Any]) -> int | None:
    """Weights of the encoder's blocks, to a few per cent all parameters of a transducer here.

    None for encoders other than (progressive) conformer and e_branchformer.
    """
    conf = options.get("encoder_conf") or {}
    size, hidden = int(conf.get("output_size", 256)), int(conf.get("linear_units", 2048))
    blocks = int(conf.get("num_blocks", 6))
    attention = 5 * size * size  # queries, keys, values, positions, output
    if options.get("encoder") in _CONFORMERS:
        forward = 2 * size * hidden * (2 if conf.get("macaron_style") else 1)
        convolution = 3 * size * size if conf.get("use_cnn_module", True) else 0
        return blocks * (forward + attention + convolution)
    if options.get("encoder") == "e_branchformer":
        forward = 2 * size * hidden * (bool(conf.get("use_ffn")) + bool(conf.get("macaron_ffn")))
        gated = int(conf.get("cgmlp_linear_units", 2048))
        branch = size * gated + gated // 2 * size
        return blocks * (forward + attention + branch + 2 * size * size)
    return None
