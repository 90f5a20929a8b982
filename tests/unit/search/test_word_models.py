"""Word n-grams in label-level search, several in a lexicon search, KenLM, exact label times."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import (
    KenlmModel,
    PrefixTree,
    WordEndScorer,
    WordMixture,
    WordNgram,
    beam_search,
    exact_frames,
    lexicon_entries,
    lexicon_search,
    read_arpa,
)
from tests.reference import ngram_backoff
from tests.reference.search_enumeration import frame_choices

ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-99\t<s>\t-0.3
-0.9\t</s>
-1.5\t<unk>
-0.5\tab\t-0.2
-1.1\tb\t-0.4
-0.6\ta

\\2-grams:
-0.2\t<s>\tb
-0.4\tb\tab
-0.3\tab\ta
-0.5\ta\t</s>

\\end\\
"""
GRAMS = ngram_backoff.parse(ARPA)
STYLES = {
    "char": ["<blank>", "a", "b", "<space>", "<sos/eos>"],
    "bpe": ["<blank>", "▁a", "b", "▁", "<sos/eos>"],
    "phn": ["<blank>", "A", "A#", "B#", "<sos/eos>"],
}
SPOKEN = {("A#",): ["a"], ("A", "B#"): ["ab"], ("B#",): ["b", "bee"], ("A", "A", "B#"): ["aab"]}


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "words.arpa"
    path.write_text(ARPA)
    return path


def network(vocab: int, seed: int = 0):
    torch.manual_seed(seed)
    prediction = FeedForwardPrediction(vocab, 3, 4).double().eval()
    joint = JointNetwork(6, 4, 7, vocab).double().eval()
    with torch.no_grad():
        joint.output.weight.mul_(4.0)
    return prediction, joint


def words_of(tokens: list[str], style: str) -> list[str]:
    """Independent of the scorer: how a reader would split the labels."""
    if style == "char":
        return "".join(" " if t == "<space>" else t for t in tokens).split()
    if style == "bpe":
        return "".join(tokens).replace("▁", " ").split()
    parts = re.findall(r"(?:[AB] )*[AB]#? ?", "".join(f"{t} " for t in tokens))
    return [" ".join(part.split()) for part in parts if part.strip()]


def word_score(words: list[str], style: str) -> float:
    known = {word[0] for word in GRAMS if len(word) == 1}
    if style == "phn":
        options = [SPOKEN.get(tuple(w.split()), ["nothing"]) for w in words]
        # homophones: the scorer takes the better one; "bee" is unknown, "b" is listed
        words = [o[0] for o in options]
    return ngram_backoff.sentence(GRAMS, [w if w in known else "<unk>" for w in words])


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("style", list(STYLES))
def test_a_word_model_scores_label_sequences_as_their_words(arpa, style, topology) -> None:
    tokens = STYLES[style]
    prediction, joint = network(len(tokens))
    scorer = WordEndScorer(read_arpa(arpa), tokens, style, pronunciations=SPOKEN)
    lengths = torch.tensor([5, 3] if topology == "monotonic" else [3, 2])
    arguments = (torch.randn(2, 5, 6).double(), lengths, prediction, joint)
    # 4^0 + ... + 4^6 sequences at most: nothing is pruned
    options = {"beam": 5500, "nbest": 5500, "topology": topology, "max_symbols": 2}
    plain = beam_search(*arguments, **options)
    fused = beam_search(*arguments, **options, scorers=[(scorer, 0.7)])
    checked = 0
    for before, after in zip(plain, fused, strict=True):
        acoustic = {h.tokens: h.am_score for h in before}
        for h in after:
            assert 4 not in h.tokens  # the end of the sentence is no label
            expected = word_score(words_of([tokens[t] for t in h.tokens], style), style)
            assert h.lm_scores[0] == pytest.approx(expected, abs=1e-4), h.tokens
            assert h.score == pytest.approx(acoustic[h.tokens] + 0.7 * expected, abs=1e-4)
            checked += 1
        assert [h.score for h in after] == sorted((h.score for h in after), reverse=True)
    assert checked > 100


def test_equal_states_have_equal_keys(arpa) -> None:
    tokens = STYLES["char"]
    scorer = WordEndScorer(read_arpa(arpa), tokens, "char")
    state = scorer.start(2)
    for labels in ([1, 1], [2, 2], [3, 3], [1, 2]):  # "ab a" and "ab b"
        _, state = scorer.score(state)
        state = scorer.advance(state, torch.tensor(labels))
    first, second = scorer.key(state).tolist()
    assert first != second
    _, state = scorer.score(state)
    again = scorer.advance(state, torch.tensor([3, 3]))
    assert len(set(scorer.key(again).tolist())) == 2  # after a known and after another word


def test_phonemes_that_spell_a_word_are_not_that_word(arpa) -> None:
    """An unfinished word's labels in a row may look like a listed word."""
    tokens = ["<blank>", "a", "b", "b#", "<sos/eos>"]  # "a b" is cut off, "ab" a word of the model
    spoken = {("a", "b", "b#"): ["a"]}
    scorer = WordEndScorer(read_arpa(arpa), tokens, "phn", pronunciations=spoken)
    state = scorer.start(1)
    for label in (1, 2):
        _, state = scorer.score(state)
        state = scorer.advance(state, torch.tensor([label]))
    expected = ngram_backoff.sentence(GRAMS, ["<unk>"])
    assert float(scorer.final(state)) == pytest.approx(expected, abs=1e-5)


def test_word_ends_need_to_be_known(arpa) -> None:
    with pytest.raises(ValueError, match="style must be one of"):
        WordEndScorer(read_arpa(arpa), ["<blank>", "a"], "word")
    with pytest.raises(ValueError, match="needs their pronunciations"):
        WordEndScorer(read_arpa(arpa), STYLES["phn"], "phn")


# Several word models in a lexicon search ---------------------------------------------------------


def test_two_word_models_add_up_with_their_scales(arpa, tmp_path) -> None:
    other = tmp_path / "other.arpa"
    other.write_text(
        "\\data\\\nngram 1=5\n\n\\1-grams:\n-99 <s>\n-0.7 </s>\n"
        "-0.2 ab\n-0.4 a\n-1.3 b\n\n\\end\\\n"
    )
    tokens = ["<blank>", "A", "A#", "B#"]
    spoken = {"a": [["A#"]], "ab": [["A", "B#"]], "b": [["B#"]]}
    tree = PrefixTree(lexicon_entries(spoken, tokens), vocab_size=4)
    first, second = (WordNgram(read_arpa(path), tree.words) for path in (arpa, other))
    prediction, joint = network(4, seed=1)
    arguments = (torch.randn(1, 4, 6).double(), torch.tensor([4]), prediction, joint, tree)
    options = {"beam": 500, "nbest": 500}
    alone = lexicon_search(*arguments, **options, word_lm=first, lm_scale=0.8)[0]
    mixed = lexicon_search(*arguments, **options, word_lm=WordMixture([(first, 0.8)]))[0]
    assert [h.words for h in alone] == [h.words for h in mixed]
    assert [h.score for h in mixed] == pytest.approx([h.score for h in alone], abs=1e-5)
    both = WordMixture([(first, 0.8), (second, -0.3)])
    found = lexicon_search(*arguments, **options, word_lm=both)[0]
    acoustic = {h.words: h.am_score for h in alone}
    assert len(found) > 20
    for h in found:
        parts = [read_arpa(path).sentence(h.words) for path in (arpa, other)]
        assert h.lm_scores[0] == pytest.approx(0.8 * parts[0] - 0.3 * parts[1], abs=1e-4)
        assert h.score == pytest.approx(acoustic[h.words] + h.lm_scores[0], abs=1e-4)
    with pytest.raises(ValueError, match="at least one"):
        WordMixture([])


# KenLM -------------------------------------------------------------------------------------------


def test_kenlm_models_answer_like_our_own(arpa) -> None:
    pytest.importorskip("kenlm")
    ours, theirs = read_arpa(arpa), KenlmModel(arpa)
    sentences = [list(s) for n in range(4) for s in itertools.product(["ab", "b", "zoo"], repeat=n)]
    for words in sentences:
        assert theirs.sentence(words) == pytest.approx(ours.sentence(words), abs=1e-4)
    assert theirs.knows("ab") and theirs.knows("</s>") and not theirs.knows("zoo")
    tokens = STYLES["char"]
    prediction, joint = network(len(tokens))
    found = [
        beam_search(
            torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0)).double(),
            torch.tensor([5]),
            prediction,
            joint,
            beam=20,
            nbest=5,
            scorers=[(WordEndScorer(model, tokens, "char"), 0.5)],
        )[0]
        for model in (ours, theirs)
    ]
    assert [h.tokens for h in found[0]] == [h.tokens for h in found[1]]
    scores = [[h.score for h in hypotheses] for hypotheses in found]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_kenlm_without_unk_leaves_unknown_words_to_us(arpa, tmp_path) -> None:
    pytest.importorskip("kenlm")
    path = tmp_path / "closed.arpa"
    path.write_text(ARPA.replace("-1.5\t<unk>\n", "").replace("ngram 1=6", "ngram 1=5"))
    ours, theirs = read_arpa(path), KenlmModel(path)
    assert theirs.index("zoo") is None and ours.index("zoo") is None
    for words in (["zoo"], ["ab", "zoo", "b"]):
        assert theirs.sentence(words) == pytest.approx(ours.sentence(words), abs=1e-3)


def test_kenlm_files_that_are_none(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="no such language model"):
        KenlmModel(tmp_path / "none.bin")
    (tmp_path / "lm.bin").write_bytes(b"no model at all")
    monkeypatch.setitem(__import__("sys").modules, "kenlm", None)
    with pytest.raises(ValueError, match="pip install kenlm"):
        KenlmModel(tmp_path / "lm.bin")
    monkeypatch.undo()
    pytest.importorskip("kenlm")
    with pytest.raises(ValueError, match="KenLM cannot read it"):
        KenlmModel(tmp_path / "lm.bin")


# Exact times -------------------------------------------------------------------------------------


@torch.no_grad()
def best_frames(prediction, joint, encoder, labels, topology) -> tuple[int, ...]:
    """By trying every way to spread the labels over the frames."""
    best, winner = -math.inf, ()
    most = len(labels) if topology == "rnnt" else 1
    vocab = joint.output.weight.shape[0]
    sizes = sorted({len(c) for c in frame_choices(2, topology, most)})
    for counts in itertools.product(sizes, repeat=len(encoder)):
        if sum(counts) != len(labels):
            continue
        score, done, frames = 0.0, 0, []
        for t, count in enumerate(counts):
            for _ in range(count):
                score += step(prediction, joint, encoder[t], labels[:done])[labels[done]]
                frames.append(t)
                done += 1
            if topology == "rnnt" or not count:
                score += step(prediction, joint, encoder[t], labels[:done])[0]
        if score > best:
            best, winner = score, tuple(frames)
    assert vocab > max(labels, default=0)
    return winner


def step(prediction, joint, frame, labels):
    context = torch.tensor([labels], dtype=torch.long).view(1, -1)
    return joint(frame, prediction(context)[0, -1]).log_softmax(-1).tolist()


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_frames_are_those_of_the_best_path(topology) -> None:
    prediction, joint = network(4, seed=3)
    encoder, lengths = torch.randn(4, 5, 6).double(), torch.tensor([5, 4, 3, 2])
    tokens = [(1, 2, 3), (2,), (), (1, 1)]
    found = exact_frames(tokens, encoder, lengths, prediction, joint, topology=topology)
    for b, labels in enumerate(tokens):
        expected = best_frames(prediction, joint, encoder[b, : lengths[b]], labels, topology)
        assert found[b] == expected
    assert exact_frames([(), ()], encoder[:2], lengths[:2], prediction, joint) == [(), ()]


def test_no_frames_for_what_does_not_fit() -> None:
    prediction, joint = network(4)
    found = exact_frames(
        [(1, 2, 3), (1,)], torch.randn(2, 3, 6).double(), torch.tensor([2, 3]), prediction, joint
    )
    assert found[0] is None and len(found[1]) == 1
