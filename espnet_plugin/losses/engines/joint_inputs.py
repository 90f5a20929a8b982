"""What the packed joint network reads, and the gradients that it adds up.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.losses.engines.dropout_mask import DropoutMask
from espnet_plugin.losses.engines.rows import sum_dtype

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class JointInputs:
    """Everything the scores of a cell depend on.

    Attributes:
        encoder: projected encoder output e, [B, T, J].
        prediction: projected prediction output g, [B, S+1, J].
        weight: W, [V, J].
        bias: c, [V].
        labels: label that follows position u (any valid index at u = S), int64 [B, S+1].
        blank: index of the blank.
        activation: of the hidden layer; None stands for tanh.
        dropout: mask of the hidden layer, or None.
        dtype: of the matrix products.
    """

    encoder: Tensor
    prediction: Tensor
    weight: Tensor
    bias: Tensor
    labels: Tensor
    blank: int
    activation: Activation | None
    dropout: DropoutMask | None
    dtype: torch.dtype

    @property
    def sum_dtype(self) -> torch.dtype:
        """Dtype in which sums are made."""
        return sum_dtype(self.weight)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Encoder [B*T, J] and prediction [B*(S+1), J] outputs in their common dtype."""
        size = self.encoder.shape[2]
        dtype = torch.promote_types(self.encoder.dtype, self.prediction.dtype)
        return (
            self.encoder.reshape(-1, size).to(dtype),
            self.prediction.reshape(-1, size).to(dtype),
        )


@dataclass(frozen=True)
class JointGradients:
    """Accumulated gradients, in the dtype sums are made in."""

    encoder: Tensor  # [B*T, J]
    prediction: Tensor  # [B*(S+1), J]
    weight: Tensor  # [V, J], with the padding of the vocabulary
    bias: Tensor  # [V]

    @classmethod
    def zeros(cls, inputs: JointInputs, weight: Tensor) -> JointGradients:
        """Zeros of the right shapes.

        Args:
            weight: with the padding of the vocabulary.
        """

        def make(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=inputs.sum_dtype, device=weight.device)

        size = inputs.encoder.shape[2]
        return cls(
            make(inputs.encoder.shape[0] * inputs.encoder.shape[1], size),
            make(inputs.prediction.shape[0] * inputs.prediction.shape[1], size),
            make(*weight.shape),
            make(weight.shape[0]),
        )

    def like(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the shapes and dtypes of what they belong to: encoder, prediction, weight, bias."""
        encoder, prediction, weight, bias = tensors[:4]
        return (
            self.encoder.view(encoder.shape).to(encoder.dtype),
            self.prediction.view(prediction.shape).to(prediction.dtype),
            self.weight[: len(weight)].to(weight.dtype),
            self.bias[: len(bias)].to(bias.dtype),
        )


class Buffers:
    """Working space that chunks share, for fresh pages cost more than sums.

    Args:
        rows: of a whole chunk.
        device: where.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows, self._device = rows, device
        self._by_name: dict[str, Tensor] = {}

    def get(self, name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """[rows, columns], whatever it held before."""
        if name not in self._by_name:
            self._by_name[name] = torch.empty(
                (self.rows, columns), dtype=dtype, device=self._device
            )
        return self._by_name[name][:rows]
