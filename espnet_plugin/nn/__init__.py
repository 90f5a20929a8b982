"""Our layers of the transducer and accelerators of training (L1, plain torch).

Only `nn/encoder.py` uses ESPnet: it wraps ESPnet's encoders.
"""

from espnet_plugin.nn.joint import JointNetwork
from espnet_plugin.nn.prediction import FeedForwardPrediction, LSTMPrediction, PredictionNetwork

__all__ = ["FeedForwardPrediction", "JointNetwork", "LSTMPrediction", "PredictionNetwork"]
