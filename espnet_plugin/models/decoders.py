"""Our prediction networks as ESPnet decoders: `feedforward_prediction` and `lstm_prediction`.

ESPnet's `ASRTask` builds a decoder from `--decoder/--decoder_conf` and its transducer search talks
to that decoder; this adapter gives both what they expect. The search itself keeps one state per
hypothesis; ours is a list of rows, so that any prediction network fits.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from torch import Tensor

from espnet_plugin.nn.prediction import (
    FeedForwardPrediction,
    LSTMPrediction,
    PredictionNetwork,
)


class PredictionDecoder(AbsDecoder):
    """Holds a prediction network and speaks ESPnet's transducer decoder protocol.

    Attributes read by ESPnet's BeamSearchTransducer: dunits, odim, blank_id, device.
    """

    def __init__(self, prediction: PredictionNetwork, vocab_size: int) -> None:
        super().__init__()
        self.prediction = prediction
        self.dunits = prediction.output_size
        self.odim = vocab_size
        self.blank_id = prediction.blank
        self.device = torch.device("cpu")

    def forward(  # type: ignore[override]
        self, labels: Tensor, *_unused: Any
    ) -> Tensor:
        """labels [B, S] -> prediction outputs [B, S+1, D]."""
        return self.prediction(labels)

    def set_device(self, device: torch.device) -> None:
        """ESPnet's search announces the device of the encoder output."""
        self.device = device

    def _row(self, state: Any, index: int) -> Any:
        if isinstance(state, tuple):
            return tuple(part[index : index + 1] for part in state)
        return state[index : index + 1]

    def init_state(self, batch_size: int) -> list[Any]:
        """One state row per hypothesis."""
        state = self.prediction.initial_state(batch_size, self.device)
        return [self._row(state, index) for index in range(batch_size)]

    def select_state(self, states: list[Any], idx: int) -> list[Any]:
        """The state of hypothesis `idx`, as a list of one row."""
        return [states[idx]]

    def create_batch_states(
        self, states: list[Any], new_states: list[list[Any]], check_list: Any = None
    ) -> list[Any]:
        """Joins single states into a batch."""
        return [state[0] for state in new_states]

    def _step(self, labels: list[int], rows: list[Any]) -> tuple[Tensor, list[Any]]:
        if isinstance(rows[0], tuple):
            state: Any = tuple(torch.cat(parts) for parts in zip(*rows, strict=True))
        else:
            state = torch.cat(rows)
        ids = torch.tensor(labels, dtype=torch.long, device=self.device)
        out, state = self.prediction.step(ids, state)  # [N, D]
        return out, [self._row(state, index) for index in range(len(labels))]

    def score(self, hyp: Any, cache: dict[str, Any]) -> tuple[Tensor, list[Any], Tensor]:  # type: ignore[override]
        """One hypothesis -> (output [D], state, last label [1])."""
        key = "_".join(map(str, hyp.yseq))
        if key not in cache:
            out, rows = self._step([hyp.yseq[-1]], [hyp.dec_state[0]])
            cache[key] = (out[0], rows)
        out, rows = cache[key]
        label = torch.full((1,), hyp.yseq[-1], dtype=torch.long, device=self.device)
        return out, rows, label

    def batch_score(  # type: ignore[override]
        self, hyps: list[Any], dec_states: list[Any], cache: dict[str, Any], use_lm: bool
    ) -> tuple[Tensor, list[Any], Tensor | None]:
        """N hypotheses -> (outputs [N, D], states, last labels [N, 1] or None)."""
        keys = ["_".join(map(str, hyp.yseq)) for hyp in hyps]
        missing = {key: hyp for key, hyp in zip(keys, hyps, strict=True) if key not in cache}
        if missing:
            out, rows = self._step(
                [hyp.yseq[-1] for hyp in missing.values()],
                [hyp.dec_state[0] for hyp in missing.values()],
            )
            for index, key in enumerate(missing):
                cache[key] = (out[index], [rows[index]])
        outs = torch.stack([cache[key][0] for key in keys])  # [N, D]
        states = [cache[key][1][0] for key in keys]
        if not use_lm:
            return outs, states, None
        labels = torch.tensor([hyp.yseq[-1] for hyp in hyps], device=self.device)
        return outs, states, labels[:, None]


@functools.cache
def prediction_decoder(network: Any) -> type[PredictionDecoder]:
    """The decoder of ESPnet's that holds a prediction network of another package.

    Args:
        network: a class of `PredictionNetwork`, built as `network(vocab_size, **decoder_conf)`.
    """

    class Decoder(PredictionDecoder):
        def __init__(self, vocab_size: int, encoder_output_size: int, **options: Any) -> None:
            super().__init__(network(vocab_size, **options), vocab_size)

    Decoder.__name__ = Decoder.__qualname__ = f"{network.__name__}Decoder"
    # ESPnet reads the options and their defaults off the signature.
    own = list(inspect.signature(network).parameters.values())
    sizes = list(inspect.signature(Decoder).parameters.values())[:2]
    Decoder.__signature__ = inspect.Signature([*sizes, *own[1:]])  # type: ignore[attr-defined]
    return Decoder


class FeedForwardPredictionDecoder(PredictionDecoder):
    """`--decoder feedforward_prediction`: context-k network (paper: k = 1, 128, 2 x 640)."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        embed_size: int = 128,
        hidden_size: int = 640,
        num_layers: int = 2,
        context: int = 1,
        dropout: float = 0.0,
        embed_dropout: float = 0.0,
    ) -> None:
        network = FeedForwardPrediction(
            vocab_size, embed_size, hidden_size, num_layers, context, dropout, embed_dropout
        )
        super().__init__(network, vocab_size)


class LSTMPredictionDecoder(PredictionDecoder):
    """`--decoder lstm_prediction`: full-context prediction network."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        embed_size: int = 128,
        hidden_size: int = 640,
        num_layers: int = 1,
        dropout: float = 0.0,
        embed_dropout: float = 0.0,
    ) -> None:
        network = LSTMPrediction(
            vocab_size, embed_size, hidden_size, num_layers, dropout, embed_dropout
        )
        super().__init__(network, vocab_size)
