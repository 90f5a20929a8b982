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
        encoder_dropout: the same on the encoder's side, before its linear layer.
        prediction_dropout: the same on the other side. A prediction network with dropout after its
            last layer has dropped its side already.

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
        encoder_dropout: float = 0.0,
        prediction_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (encoder_size, prediction_size, joint_size, vocab_size)
        if min(sizes) < 1:
            raise ValueError(f"joint network sizes must be at least 1, got {sizes}")
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"unknown joint activation {activation!r}; choose from {sorted(_ACTIVATIONS)}"
            )
        rates = (dropout, encoder_dropout, prediction_dropout)
        if not all(0.0 <= rate < 1.0 for rate in rates):
            raise ValueError(f"joint dropout must be in [0, 1), got {rates}")
        self.vocab_size = vocab_size
        self.activation_name = activation
        self.activation = _ACTIVATIONS[activation]
        self.encoder_proj = nn.Linear(encoder_size, joint_size)
        self.prediction_proj = nn.Linear(prediction_size, joint_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.input_dropouts = nn.ModuleDict(
            {"encoder": nn.Dropout(encoder_dropout), "prediction": nn.Dropout(prediction_dropout)}
        )
        self.output = nn.Linear(joint_size, vocab_size)

    def forward(self, encoder_out: Tensor, prediction_out: Tensor) -> Tensor:
        """[..., D_enc], [..., D_pred] -> logits [..., V]; leading dimensions broadcast."""
        return self.combine(
            self.project_encoder(encoder_out), self.project_prediction(prediction_out)
        )

    def project_encoder(self, encoder_out: Tensor) -> Tensor:
        """[..., D_enc] -> [..., J], with dropout on the input while training."""
        projected: Tensor = self.encoder_proj(self.input_dropouts["encoder"](encoder_out))
        return projected

    def project_prediction(self, prediction_out: Tensor) -> Tensor:
        """[..., D_pred] -> [..., J], with dropout on the input while training."""
        dropped = self.input_dropouts["prediction"](prediction_out)
        projected: Tensor = self.prediction_proj(dropped)
        return projected

    def combine(self, encoder_projected: Tensor, prediction_projected: Tensor) -> Tensor:
        """[..., J], [..., J] -> logits [..., V], from inputs that are projected already.

        Search and the fused loss project once per frame and once per label, not once per cell.
        """
        hidden = self.activation(encoder_projected + prediction_projected)
        if self.training:
            hidden = self.dropout(hidden)
        logits: Tensor = self.output(hidden)  # [..., V]
        return logits
