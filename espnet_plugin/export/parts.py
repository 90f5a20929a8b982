"""A transducer cut into the three networks that a runtime calls.

The joint network's linear layers on its two inputs go with the networks that feed it, so that they
are computed once a frame and once a label, and not once for every pair.

Shape legend: N utterances or hypotheses, T' feature frames, F features, T encoder frames, J joint
size, k context of the prediction network, V vocabulary with blank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espnet_plugin.models.progressive import ProgressiveTransducerModel
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
