"""Probability zero (-99 in an ARPA file, -inf here) under every scale, and exact ties.

Scales of 0 and below come from tune-scales, density ratios and LODR.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import (
    Hypothesis,
    NgramModel,
    PrefixTree,
    WordEndScorer,
    WordMixture,
    WordNgram,
    beam_search,
    lexicon_entries,
    lexicon_search,
    read_arpa,
    rescore,
    search_scales,
)
from espnet_plugin.search.beam.recombine import stable_topk

ARPA = """\\data\\
ngram 1=5

\\1-grams:
-99 <s>
-0.9 </s>
-0.5 to
-99 two
-0.6 oh

\\end\\
"""
PHONEMES = ["<blank>", "T", "UW#", "OW#"]
LETTERS = ["<blank>", "t", "w", "o", "h", "<space>"]
# "two" shares all but its last label with "to", and sounds like "too"
SPOKEN = {"to": [["T", "OW#"]], "two": [["T", "UW#"]], "oh": [["OW#"]]}


def model(path: Path, text: str = ARPA) -> NgramModel:
    path.write_text(text)
    return read_arpa(path)


def transducer(labels: int, frames: int = 5, batch: int = 2):
    torch.manual_seed(3)
    prediction = FeedForwardPrediction(labels, 4, 5).double().eval()
    joint = JointNetwork(6, 5, 7, labels).double().eval()
    encoder = torch.randn(batch, frames, 6).double() * 2
    return encoder, torch.full((batch,), frames), prediction, joint


@pytest.mark.parametrize("look_ahead", ["none", "unigram", "ngram"])
@pytest.mark.parametrize("scales", [(0.5,), (0.0,), (-0.2,), (0.5, -0.2), (0.0, 0.0)])
def test_an_impossible_word_never_ends_but_its_neighbours_do(
    tmp_path: Path, look_ahead: str, scales: tuple[float, ...]
) -> None:
    tree = PrefixTree(lexicon_entries(SPOKEN, PHONEMES), len(PHONEMES))
    lm = WordNgram(model(tmp_path / "lm.arpa"), tree.words)
    mixed = lm if len(scales) == 1 else WordMixture([(lm, scale) for scale in scales])
    options = {"beam": 400, "nbest": 400, "look_ahead": look_ahead}
    scale = scales[0] if len(scales) == 1 else 1.0
    possible = {w: p for w, p in SPOKEN.items() if w != "two"}
    smaller = PrefixTree(lexicon_entries(possible, PHONEMES), len(PHONEMES))
    known = WordNgram(model(tmp_path / "lm.arpa"), smaller.words)
    arguments = transducer(len(PHONEMES))
    found = lexicon_search(*arguments, tree, word_lm=mixed, lm_scale=scale, **options)
    wanted = lexicon_search(*arguments, smaller, word_lm=known, lm_scale=sum(scales), **options)
    for ours, theirs in zip(found, wanted, strict=True):
        assert len(ours) > 5 and not any("two" in h.words for h in ours)
        by_words = {h.words: h.score for h in ours}
        for h in theirs:
            assert by_words[h.words] == pytest.approx(h.score, abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.0, -0.2])
def test_an_impossible_last_word_of_labels(tmp_path: Path, scale: float) -> None:
    scorer = WordEndScorer(model(tmp_path / "lm.arpa"), LETTERS, "char")
    found = beam_search(
        *transducer(len(LETTERS), frames=4), beam=3000, nbest=3000, scorers=[(scorer, scale)]
    )
    for row in found:
        texts = ["".join(LETTERS[t] for t in h.tokens).split("<space>") for h in row]
        assert all(math.isfinite(h.score) for h in row)
        assert not any("two" in text for text in texts) and any("to" in text for text in texts)
        assert len({h.tokens for h in row}) == len(row)


def test_rescoring_and_tuning_leave_out_what_a_model_rules_out() -> None:
    impossible = Hypothesis((1,), -1.0, -1.0, lm_scores=(-math.inf,))
    possible = Hypothesis((2,), -5.0, -5.0, lm_scores=(-2.0,))
    for scale in (0.5, 0.0, -0.5):
        assert rescore([impossible, possible], [scale])[0].tokens == (2,)
        (point,) = search_scales([[impossible, possible]], [[2]], [[scale]])
        assert point.errors == 0


def test_an_unknown_word_of_probability_zero_is_none(tmp_path: Path) -> None:
    """As KenLM has it; otherwise every word the model lacks would be ruled out."""
    with_unk = ARPA.replace("1=5", "1=6").replace("-0.6 oh", "-0.6 oh\n{} {}")
    assert model(tmp_path / "a", with_unk.format(-99, "<unk>")).index("x") is None
    capitals = model(tmp_path / "b", with_unk.format(-1.5, "<UNK>"))  # LibriSpeech's models
    assert capitals.index("x") == capitals.index("<UNK>") is not None


def test_a_word_mixture_gives_every_model_room_for_its_states(tmp_path: Path) -> None:
    grams = "".join(f"-1 to w{n} -0.1\n" for n in range(70))
    words = "".join(f"-1 w{n} -0.1\n" for n in range(70))
    trigrams = "".join(f"-1 to w{n} oh\n" for n in range(70))
    text = ARPA.replace("ngram 1=5", "ngram 1=75\nngram 2=70\nngram 3=70").replace(
        "-0.6 oh", f"-0.6 oh\n{words}\n\\2-grams:\n{grams}\n\\3-grams:\n{trigrams}"
    )
    large = WordNgram(model(tmp_path / "large", text), ["to", "w69", "oh"])
    small = WordNgram(model(tmp_path / "small"), ["to", "w69", "oh"])
    assert large.states is not None and large.states > 128 and small.states == 1
    mixture = WordMixture([(small, 0.5)] * 9 + [(large, 1.0)] + [(small, 0.5)])
    state = torch.tensor([mixture.start_state()])
    own, total, wanted = torch.tensor([large.start_state()]), 0.0, 0.0
    for word in (0, 1, 2):
        log_prob, state = mixture.lookup(state, torch.tensor([word]))
        mine, own = large.lookup(own, torch.tensor([word]))
        base, _ = small.lookup(torch.tensor([0]), torch.tensor([word]))
        total, wanted = total + float(log_prob), wanted + float(mine) + 5.0 * float(base)
    assert total == pytest.approx(wanted, rel=1e-5)

    class Growing:
        """States numbered as they appear, like KenLM's."""

        states = None

        def start_state(self) -> int:
            return 0

        empty_state = start_state

        def lookup(self, state, word):
            return torch.zeros(len(state)), state * 2 + 1

    growing = WordMixture([(Growing(), 1.0), (Growing(), 1.0)])
    state = torch.tensor([growing.start_state()])
    with pytest.raises(ValueError, match="more than the 2147483648 states"):
        for _ in range(40):
            _, state = growing.lookup(state, torch.tensor([0]))
    with pytest.raises(ValueError, match="9 word models of this size are too many"):
        WordMixture([(Growing(), 1.0)] * 9)


def test_ties_are_won_by_the_first_whatever_stands_beside() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0, 3.0, -math.inf, math.nan]])
    for padding in range(40):
        wider = torch.nn.functional.pad(scores, (0, padding), value=-math.inf)
        values, index = stable_topk(wider, 5)
        assert index.tolist() == [[1, 5, 3, 0, 2]] and values.tolist() == [[3, 3, 2, 1, 1]]
    none = torch.full((1, 4), -math.inf)
    assert stable_topk(none, 2)[1].tolist() == [[0, 1]]


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_homophones_come_in_the_same_order_alone_and_in_a_batch(topology: str) -> None:
    spoken = {f"w{n}{kind}": [labels] for kind in "abcd" for n, labels in enumerate(
        (["T", "OW#"], ["T", "UW#"], ["OW#"], ["UW#"]))}  # fmt: skip
    tree = PrefixTree(lexicon_entries(spoken, PHONEMES), len(PHONEMES))
    encoder, _, *networks = transducer(len(PHONEMES), frames=9, batch=8)
    lengths = torch.tensor([9, 2, 5, 7, 3, 9, 1, 8])
    options = {"beam": 6, "nbest": 6, "topology": topology, "max_symbols": 2}
    together = lexicon_search(encoder, lengths, *networks, tree, **options)
    for row, length, found in zip(encoder, lengths, together, strict=True):
        alone = lexicon_search(row[None, :length], length[None], *networks, tree, **options)[0]
        assert [h.words for h in found] == [h.words for h in alone]


def test_the_space_behind_a_word_is_not_its_time() -> None:
    tree = PrefixTree(lexicon_entries({"to": [["t", "o"]]}, LETTERS, space="<space>"), len(LETTERS))
    found = lexicon_search(*transducer(len(LETTERS), frames=9), tree, beam=50, nbest=50)
    several = [h for row in found for h in row if len(h.words) > 1]
    assert several
    for h in several:
        assert h.word_labels == tuple((3 * n, 3 * n + 1) for n in range(len(h.words)))
        assert h.word_frames == tuple((h.frames[a], h.frames[b]) for a, b in h.word_labels)
