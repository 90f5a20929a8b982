"""Compiles the beam search: `python -m espnet_plugin.search.beam.compile_ahead`.

A search of engine `auto` compiles itself once that pays (`engine.py`), in the middle of somebody's
decoding. Setting up an environment is a better time for these 20 s.
"""

from __future__ import annotations

import sys

import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search.beam import engine
from espnet_plugin.search.beam.beam import BeamSearch
from espnet_plugin.search.beam.beam_options import BeamOptions


def compile_ahead() -> None:
    """Leave the search for float32 models on disk, where it is not there yet.

    Raises:
        ValueError: it cannot be compiled here, with the reason.
    """
    with torch.random.fork_rng(), torch.no_grad():
        prediction = FeedForwardPrediction(3, 2, 2).eval()
        joint = JointNetwork(2, 2, 2, 3).eval()
        search = BeamSearch(prediction, joint, BeamOptions(beam=2, engine="compiled"))
        search.search(torch.zeros(1, 3, 2), torch.tensor([3]), nbest=1)


if __name__ == "__main__":
    try:
        compile_ahead()
    except ValueError as error:
        sys.exit(f"{error}; torch will search")
    print(engine.folder())
