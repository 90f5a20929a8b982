"""Prediction networks: limited label context (the paper's, k = 1) and full context (LSTM).

Shape legend: B batch, N hypotheses, S labels, k context, D output size, V vocabulary with blank.
The beginning of a sequence is the blank's own embedding, so a context is always k valid indices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class PredictionNetwork(nn.Module, ABC):
    """Maps label histories a_1..a_s to g_s.

    Attributes:
        output_size: D.
        context: number of last labels g_s depends on; None when unbounded.
        blank: index of blank, used as the beginning-of-sequence symbol.
    """

    output_size: int
    context: int | None
    blank: int

    @abstractmethod
    def forward(self, targets: Tensor) -> Tensor:
        """targets [B, S] -> [B, S+1, D]; row s is the output after a_1..a_s.

        Values beyond a sequence's own length may be anything in [-1, V); row s never depends on
        labels after position s.
        """

    @abstractmethod
    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> Any:
        """State before the beginning-of-sequence symbol was consumed."""

    @abstractmethod
    def step(self, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        """labels [N], state -> (output [N, D], new state). Start with labels = blank."""

    def _valid(self, targets: Tensor) -> Tensor:
        return targets.clamp(min=0)  # ESPnet pads with -1, which has no embedding


class FeedForwardPrediction(PredictionNetwork):
    """Context-k network: embedding, then linear + tanh layers (paper: k = 1, 128, 2 x 640).

    Raises:
        ValueError: for sizes, context or layer count below 1, or dropout outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 2,
        context: int = 1,
        dropout: float = 0.0,
        embed_dropout: float = 0.0,
        blank: int = 0,
    ) -> None:
        super().__init__()
        if min(vocab_size, embed_size, hidden_size, num_layers, context) < 1:
            raise ValueError(
                "prediction network sizes must be at least 1, got "
                f"{vocab_size=} {embed_size=} {hidden_size=} {num_layers=} {context=}"
            )
        if not (0.0 <= dropout < 1.0 and 0.0 <= embed_dropout < 1.0):
            raise ValueError(
                f"prediction dropout must be in [0, 1), got {dropout=} {embed_dropout=}"
            )
        self.blank = blank
        self.context: int = context
        self.output_size = hidden_size
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.embed_dropout = nn.Dropout(embed_dropout)
        layers: list[nn.Module] = []
        size = embed_size * context
        for _ in range(num_layers):
            layers += [nn.Linear(size, hidden_size), nn.Tanh(), nn.Dropout(dropout)]
            size = hidden_size
        self.layers = nn.Sequential(*layers)

    def forward_context(self, contexts: Tensor) -> Tensor:
        """contexts [..., k] (newest label last) -> [..., D]."""
        embedded = self.embed_dropout(self.embedding(contexts))  # [..., k, E]
        out: Tensor = self.layers(embedded.flatten(-2))  # [..., D]
        return out

    def forward(self, targets: Tensor) -> Tensor:
        """See `PredictionNetwork.forward`."""
        padded = nn.functional.pad(self._valid(targets), (self.context, 0), value=self.blank)
        contexts = padded.unfold(1, self.context, 1)  # [B, S+1, k]
        return self.forward_context(contexts)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """LongTensor [N, k] of the last labels, newest last, all blank."""
        return torch.full((batch_size, self.context), self.blank, dtype=torch.long, device=device)

    def step(self, labels: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `PredictionNetwork.step`."""
        contexts = torch.cat([state[:, 1:], labels[:, None]], dim=1)  # [N, k]
        return self.forward_context(contexts), contexts


class LSTMPrediction(PredictionNetwork):
    """Full-context prediction network (embedding + LSTM).

    Raises:
        ValueError: for sizes or layer count below 1, or dropout outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        embed_dropout: float = 0.0,
        blank: int = 0,
    ) -> None:
        super().__init__()
        if min(vocab_size, embed_size, hidden_size, num_layers) < 1:
            raise ValueError(
                "prediction network sizes must be at least 1, got "
                f"{vocab_size=} {embed_size=} {hidden_size=} {num_layers=}"
            )
        if not (0.0 <= dropout < 1.0 and 0.0 <= embed_dropout < 1.0):
            raise ValueError(
                f"prediction dropout must be in [0, 1), got {dropout=} {embed_dropout=}"
            )
        self.blank = blank
        self.context = None
        self.output_size = hidden_size
        self.embedding = nn.Embedding(vocab_size, embed_size)
        self.embed_dropout = nn.Dropout(embed_dropout)
        self.lstm = nn.LSTM(
            embed_size,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.out_dropout = nn.Dropout(dropout)

    def forward(self, targets: Tensor) -> Tensor:
        """See `PredictionNetwork.forward`."""
        padded = nn.functional.pad(self._valid(targets), (1, 0), value=self.blank)  # [B, S+1]
        out, _ = self.lstm(self.embed_dropout(self.embedding(padded)))  # [B, S+1, D]
        result: Tensor = self.out_dropout(out)
        return result

    def initial_state(
        self, batch_size: int, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """(h, c), each [N, L, D]: batch first, so that search can index hypotheses directly."""
        shape = (batch_size, self.lstm.num_layers, self.output_size)
        zeros = torch.zeros(shape, dtype=self.embedding.weight.dtype, device=device)
        return zeros, zeros.clone()

    def step(
        self, labels: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See `PredictionNetwork.step`."""
        hidden, cell = (part.transpose(0, 1).contiguous() for part in state)  # [L, N, D]
        embedded = self.embed_dropout(self.embedding(labels))[:, None]  # [N, 1, E]
        out, (hidden, cell) = self.lstm(embedded, (hidden, cell))
        return self.out_dropout(out[:, 0]), (hidden.transpose(0, 1), cell.transpose(0, 1))
