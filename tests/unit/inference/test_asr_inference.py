"""Speech2Text: ESPnet's call results, single and in batches, both topologies, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny_model import TOKENS, write_model


@pytest.fixture(scope="module", params=["monotonic", "rnnt"])
def trained(request, tmp_path_factory):
    """Configuration and parameters of a random model, as a training leaves them."""
    return write_model(tmp_path_factory.mktemp(request.param), request.param)


def test_results_are_espnets_and_batches_equal_single_utterances(trained):
    from espnet_plugin.inference.speech2text import Speech2Text

    recognise = Speech2Text(*trained, beam_size=4, nbest=2)
    rng = np.random.default_rng(0)
    speech = [rng.standard_normal((n, 8)).astype(np.float32) for n in (60, 33)]
    batch = recognise(speech)
    assert len(batch) == 2 and all(1 <= len(nbest) <= 2 for nbest in batch)
    for utterance, nbest in zip(speech, batch, strict=True):
        alone = recognise(utterance)
        assert [result[2] for result in alone] == [result[2] for result in nbest]
        for text, tokens, ids, hypothesis in nbest:
            assert tokens == [TOKENS[i] for i in ids]
            assert text == "".join(" " if t == "<space>" else t for t in tokens)
            assert hypothesis.score <= nbest[0][3].score
    assert any(nbest[0][2] for nbest in batch)


def test_a_lexicon_restricts_the_words(trained, tmp_path):
    from espnet_plugin.inference.speech2text import Speech2Text

    (tmp_path / "lexicon").write_text("AB A B\nBA B A\n")
    recognise = Speech2Text(*trained, search="lexicon", lexicon=tmp_path / "lexicon", beam_size=8)
    text, _, _, hypothesis = recognise(torch.randn(60, 8))[0]
    assert set(text.split()) <= {"AB", "BA"} and text.split() == list(hypothesis.words)


def test_bad_calls_say_what_is_wrong(trained, tmp_path):
    from espnet_plugin.inference.speech2text import Speech2Text

    with pytest.raises(ValueError, match=r"unknown options \['beam'\]"):
        Speech2Text(*trained, beam=3)
    with pytest.raises(ValueError, match="search must be one of"):
        Speech2Text(*trained, search="depth_first")
    with pytest.raises(ValueError, match="does not exist"):
        Speech2Text(trained[0], tmp_path / "none.pth")
    with pytest.raises(ValueError, match="needs --lexicon"):
        Speech2Text(*trained, search="lexicon")
    with pytest.raises(ValueError, match="empty"):
        Speech2Text(*trained)(np.zeros((0, 8), np.float32))
