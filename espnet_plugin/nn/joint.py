"""Joint network of the transducer (method.md, "Model": concatenation, linear, tanh, linear).

Shape legend: D_enc/D_pred input sizes, J joint size, V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": nn.functional.silu,
}


class JointNetwork(nn.Module):
    """logits = W_o · f(W [h ; g] + b) + b_o.

    The linear layer over the concatenation [h ; g] is kept as the sum of two linear layers, which
    is the same function without building the [.., D_enc + D_pred] tensor on the T x S grid.

    Args:
        encoder_size: D_enc.
        prediction_size: D_pred.
        joint_size: J.
        vocab_size: V, blank included.
        activation: "tanh" (the paper), "relu" or "silu".
        dropout: probability, applied to the hidden layer while training.

    Raises:
        ValueError: for a size below 1, an unknown activation, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        encoder_size: int,
        prediction_size: int,
        joint_size: int,
        vocab_size: int,
        activation: str = "tanh",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (encoder_size, prediction_size, joint_size, vocab_size)
        if min(sizes) < 1:
            raise ValueError(f"joint network sizes must be at least 1, got {sizes}")
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"unknown joint activation {activation!r}; choose from {sorted(_ACTIVATIONS)}"
            )
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"joint dropout must be in [0, 1), got {dropout}")
        self.vocab_size = vocab_size
        self.activation_name = activation
        self.activation = _ACTIVATIONS[activation]
        self.encoder_proj = nn.Linear(encoder_size, joint_size)
        self.prediction_proj = nn.Linear(prediction_size, joint_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(joint_size, vocab_size)

    def forward(self, encoder_out: Tensor, prediction_out: Tensor) -> Tensor:
        """[..., D_enc], [..., D_pred] -> logits [..., V]; leading dimensions broadcast."""
        return self.combine(self.encoder_proj(encoder_out), self.prediction_proj(prediction_out))

    def combine(self, encoder_projected: Tensor, prediction_projected: Tensor) -> Tensor:
        """[..., J], [..., J] -> logits [..., V], from inputs that are projected already.

        Search and the fused loss project once per frame and once per label, not once per cell.
        """
        hidden = self.activation(encoder_projected + prediction_projected)
        if self.training:
            hidden = self.dropout(hidden)
        logits: Tensor = self.output(hidden)  # [..., V]
        return logits
