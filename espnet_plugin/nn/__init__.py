"""Our layers of the transducer (L1, plain torch; only `nn/encoder.py` uses ESPnet)."""

from espnet_plugin.nn.joint import JointNetwork
from espnet_plugin.nn.prediction import FeedForwardPrediction, LSTMPrediction, PredictionNetwork

__all__ = ["FeedForwardPrediction", "JointNetwork", "LSTMPrediction", "PredictionNetwork"]
