"""A transducer cut into the three networks that a runtime calls.

The joint network's linear layers on its two inputs go with the networks that feed it, so that they
are computed once a frame and once a label, and not once for every pair.

The encoder of a stream is called chunk after chunk. All that it remembers is in one row of numbers,
so that a runtime may carry it as the state of what it takes for an LSTM.

Shape legend: N utterances or hypotheses, T' feature frames, F features, T encoder frames, J joint
size, k context of the prediction network, V vocabulary with blank, C encoder frames of a chunk, S
numbers of a state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.nn.encoder_stream import EncoderState, encode_chunk, start_state
from espnet_plugin.nn.prediction import FeedForwardPrediction


class EncoderPart(nn.Module):
    """Features x [N, T', F] and x_lens [N] -> encoder_out [N, T, J] and its lengths [N]."""

    def __init__(self, model: ProgressiveTransducerModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        if self.model.normalize is not None:
            x, x_lens = self.model.normalize(x.clone(), x_lens)  # ESPnet's works in place
        found = self.model.encode_features(x, x_lens)
        return self.model.joint_network.project_encoder(found.frames), found.lengths


class OnlineEncoderPart(nn.Module):
    """One chunk x [N, 4C, F], what is remembered [1, N, S], [1, N, 1] -> [N, C, J], and the same.

    What is remembered before the first chunk is zeros. The second of the two counts frames.
    """

    def __init__(self, model: ProgressiveTransducerModel) -> None:
        super().__init__()
        self.model = model
        self.shapes = [part.shape[1:] for part in start_state(model.encoder).tensors()[1:]]

    @property
    def state_size(self) -> int:
        """S."""
        return sum(shape.numel() for shape in self.shapes)

    def forward(self, x: Tensor, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.model.normalize is not None:
            lengths = torch.full_like(x[:, 0, 0], x.size(1)).long()
            x, _ = self.model.normalize(x.clone(), lengths)
        sizes = [shape.numel() for shape in self.shapes]
        parts = [
            part.reshape(-1, *shape)
            for part, shape in zip(torch.split(states[0], sizes, 1), self.shapes, strict=True)
        ]
        state = EncoderState.of([frames[0, :, 0].long(), *parts])
        found, state = encode_chunk(self.model.encoder, x, state)
        count, *parts = state.tensors()
        kept = torch.cat([part.flatten(1) for part in parts], 1)[None]
        out = self.model.joint_network.project_encoder(found)
        return out, kept, count.to(kept)[None, :, None]


class PredictionPart(nn.Module):
    """The last k labels y [N, k], newest last -> decoder_out [N, J].

    Runtimes fill up what there is not yet with -1; here it is the blank, as in training.
    """

    def __init__(self, model: ProgressiveTransducerModel) -> None:
        super().__init__()
        network = model.prediction
        assert isinstance(network, FeedForwardPrediction)
        self.network, self.joint = network, model.joint_network

    def forward(self, y: Tensor) -> Tensor:
        contexts = torch.where(y < 0, torch.full_like(y, self.network.blank), y)
        return self.joint.project_prediction(self.network.forward_context(contexts))


class JointPart(nn.Module):
    """encoder_out [N, J] and decoder_out [N, J] -> logit [N, V]."""

    def __init__(self, model: ProgressiveTransducerModel) -> None:
        super().__init__()
        self.joint = model.joint_network

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        return self.joint.combine(encoder_out, decoder_out)
