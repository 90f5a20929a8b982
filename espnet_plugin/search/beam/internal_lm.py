"""The language model inside a transducer (method.md, "Decoding").

"Zero-encoder" estimate: the joint network is given an encoder output of zeros and the blank is
taken out of the distribution,

    p_ILM(v | a_1..a_s) = softmax_{v != ε} joint(0, g_s).

Shapes: V vocabulary with blank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def internal_lm_log_probs(prediction_out: Tensor, joint: Any, *, blank: int = 0) -> Tensor:
    """log p_ILM for prediction-network outputs.

    Args:
        prediction_out: [..., D_pred].
        joint: The joint network.
        blank: Index of blank.

    Returns:
        [..., V] natural logarithms that sum to one over the labels; -inf at blank.
    """
    return internal_lm_from_projected(joint.prediction_proj(prediction_out), joint, blank=blank)


def internal_lm_from_projected(projected: Tensor, joint: Any, *, blank: int = 0) -> Tensor:
    """The same for outputs [..., J] that went through ``joint.prediction_proj`` already."""
    zeros = projected.new_zeros(joint.encoder_proj.in_features)
    logits = joint.combine(joint.encoder_proj(zeros), projected)  # [..., V]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    no_blank = torch.arange(logits.shape[-1], device=logits.device) == blank
    result: Tensor = logits.masked_fill(no_blank, float("-inf")).log_softmax(-1)
    return result
