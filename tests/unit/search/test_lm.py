"""ARPA files, n-gram scorers, the adapter for ESPnet's language models."""

from __future__ import annotations

import gzip
import itertools
import math
import re
from pathlib import Path

import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import beam_search
from espnet_plugin.search.lm.lm_adapter import LmAdapter
from espnet_plugin.search.lm.ngram import NgramScorer, read_arpa
from tests.reference import ngram_backoff as reference

TRIGRAM = """some text before

\\data\\
ngram 1=5
ngram 2=6
ngram 3=3

\\1-grams:
-99 <s> -0.4
-0.8 </s>
-0.5 a -0.3
-0.7 b -0.2
-0.6 c

\\2-grams:
-0.3 <s> a -0.15
-0.9 <s> c
-0.4 a b -0.25
-0.6 b a -0.35
-0.2 b </s>
-0.5 a c

\\3-grams:
-0.1 <s> a b
-0.3 a b a
-0.25 b a c

\\end\\
"""
TOKENS = ["<blank>", "a", "b", "c", "<sos/eos>"]


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(TRIGRAM)
    return path


def all_sentences() -> list[list[str]]:
    return [list(s) for n in range(5) for s in itertools.product("abc", repeat=n)]


def test_sentences_score_as_in_the_textbook(arpa: Path) -> None:
    model, grams = read_arpa(arpa), reference.parse(TRIGRAM)
    for words in all_sentences():
        assert model.sentence(words) == pytest.approx(reference.sentence(grams, words), abs=1e-5)
    assert model.sentence(["zebra"]) < -20


def test_scorer_walks_like_the_textbook(arpa: Path) -> None:
    scorer, grams = NgramScorer(read_arpa(arpa), TOKENS), reference.parse(TRIGRAM)
    sentences = [s for s in all_sentences() if len(s) == 4]
    state = scorer.start(len(sentences))
    total = torch.zeros(len(sentences))
    for i in range(4):
        labels = torch.tensor([TOKENS.index(s[i]) for s in sentences])
        log_probs, state = scorer.score(state)
        assert log_probs[0, 0] == -math.inf and log_probs[0, 4] == -math.inf
        total += log_probs.gather(1, labels[:, None])[:, 0]
        state = scorer.advance(state, labels)
    total += scorer.final(state)
    expected = [reference.sentence(grams, s) for s in sentences]
    assert total.tolist() == pytest.approx(expected, abs=1e-5)
    # A trigram remembers two words at most: 81 histories share few states.
    assert len(set(scorer.key(state).tolist())) < 10


def test_gzip_and_unknown_labels(arpa: Path, tmp_path: Path) -> None:
    packed = tmp_path / "lm.arpa.gz"
    packed.write_bytes(gzip.compress(TRIGRAM.encode()))
    scorer = NgramScorer(read_arpa(packed), [*TOKENS[:-1], "d"], oov_log_prob=-7.0)
    log_probs, state = scorer.score(scorer.start(1))
    assert log_probs[0, 4] == -7.0
    assert scorer.advance(state, torch.tensor([4])).tolist() == [0]


def test_model_of_another_vocabulary(arpa: Path) -> None:
    with pytest.raises(ValueError, match=r"3 of 4 labels .* another vocabulary"):
        NgramScorer(read_arpa(arpa), ["<blank>", "x", "y", "a", "z"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s[: s.index("\\3-grams")], "cut off"),
        (lambda s: s[: s.index("\\end")], "cut off"),
        (lambda s: s.replace("-0.25 b a c\n", ""), "2 different 3-grams, the header announces 3"),
        (lambda s: s.replace("\\2-grams:", "\\3-grams:"), r"expected \\2-grams:"),
        (lambda s: s.replace("\\data\\", ""), "not an ARPA file"),
        (lambda s: s.replace("-0.3 a b a", "zero a b a"), "line 2.: not a number"),
        (lambda s: s.replace("-0.3 a b a", "-0.3 a b"), "expected 3 words"),
        (lambda s: s.replace("-0.3 a b a", "-0.3 a b x"), "a word without a 1-gram"),
        (lambda s: s.replace("ngram 2=6", "ngram 4=6"), "orders"),
        (lambda s: s.replace("\\end\\", "\\4-grams:"), r"expected \\end\\"),
        (lambda s: "hello\n", "cut off"),
        (lambda s: "", "cut off"),
    ],
)
def test_damaged_arpa_files(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(damage(TRIGRAM))
    with pytest.raises(ValueError, match=message) as error:
        read_arpa(path)
    assert str(path) in str(error.value)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa.gz"
    path.write_bytes(gzip.compress(TRIGRAM.encode())[:-30])
    with pytest.raises(ValueError, match="copy it again"):
        read_arpa(path)


def test_agrees_with_kenlm(tmp_path: Path, arpa: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    text = TRIGRAM[TRIGRAM.index("\\data\\") :].replace("ngram 1=5", "ngram 1=6")
    text = text.replace("\\1-grams:\n", "\\1-grams:\n-3 <unk>\n")
    text = re.sub(r"^(-\S+) (.*?)( -[\d.]+)?$", r"\1\t\2\t\3", text, flags=re.MULTILINE)
    arpa.write_text(text.replace("\t ", "\t").replace("\t\n", "\n"))
    theirs, ours = kenlm.Model(str(arpa)), read_arpa(arpa)
    for words in [*all_sentences(), ["a", "zebra", "b"]]:
        expected = theirs.score(" ".join(words)) * math.log(10)
        assert ours.sentence(words) == pytest.approx(expected, abs=1e-4)


class FakeLm:
    """Like an ESPnet language model: the state is the list of all it has read."""

    def __init__(self) -> None:
        self.table = torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
        self.calls: list[tuple[int, int]] = []

    def batch_score(self, ys, states, xs):
        self.calls.append((len(ys), ys.shape[1]))
        new = []
        for y, state in zip(ys.tolist(), states, strict=True):
            assert (state or []) == y[:-1]
            new.append(y)
        weights = 1.0 / (1.0 + torch.arange(ys.shape[1]).flip(0))
        rows = (self.table[ys] * weights[:, None]).sum(1)
        return rows.log_softmax(-1), new

    def of(self, labels: tuple[int, ...]) -> float:
        sequence = (4, *labels, 4)
        total = 0.0
        for i in range(1, len(sequence)):
            log_probs, _ = self.batch_score(
                torch.tensor([sequence[:i]]), [list(sequence[: i - 1])], None
            )
            total += log_probs[0, sequence[i]].item()
        return total


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_adapter_scores_every_hypothesis_like_the_model_itself(topology: str) -> None:
    torch.manual_seed(0)
    prediction, joint = FeedForwardPrediction(5, 3, 4).eval(), JointNetwork(6, 4, 7, 5).eval()
    lm = FakeLm()
    encoder, lengths = torch.randn(2, 6, 6), torch.tensor([6, 4])
    results = beam_search(
        encoder,
        lengths,
        prediction,
        joint,
        beam=6,
        nbest=6,
        topology=topology,
        scorers=[(LmAdapter(lm, 5), 0.8)],
        max_symbols=2,
    )
    calls = len(lm.calls)
    assert calls <= 4 * 6 * 3  # batched: not a call per hypothesis
    assert max(n for n, _ in lm.calls) > 1
    for hypothesis in itertools.chain(*results):
        assert hypothesis.lm_scores == pytest.approx((lm.of(hypothesis.tokens),), abs=1e-4)
        assert 4 not in hypothesis.tokens


def test_several_models_at_once_with_negative_scale(arpa: Path) -> None:
    """LODR / density ratio: a second model is subtracted."""
    torch.manual_seed(0)
    prediction, joint = FeedForwardPrediction(5, 3, 4).eval(), JointNetwork(6, 4, 7, 5).eval()
    scorer = NgramScorer(read_arpa(arpa), TOKENS)
    arguments = (torch.randn(1, 4, 6), torch.tensor([4]), prediction, joint)
    plain = beam_search(*arguments, beam=400, nbest=400)[0]
    both = beam_search(
        *arguments, beam=400, nbest=400, scorers=[(scorer, 0.9), (LmAdapter(FakeLm(), 5), -0.4)]
    )[0]
    acoustic = {h.tokens: h.am_score for h in plain}
    assert len(both) > 100
    for h in both:
        assert h.am_score == pytest.approx(acoustic[h.tokens], abs=1e-4)
        expected = h.am_score + 0.9 * h.lm_scores[0] - 0.4 * h.lm_scores[1]
        assert h.score == pytest.approx(expected, abs=1e-4)
