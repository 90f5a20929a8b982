"""Lexicon search against enumeration of all word sequences, pronunciations and alignments."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.lexicon.lexicon_search import (
    LexiconOptions,
    LexiconSearch,
    lexicon_search,
)
from espnet_plugin.search.lexicon.prefix_tree import LexiconEntry, PrefixTree, lexicon_entries
from espnet_plugin.search.lexicon.word_lm import WordNgram
from espnet_plugin.search.lm.ngram import NgramModel, read_arpa
from tests.reference import lexicon_enumeration as reference
from tests.reference import ngram_backoff
from tests.reference.search_enumeration import all_sequences

ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-0.5 to -0.2
-1.1 two -0.4
-0.6 toe
-0.8 o -0.1

\\2-grams:
-0.2 <s> two
-0.4 two toe
-0.3 to o
-0.5 o </s>

\\end\\
"""
TOKENS = ["<blank>", "T", "O", "O#"]
# Homophones (to, two), variants with weights (two, o), and a word that is the same by two ways.
PRONUNCIATIONS = {
    "to": [["T", "O#"]],
    "two": [["T", "O#"], ["T", "O", "O#"]],
    "toe": [["T", "O", "O#"]],
    "o": [["O#"], ["O", "O#"]],
}
WEIGHTS = {"to": [1.0], "two": [0.7, 0.3], "toe": [0.9], "o": [0.6, 0.4]}


@pytest.fixture
def word_ngram(tmp_path: Path) -> NgramModel:
    path = tmp_path / "words.arpa"
    path.write_text(ARPA)
    return read_arpa(path)


class Model:
    """A tiny random transducer over TOKENS."""

    def __init__(self, seed: int = 0, frames: int = 5, vocab: int = 4) -> None:
        torch.manual_seed(seed)
        self.prediction = FeedForwardPrediction(vocab, 4, 5).double().eval()
        self.joint = JointNetwork(6, 5, 7, vocab).double().eval()
        self.encoder = torch.randn(2, frames, 6).double() * 2
        self.lengths = torch.tensor([frames, frames - 1])
        with torch.no_grad():
            rows = self.prediction(torch.arange(vocab)[:, None])[:, 1]
            rows[0] = self.prediction(torch.zeros(1, 0, dtype=torch.long))[0, 0]
            logits = self.joint(self.encoder[:, :, None], rows)  # [B, T, context, V]
        self.log_probs = logits.log_softmax(-1).tolist()

    def sequences(self, utterance: int, topology: str, max_symbols: int = 2) -> dict:
        table = self.log_probs[utterance]

        def log_probs(t: int, labels: tuple[int, ...]) -> list[float]:
            return table[t][labels[-1] if labels else 0]

        frames, vocab = int(self.lengths[utterance]), len(table[0][0])
        return all_sequences(log_probs, frames, vocab, topology, max_symbols)

    def run(self, tree: PrefixTree, **options) -> list:
        return lexicon_search(
            self.encoder, self.lengths, self.prediction, self.joint, tree, **options
        )


def compare(found: list, wanted: list) -> None:
    assert len(found) == len(wanted)
    assert [h.score for h in found] == pytest.approx([s for s, _, _ in wanted], abs=1e-5)
    by_content = {(h.words, h.tokens): h.score for h in found}
    assert len(by_content) == len(found)
    for score, words, labels in wanted:
        assert by_content[words, labels] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("look_ahead", ["none", "unigram", "ngram"])
@pytest.mark.parametrize(("lm_scale", "weight_scale"), [(0.0, 0.0), (0.8, 0.5)])
def test_full_beam_is_exhaustive(
    word_ngram: NgramModel, topology: str, look_ahead: str, lm_scale: float, weight_scale: float
) -> None:
    model = Model(frames=4 if topology == "monotonic" else 2)
    entries = lexicon_entries(PRONUNCIATIONS, TOKENS, WEIGHTS)
    tree = PrefixTree(entries, len(TOKENS))
    found = model.run(
        tree,
        beam=1500,
        nbest=3000,
        topology=topology,
        max_symbols=2,
        word_lm=WordNgram(word_ngram, tree.words) if lm_scale else None,
        lm_scale=lm_scale,
        pronunciation_scale=weight_scale,
        look_ahead=look_ahead,
    )
    grams = ngram_backoff.parse(ARPA)
    plain = [(e.word, e.labels, e.log_weight, e.final) for e in entries]
    for b in range(2):
        wanted = reference.all_sentences(
            model.sequences(b, topology),
            plain,
            lambda words: ngram_backoff.sentence(grams, list(words)) if lm_scale else 0.0,
            lm_scale,
            weight_scale,
        )
        compare(found[b], wanted)


@pytest.mark.parametrize("style", ["char", "bpe"])
def test_words_of_ambiguous_spelling(style: str) -> None:
    """Words inside words, and a space that only stands between words."""
    tokens = ["<blank>", "a", "b", "<space>"]
    spellings = {"a": [["a"]], "ab": [["a", "b"]], "b": [["b"]]}
    space = "<space>" if style == "char" else None
    entries = lexicon_entries(spellings, tokens, space=space)
    tree = PrefixTree(entries, 4)
    model = Model(seed=1, frames=4)
    found = model.run(tree, beam=900, nbest=900)
    plain = [(e.word, e.labels, e.log_weight, e.final) for e in entries]
    for b in range(2):
        wanted = reference.all_sentences(
            model.sequences(b, "monotonic"), plain, lambda words: 0.0, 0.0, 1.0
        )
        # A trailing space is allowed too: the last word with it, and the same word without.
        assert any(a and a[-1] == 3 for _, _, a in wanted) == (style == "char")
        compare(found[b], wanted)


@pytest.mark.parametrize("recombination", ["history", "context"])
def test_batched_equals_one_by_one_and_parts_add_up(
    word_ngram: NgramModel, recombination: str
) -> None:
    model = Model(seed=2, frames=7)
    tree = PrefixTree(lexicon_entries(PRONUNCIATIONS, TOKENS, WEIGHTS), len(TOKENS))
    options = {
        "beam": 4,
        "nbest": 4,
        "word_lm": WordNgram(word_ngram, tree.words),
        "lm_scale": 0.7,
        "pronunciation_scale": 0.5,
        "ilm_scale": 0.2,
        "recombination": recombination,
    }
    both = model.run(tree, **options)
    encoder, lengths = model.encoder, model.lengths
    for b in range(2):
        n = int(lengths[b])
        model.encoder, model.lengths = encoder[b : b + 1, :n], lengths[b : b + 1]
        alone = model.run(tree, **options)[0]
        assert [(h.words, h.tokens, h.frames) for h in alone] == [
            (h.words, h.tokens, h.frames) for h in both[b]
        ]
        for h in alone:
            total = h.am_score - 0.2 * h.ilm_score + 0.7 * h.lm_scores[0]
            total += 0.5 * h.pronunciation_score
            assert h.score == pytest.approx(total)
            if recombination == "history":
                assert h.lm_scores[0] == pytest.approx(word_ngram.sentence(h.words), abs=1e-5)
            assert len(h.words) == len(h.word_frames)
            flat = [t for span in h.word_frames for t in span]
            assert flat == sorted(flat) and set(flat) <= set(h.frames)
            ends = [t for t, v in zip(h.frames, h.tokens, strict=True) if v == 3]
            assert [last for _, last in h.word_frames] == ends


def test_a_wide_enough_beam_finds_the_best_in_context_mode(word_ngram: NgramModel) -> None:
    """Merging by context loses no mass: its best score is at least the best sequence's."""
    model = Model(seed=3, frames=6)
    tree = PrefixTree(lexicon_entries(PRONUNCIATIONS, TOKENS, WEIGHTS), len(TOKENS))
    lm = WordNgram(word_ngram, tree.words)
    options = {"beam": 500, "word_lm": lm, "lm_scale": 0.5}
    history = model.run(tree, **options)
    context = model.run(tree, recombination="context", **options)
    assert context[0][0].score >= history[0][0].score - 1e-9


def test_word_end_pruning_and_score_beam_only_remove(word_ngram: NgramModel) -> None:
    model = Model(seed=4, frames=6)
    tree = PrefixTree(lexicon_entries(PRONUNCIATIONS, TOKENS, WEIGHTS), len(TOKENS))
    options = {"beam": 50, "nbest": 50, "word_lm": WordNgram(word_ngram, tree.words)}
    everything = {(h.words, h.tokens): h.score for h in model.run(tree, **options)[0]}
    fewer = model.run(tree, word_end_beam=1.0, score_beam=6.0, **options)[0]
    assert 0 < len(fewer) < len(everything)


def test_no_complete_word_gives_the_unfinished_one() -> None:
    tree = PrefixTree([LexiconEntry("long", (1, 2, 1, 2, 1, 2))], 4)
    model = Model(frames=2)
    with torch.no_grad():  # a beam of one forgets the empty sentence
        model.joint.output.bias[0] = -200.0
    found = model.run(tree, beam=1)[0][0]
    assert found.words == () and found.tokens == (1, 2)
    assert math.isfinite(found.score)


def test_bad_lexica(word_ngram: NgramModel) -> None:
    with pytest.raises(ValueError, match="empty"):
        lexicon_entries({}, TOKENS)
    with pytest.raises(ValueError, match="empty"):
        PrefixTree([], 4)
    with pytest.raises(ValueError, match=r"2 labels .*: X Y#"):
        lexicon_entries({"a": [["X", "O#"]], "b": [["Y#"]]}, TOKENS)
    with pytest.raises(ValueError, match="2 words have no pronunciation: a c"):
        lexicon_entries({"a": [], "b": [["O#"]], "c": [[]]}, TOKENS)
    with pytest.raises(ValueError, match=r"weight 1.5 of 'a'"):
        lexicon_entries({"a": [["O#"]]}, TOKENS, {"a": [1.5]})
    with pytest.raises(ValueError, match="2 words have no labels, blank"):
        PrefixTree([LexiconEntry("a", (0,)), LexiconEntry("b", (9,))], 4)
    with pytest.raises(ValueError, match="none of the 1 words"):
        WordNgram(word_ngram, ["zebra"])
    model, tree = Model(), PrefixTree([LexiconEntry("a", (1,))], 5)
    with pytest.raises(ValueError, match="5 labels and blank 0, the transducer 4"):
        LexiconSearch(model.prediction, model.joint, tree, BeamOptions(beam=1))
    with pytest.raises(ValueError, match="look_ahead"):
        LexiconOptions(look_ahead="far")
    with pytest.raises(ValueError, match="word_end_beam"):
        LexiconOptions(word_end_beam=-1.0)
    with pytest.raises(ValueError, match="nbest"):
        model.run(PrefixTree([LexiconEntry("a", (1,))], 4), beam=1, nbest=0)


def test_words_the_language_model_does_not_know(word_ngram: NgramModel) -> None:
    tree = PrefixTree([LexiconEntry("to", (1, 3)), LexiconEntry("unheard", (2, 3))], 4)
    lm = WordNgram(word_ngram, tree.words, oov_log_prob=-5.0)
    assert lm.unknown == ["unheard"]
    log_prob, following = lm.lookup(torch.tensor([1, 1]), torch.tensor([0, 1]))
    assert log_prob[1] == -5.0 and following[1] == 0
    found = Model(frames=6).run(tree, beam=200, nbest=200, word_lm=lm, lm_scale=1.0)[0]
    assert any("unheard" in h.words for h in found)
