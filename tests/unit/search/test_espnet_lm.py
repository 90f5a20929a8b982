"""ESPnet's own language models as scorers of the beam search."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import LmAdapter, beam_search

V = 6


def make(kind: str) -> torch.nn.Module:
    if kind == "transformer":
        module = pytest.importorskip("espnet2.lm.transformer_lm")
        return module.TransformerLM(V, embed_unit=4, att_unit=8, head=2, unit=8, layer=2)
    module = pytest.importorskip("espnet2.lm.seq_rnn_lm")
    return module.SequentialRNNLM(V, unit=8, nlayers=2, rnn_type=kind)


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_lm_score_is_what_the_lm_says_of_the_whole_sentence(kind: str, topology: str) -> None:
    torch.manual_seed(0)
    lm = make(kind).eval()
    prediction, joint = FeedForwardPrediction(V, 3, 4).eval(), JointNetwork(6, 4, 7, V).eval()
    results = beam_search(
        torch.randn(2, 6, 6),
        torch.tensor([6, 3]),
        prediction,
        joint,
        beam=5,
        nbest=5,
        topology=topology,
        scorers=[(LmAdapter(lm, V), 0.6)],
    )
    for hypothesis in results[0] + results[1]:
        sequence = torch.tensor([V - 1, *hypothesis.tokens, V - 1])
        with torch.no_grad():
            out, _ = lm(sequence[None, :-1], None)
        log_probs = out.log_softmax(-1)[0].gather(1, sequence[1:, None])
        assert hypothesis.lm_scores[0] == pytest.approx(log_probs.sum().item(), abs=1e-4)
