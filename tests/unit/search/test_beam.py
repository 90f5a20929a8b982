"""Beam and greedy search against exhaustive path enumeration."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction
from espnet_plugin.search import BeamOptions, beam_search, greedy_search, internal_lm_log_probs
from espnet_plugin.search.beam.recombine import recombine, recombine_two
from tests.reference.search_enumeration import all_sequences, frame_choices

V, FRAMES, FULL = 3, 4, 200


class Model:
    """A tiny random transducer and its distribution as a plain function."""

    def __init__(self, kind: str, seed: int = 0, vocab: int = V) -> None:
        torch.manual_seed(seed)
        self.vocab = vocab
        if kind == "lstm":
            self.prediction = LSTMPrediction(vocab, 4, 5).double().eval()
        else:
            self.prediction = FeedForwardPrediction(vocab, 4, 5, context=int(kind)).double().eval()
        self.joint = JointNetwork(6, 5, 7, vocab).double().eval()
        with torch.no_grad():
            for part in (self.prediction, self.joint):
                for weight in part.parameters():
                    weight.mul_(3.0)
        self.encoder = torch.randn(3, FRAMES, 6).double()
        self.lengths = torch.tensor([4, 2, 3])

    def predicted(self, labels: tuple[int, ...]) -> Tensor:
        return self.prediction(torch.tensor([labels], dtype=torch.long).view(1, -1))[0, -1]

    def function(self, utterance: int):
        cache: dict = {}

        @torch.no_grad()
        def log_probs(t: int, labels: tuple[int, ...]) -> list[float]:
            if (t, labels) not in cache:
                out = self.joint(self.encoder[utterance, t], self.predicted(labels))
                cache[t, labels] = out.log_softmax(-1).tolist()
            return cache[t, labels]

        return log_probs

    @torch.no_grad()
    def ilm(self, labels: tuple[int, ...]) -> float:
        total = 0.0
        for i, label in enumerate(labels):
            logits = self.joint(torch.zeros(6).double(), self.predicted(labels[:i]))
            total += logits[1:].log_softmax(-1)[label - 1].item()
        return total


class BigramScorer:
    """A random label bigram with sentence end, as a LabelScorer."""

    def __init__(self, vocab: int, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(vocab, vocab + 1, generator=generator).double()
        table[:, 0] = -math.inf
        self.table = table.log_softmax(-1)

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, dtype=torch.int64)

    def score(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.table[state, :-1], state

    def advance(self, state: Tensor, labels: Tensor) -> Tensor:
        return labels

    def final(self, state: Tensor) -> Tensor:
        return self.table[state, -1]

    def key(self, state: Tensor) -> Tensor | None:
        return state

    def of(self, labels: tuple[int, ...]) -> float:
        history = (0, *labels)
        steps = sum(self.table[a, b].item() for a, b in zip(history, labels, strict=False))
        return steps + self.table[history[-1], -1].item()


def expected(model: Model, utterance: int, topology: str, ilm: float, lm: float, semiring: str):
    sequences = all_sequences(
        model.function(utterance), int(model.lengths[utterance]), model.vocab, topology, 2, semiring
    )
    scorer = BigramScorer(model.vocab)
    full = {
        a: (score - ilm * model.ilm(a) + (lm * scorer.of(a) if lm else 0.0), score)
        for a, score in sequences.items()
    }
    return sorted(full.items(), key=lambda item: -item[1][0])


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("kind", ["1", "2", "lstm"])
@pytest.mark.parametrize(("ilm", "lm"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.4, 0.6)])
@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_full_beam_is_exhaustive(
    topology: str, kind: str, ilm: float, lm: float, engine: str
) -> None:
    model = Model(kind)
    if topology == "rnnt":
        model.lengths = torch.tensor([3, 1, 2])
    results = beam_search(
        model.encoder,
        model.lengths,
        model.prediction,
        model.joint,
        beam=FULL,
        nbest=FULL,
        topology=topology,
        ilm_scale=ilm if ilm else None,
        scorers=[(BigramScorer(V), lm)] if lm else [],
        max_symbols=2,
        engine=engine,
    )
    for utterance, hypotheses in enumerate(results):
        wanted = expected(model, utterance, topology, ilm, lm, "full_sum")
        assert [h.tokens for h in hypotheses] == [a for a, _ in wanted]
        assert [h.score for h in hypotheses] == pytest.approx([s for _, (s, _) in wanted], abs=1e-9)
        assert [h.am_score for h in hypotheses] == pytest.approx(
            [s for _, (_, s) in wanted], abs=1e-9
        )
        if ilm:
            assert hypotheses[0].ilm_score == pytest.approx(model.ilm(hypotheses[0].tokens))


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_max_mode_finds_the_best_path_of_every_sequence(topology: str, engine: str) -> None:
    model = Model("1", seed=3)
    model.lengths = torch.tensor([3, 1, 2])
    results = beam_search(
        model.encoder,
        model.lengths,
        model.prediction,
        model.joint,
        beam=FULL,
        nbest=FULL,
        topology=topology,
        semiring="max",
        max_symbols=2,
        engine=engine,
    )
    for utterance, hypotheses in enumerate(results):
        wanted = expected(model, utterance, topology, 0.0, 0.0, "max")
        assert [h.tokens for h in hypotheses] == [a for a, _ in wanted]
        assert [h.score for h in hypotheses] == pytest.approx([s for _, (s, _) in wanted])


def test_frames_of_the_best_path_score_what_the_hypothesis_scores() -> None:
    model = Model("1", seed=4)
    hypotheses = beam_search(
        model.encoder,
        model.lengths,
        model.prediction,
        model.joint,
        beam=FULL,
        nbest=5,
        semiring="max",
    )[0]
    log_probs = model.function(0)
    for hypothesis in hypotheses:
        at = dict(zip(hypothesis.frames, hypothesis.tokens, strict=True))
        labels: tuple[int, ...] = ()
        score = 0.0
        for t in range(FRAMES):
            score += log_probs(t, labels)[at.get(t, 0)]
            labels += (at[t],) if t in at else ()
        assert labels == hypothesis.tokens
        assert score == pytest.approx(hypothesis.score)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("kind", ["1", "lstm"])
@pytest.mark.parametrize("recombination", ["history", "context"])
def test_batched_equals_one_by_one_and_never_exceeds_the_exact_score(
    topology: str, kind: str, recombination: str
) -> None:
    model = Model(kind, seed=5, vocab=4)
    options = {
        "beam": 3,
        "nbest": 3,
        "topology": topology,
        "ilm_scale": 0.2,
        "scorers": [(BigramScorer(4), 0.5)],
        "recombination": recombination,
        "max_symbols": 2,
    }
    model.lengths = torch.tensor([2, 1, 2] if topology == "rnnt" else [4, 1, 3])
    batched = beam_search(model.encoder, model.lengths, model.prediction, model.joint, **options)
    for b, hypotheses in enumerate(batched):
        n = int(model.lengths[b])
        alone = beam_search(
            model.encoder[b : b + 1, :n],
            model.lengths[b : b + 1],
            model.prediction,
            model.joint,
            **options,
        )[0]
        assert [(h.tokens, h.frames) for h in alone] == [(h.tokens, h.frames) for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses])
        assert [h.score for h in alone] == sorted((h.score for h in alone), reverse=True)
        if recombination == "history":
            exact = dict(expected(model, b, topology, 0.2, 0.5, "full_sum"))
            for h in alone:
                assert h.am_score <= exact[h.tokens][1] + 1e-9
                assert h.lm_scores == pytest.approx((BigramScorer(4).of(h.tokens),))


@pytest.mark.parametrize("score_beam", [None, 3.0])
@pytest.mark.parametrize("recombination", ["history", "context"])
@pytest.mark.parametrize("kind", ["2", "lstm"])
def test_an_utterance_does_not_see_the_pace_of_the_others(
    kind: str, recombination: str, score_beam: float | None
) -> None:
    # Some utterances emit many labels per frame and are long behind when others end.
    model = Model(kind, seed=1, vocab=5)
    torch.manual_seed(2)
    lengths = torch.randint(0, 13, (12,))
    encoder = torch.randn(12, 12, 6).double() * torch.linspace(0.2, 3.0, 12)[:, None, None]
    options = {"beam": 4, "nbest": 4, "topology": "rnnt", "max_symbols": 3}
    options |= {"recombination": recombination, "score_beam": score_beam}
    together = beam_search(encoder, lengths, model.prediction, model.joint, **options)
    paces = set()
    for b, hypotheses in enumerate(together):
        one = encoder[b : b + 1], lengths[b : b + 1]
        alone = beam_search(*one, model.prediction, model.joint, **options)[0]
        assert [(h.tokens, h.frames) for h in alone] == [(h.tokens, h.frames) for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses])
        greedy = greedy_search(*one, model.prediction, model.joint, topology="rnnt")[0]
        paces.add(len(greedy.tokens) / max(1, int(lengths[b])))
    assert max(paces) > 2 * min(paces)


@pytest.mark.parametrize("semiring", ["full_sum", "max"])
def test_two_groups_recombine_as_one(semiring: str) -> None:
    torch.manual_seed(0)
    keys = torch.stack([torch.cat([torch.randperm(9)[:6], torch.randperm(9)[:5]]) for _ in "1234"])
    scores = torch.randn(4, 11).masked_fill(torch.rand(4, 11) < 0.2, -math.inf)
    found = recombine_two(scores[:, :6], scores[:, 6:], keys[:, :6], keys[:, 6:], semiring)
    torch.testing.assert_close(found, recombine(scores, keys, semiring))
    assert (found == -math.inf).sum() > (scores == -math.inf).sum()  # some were equal


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_context_recombination_keeps_all_probability(engine: str) -> None:
    """Context 1, no LM: V hypotheses are enough to hold the mass of all sequences."""
    model = Model("1", seed=6)
    hypotheses = beam_search(
        model.encoder,
        model.lengths,
        model.prediction,
        model.joint,
        beam=V,
        nbest=V,
        recombination="context",
        engine=engine,
    )[0]
    sequences = all_sequences(model.function(0), FRAMES, V, "monotonic")
    by_last: dict[int, float] = {}
    for labels, score in sequences.items():
        last = labels[-1] if labels else 0
        by_last[last] = by_last.get(last, 0.0) + math.exp(score)
    found = {h.tokens[-1] if h.tokens else 0: math.exp(h.score) for h in hypotheses}
    assert found == pytest.approx(by_last)
    assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("kind", ["1", "2", "lstm"])
def test_greedy_takes_the_best_symbol_of_every_step(topology: str, kind: str) -> None:
    model = Model(kind, seed=7, vocab=5)
    found = greedy_search(
        model.encoder,
        model.lengths,
        model.prediction,
        model.joint,
        topology=topology,
        max_symbols=2,
    )
    for b, hypothesis in enumerate(found):
        log_probs = model.function(b)
        labels: tuple[int, ...] = ()
        frames: list[int] = []
        score = 0.0
        for t in range(int(model.lengths[b])):
            for step in range(1 if topology == "monotonic" else 3):
                row = log_probs(t, labels)
                best = 0 if step == 2 else max(range(5), key=row.__getitem__)
                score += row[best]
                if best == 0:
                    break
                labels += (best,)
                frames.append(t)
        assert hypothesis.tokens == labels
        assert list(hypothesis.frames) == frames
        assert hypothesis.score == pytest.approx(score)


def test_internal_lm_is_normalised_without_blank() -> None:
    model = Model("1")
    out = internal_lm_log_probs(model.predicted((1, 2)), model.joint)
    assert out[0] == -math.inf
    assert out.exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_no_frames_give_the_empty_hypothesis(topology: str, engine: str) -> None:
    model = Model("1")
    arguments = (model.encoder, torch.tensor([0, 4, 0]), model.prediction, model.joint)
    results = beam_search(*arguments, beam=4, topology=topology, engine=engine)
    assert results[0][0].tokens == () and results[0][0].score == 0.0
    assert len(results[1]) == 1


@pytest.mark.parametrize("search", [greedy_search, partial(beam_search, beam=2)])
def test_lengths_that_do_not_fit(search: Callable[..., list]) -> None:
    model = Model("1")
    for lengths, said in (([1, 2], "3 encoder outputs, but"), ([1, 5, 2], "within 0 ... 4 frames")):
        with pytest.raises(ValueError, match=re.escape(said)):
            search(model.encoder, torch.tensor(lengths), model.prediction, model.joint)
    nothing = model.encoder[:0], torch.tensor([], dtype=torch.int64)
    assert search(*nothing, model.prediction, model.joint) == []


def test_max_symbols_bounds_the_labels_of_a_model_that_never_ends_a_frame() -> None:
    model = Model("1")
    with torch.no_grad():
        model.joint.output.bias[0] = -50.0
    arguments = (model.encoder, model.lengths, model.prediction, model.joint)
    greedy = greedy_search(*arguments, topology="rnnt", max_symbols=3)[0]
    assert len(greedy.tokens) == 3 * FRAMES
    found = beam_search(*arguments, beam=8, nbest=8, topology="rnnt", max_symbols=3)[0]
    assert all(len(h.tokens) <= 3 * FRAMES for h in found)


def test_blank_penalty_and_score_beam() -> None:
    model = Model("1", seed=8)
    arguments = (model.encoder, model.lengths, model.prediction, model.joint)
    few = beam_search(*arguments, beam=8, nbest=8, score_beam=0.5)[0]
    assert all(h.score >= few[0].score - 0.5 for h in few)
    many_labels = beam_search(*arguments, beam=8, blank_penalty=30.0)[0][0]
    assert len(many_labels.tokens) == FRAMES


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="beam 0"):
        BeamOptions(beam=0)
    with pytest.raises(ValueError, match="topology"):
        BeamOptions(beam=1, topology="hmm")
    with pytest.raises(ValueError, match="recombination"):
        BeamOptions(beam=1, recombination="none")
    with pytest.raises(ValueError, match="semiring"):
        BeamOptions(beam=1, semiring="tropical")
    with pytest.raises(ValueError, match="engine must be one of"):
        BeamOptions(beam=1, engine="numba")
    with pytest.raises(ValueError, match="score_beam"):
        BeamOptions(beam=1, score_beam=0.0)
    model = Model("1")
    arguments = (model.encoder, model.lengths, model.prediction, model.joint)
    with pytest.raises(ValueError, match="nbest"):
        beam_search(*arguments, beam=1, nbest=0)
    with pytest.raises(ValueError, match="5 labels, the transducer 3"):
        beam_search(*arguments, beam=2, scorers=[(BigramScorer(5), 0.5)])
    model.joint.train()
    with pytest.raises(ValueError, match="training mode"):
        beam_search(*arguments, beam=1)


def test_reference_enumerates_what_it_says() -> None:
    assert len(frame_choices(3, "monotonic", 5)) == 3
    assert len(frame_choices(3, "rnnt", 2)) == 7
