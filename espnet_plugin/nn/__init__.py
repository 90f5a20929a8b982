"""Layers of the transducer that are ours (L1, plain torch; `nn/encoder.py` alone may use ESPnet)."""

from espnet_plugin.nn.joint import JointNetwork
from espnet_plugin.nn.prediction import FeedForwardPrediction, LSTMPrediction, PredictionNetwork

__all__ = ["FeedForwardPrediction", "JointNetwork", "LSTMPrediction", "PredictionNetwork"]
