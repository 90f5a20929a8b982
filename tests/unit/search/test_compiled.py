"""The compiled search against the one in torch, and which of the two runs."""

from __future__ import annotations

import importlib
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import (
    BeamOptions,
    BeamSearch,
    Hypothesis,
    LmAdapter,
    NgramScorer,
    WordEndScorer,
    read_arpa,
)
from espnet_plugin.search.beam import engine
from tests.unit.search.test_beam import BigramScorer, Model, V
from tests.unit.search.test_lm import TRIGRAM

CHOICES: dict[str, list] = {
    "beam": [1, 2, 4, 9],
    "topology": ["monotonic", "rnnt"],
    "recombination": ["history", "context"],
    "semiring": ["full_sum", "max"],
    "score_beam": [None, None, 1.5, 5.0],
    "max_symbols": [1, 2, 5],
    "ilm_scale": [None, None, 0.0, 0.3],
    "blank_penalty": [0.0, 0.5],
}


def both(model: Any, encoder: torch.Tensor, lengths: torch.Tensor, scorers: Any, **options: Any):
    """N-best lists of torch's search and of the compiled one."""
    found = []
    for name in ("torch", "compiled"):
        chosen = BeamOptions(engine=name, **options)
        search = BeamSearch(model.prediction, model.joint, chosen, scorers)
        found.append(search.search(encoder, lengths, nbest=options["beam"]))
    return found


def assert_equal(reference: list[Hypothesis], found: list[Hypothesis], tolerance: float) -> None:
    assert [(h.tokens, h.frames) for h in found] == [(h.tokens, h.frames) for h in reference]
    for ours, theirs in zip(found, reference, strict=True):
        pairs = [(ours.score, theirs.score), (ours.am_score, theirs.am_score)]
        pairs += [(ours.ilm_score, theirs.ilm_score)]
        pairs += zip(ours.lm_scores, theirs.lm_scores, strict=True)
        for a, b in pairs:
            assert a == pytest.approx(b, abs=tolerance)


def evaluate_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with vocabularies so large that their weights come from memory."""
    module = importlib.import_module(engine.load().__module__)
    monkeypatch.setattr(module, "AHEAD_FROM_BYTES", 0)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_models_and_options(
    seed: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed >= 20:
        evaluate_ahead(monkeypatch)
    chosen = random.Random(seed)
    vocab = chosen.choice([3, 5, 9])
    model = Model(["1", "2", "3", "lstm"][seed % 4], seed=seed, vocab=vocab)
    scorers = [(BigramScorer(vocab), 0.6), (BigramScorer(vocab, seed=3), -0.2)]
    scorers = scorers[: chosen.choice([0, 0, 1, 2])]
    frames = chosen.choice([1, 4, 16])
    encoder = torch.randn(3, frames, 6) * chosen.choice([0.5, 1.0, 2.0])
    for part in (model.prediction, model.joint):
        part.to(dtype)
    for scorer, _ in scorers:
        scorer.table = scorer.table.to(dtype)
    lengths = torch.randint(0, frames + 1, (3,))
    options = {name: chosen.choice(values) for name, values in CHOICES.items()}
    reference, found = both(model, encoder.to(dtype), lengths, scorers, **options)
    for a, b in zip(reference, found, strict=True):
        assert_equal(a, b, 1e-5 if dtype == torch.float32 else 1e-9)


class PrefixLm:
    """A language model with ESPnet's batched method that remembers everything."""

    def batch_score(self, ys: torch.Tensor, states: Any, xs: Any) -> tuple[torch.Tensor, list]:
        mixed = (ys * torch.arange(1, ys.shape[1] + 1)).sum(1) % 7  # [n]
        logits = torch.sin(mixed[:, None] + torch.arange(5.0) ** 2)  # [n, V]
        return logits.log_softmax(-1), [None] * len(ys)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("recombination", ["history", "context"])
@pytest.mark.parametrize("kind", ["2", "lstm"])
def test_language_models_of_all_kinds(
    tmp_path: Path, topology: str, recombination: str, kind: str
) -> None:
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(TRIGRAM)
    tokens = ["<blank>", "a", "b", "<space>", "<sos/eos>"]
    labels = ["<blank>", "a", "b", "c", "<sos/eos>"]
    model = Model(kind, seed=2, vocab=5)
    scorers = [
        (NgramScorer(read_arpa(arpa), labels), 0.5),
        (WordEndScorer(read_arpa(arpa), tokens, "char"), 0.3),
    ]
    if recombination == "history":
        scorers.append((LmAdapter(PrefixLm(), 5), -0.2))
    encoder = torch.randn(2, 8, 6).double()
    options: dict = {"beam": 5, "topology": topology, "recombination": recombination}
    reference, found = both(
        model, encoder, torch.tensor([8, 5]), scorers, ilm_scale=0.1, max_symbols=3, **options
    )
    for a, b in zip(reference, found, strict=True):
        assert len(a) > 1 and all(math.isfinite(h.score) for h in a)
        assert_equal(a, b, 1e-5)  # n-grams are float32


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_many_labels_and_every_activation(activation: str) -> None:
    torch.manual_seed(0)
    model = Model("1", vocab=3)
    model.prediction = FeedForwardPrediction(203, 8, 16).eval()
    model.joint = JointNetwork(6, 16, 50, 203, activation).eval()
    with torch.no_grad():
        model.joint.output.weight.mul_(6.0)
    encoder = torch.randn(2, 20, 6)
    reference, found = both(model, encoder, torch.tensor([20, 13]), [], beam=11)
    for a, b in zip(reference, found, strict=True):
        assert_equal(a, b, 5e-5)
        assert a[0].tokens


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_frames_ahead_change_nothing(topology: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long utterances with labels every few frames: the workspace is emptied many times."""
    evaluate_ahead(monkeypatch)
    torch.manual_seed(1)
    model = Model("1", vocab=3)
    model.prediction = FeedForwardPrediction(40, 8, 16).double().eval()
    model.joint = JointNetwork(6, 16, 50, 40).double().eval()
    with torch.no_grad():
        model.joint.output.weight.mul_(6.0)
        model.joint.output.bias[0] += 6.0 if topology == "monotonic" else 3.0
    encoder = 2.0 * torch.randn(2, 60, 6).double().repeat_interleave(5, 1)
    encoder += 0.2 * torch.randn(2, 300, 6)  # equal frames would mean equal scores
    lengths = torch.tensor([300, 211])
    options = {"topology": topology, "score_beam": 6.0, "max_symbols": 2}
    reference, found = both(model, encoder, lengths, [], beam=4, **options)
    for a, b in zip(reference, found, strict=True):
        assert_equal(a, b, 1e-8)
        assert 10 < len(a[0].tokens) < 200


def test_the_output_layer_is_not_read_again_for_frames_it_was_read_for() -> None:
    """States that go on: one product for eight frames, unless new states keep appearing."""
    load = engine.load().__module__.rpartition(".")[0]
    at, logits = (importlib.import_module(f"{load}.{name}") for name in ("layout", "logits"))
    control, settings = np.zeros(at.CONTROL_SIZE, int), np.zeros(at.SETTINGS_SIZE, int)
    settings[[at.AHEAD, at.FRAME_ROWS]] = at.MOST_AHEAD, 2
    encoder, weight, bias = (torch.randn(*size).numpy() for size in ((30, 6), (7, 6), (7,)))
    projected, notes = np.zeros((30, 6), "f4"), np.zeros((30, at.NOTES_SIZE), int)
    hidden, out = np.empty((64, 6), "f4"), np.empty((64, 7), "f4")
    places, norms = np.zeros(2, int), np.zeros(64)

    def read(rows: list[int], frame: int) -> bool:
        control[at.FRAME] = frame
        used = int(control[at.USED])
        logits.evaluate_frame(
            np.array(rows), places, encoder, control, settings, weight, bias, projected, notes,
            hidden, out, norms,
        )  # fmt: skip
        expected = np.tanh(encoder[frame]) @ weight.T + bias
        assert np.allclose(out[places[0]], expected, atol=1e-5)
        assert np.isclose(norms[places[0]], np.log(np.exp(expected).sum()), atol=1e-5)
        return int(control[at.USED]) > used

    assert [frame for frame in range(9) if read([0, 0], frame)] == [0, 8]
    assert all(read([0, row], row) for row in range(9, 25))
    before = int(control[at.USED])
    assert read([0, 25], 25)
    assert control[at.USED] == before + 2, "new states all the time: nothing ahead"


def test_a_second_search_knows_the_states_of_the_first_and_weights_may_change() -> None:
    model = Model("2", seed=1, vocab=5)
    search = BeamSearch(model.prediction, model.joint, BeamOptions(beam=4, engine="compiled"))
    arguments = model.encoder, model.lengths, 4
    first = search.search(*arguments)
    assert search.search(*arguments) == first
    with torch.no_grad():
        model.joint.output.bias[0] += 5.0
    reference = BeamSearch(model.prediction, model.joint, BeamOptions(beam=4, engine="torch"))
    changed = search.search(*arguments)
    assert changed != first
    for a, b in zip(reference.search(*arguments), changed, strict=True):
        assert_equal(a, b, 1e-9)


def test_the_hash_table_is_a_dictionary() -> None:
    table_module = pytest.importorskip("espnet_plugin.search.beam.compiled.table")
    generator = np.random.default_rng(0)
    table, known = table_module.HashTable(), {}
    for _ in range(20):
        keys = np.unique(generator.integers(0, 2**62, 300))
        keys = keys[[int(k) not in known for k in keys]]
        values = generator.integers(0, 2**40, len(keys))
        table.add(keys, values)
        known.update(zip(keys.tolist(), values.tolist(), strict=True))
    assert all(table_module.find(table.keys, table.values, k) == v for k, v in known.items())
    assert table_module.find(table.keys, table.values, 12345) == -1


# Which search runs -------------------------------------------------------------------------------


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user for whom nothing was compiled yet; returns the folder."""
    monkeypatch.setattr(engine, "folder", lambda: tmp_path)
    monkeypatch.setattr(engine, "_frames_by_torch", 0)
    engine._mark.cache_clear()
    engine._say_once.cache_clear()
    yield tmp_path
    engine._mark.cache_clear()


class Counted:
    """Stands in for the compiled search."""

    made = 0

    def __init__(self, *arguments: Any) -> None:
        Counted.made += 1

    def search(self, frames: Any, first: Any, lengths: torch.Tensor, nbest: int) -> list:
        return [[] for _ in lengths]


def test_auto_compiles_when_it_pays(
    nothing_compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "load", lambda: Counted)
    monkeypatch.setattr(engine, "FRAMES_BEFORE_COMPILING", 10)
    Counted.made = 0
    model = Model("1")
    for part in (model.prediction, model.joint):
        part.float()
    encoder, length = model.encoder[:1].float(), torch.tensor([4])
    search = BeamSearch(model.prediction, model.joint, BeamOptions(beam=2))
    many = engine.MAX_BATCH_SMALL + 1
    search.search(encoder.repeat(many, 1, 1), length.repeat(many))  # torch's, and not counted
    assert [bool(search.search(encoder, length)[0]) for _ in range(4)] == [True, True, False, False]
    assert Counted.made == 1
    again = BeamSearch(model.prediction, model.joint, BeamOptions(beam=2))
    assert not again.search(encoder, length)[0]  # it lies on disk: at once
    assert again.search(encoder.repeat(many, 1, 1), length.repeat(many))[0]
    assert (nothing_compiled / "float32").exists()


@pytest.mark.parametrize(
    ("kind", "scorers", "small", "most"),
    [
        ("2", [], True, "MAX_BATCH_SMALL"),
        ("2", [], False, "MAX_BATCH"),
        ("lstm", [], True, "MAX_BATCH"),
        ("2", [(BigramScorer(V), 0.5)], True, "MAX_BATCH"),
    ],
)
def test_auto_leaves_large_batches_to_torch(
    kind: str, scorers: list, small: bool, most: str, nothing_compiled: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And all the sooner where its batches pay: many weights, states asked one by one."""
    (nothing_compiled / "float32").touch()
    monkeypatch.setattr(engine, "load", lambda: Counted)
    monkeypatch.setattr(engine, "SMALL_BYTES", 1 << 22 if small else 0)
    model = Model(kind)
    for part in (model.prediction, model.joint):
        part.float()
    search = BeamSearch(model.prediction, model.joint, BeamOptions(beam=2), scorers)
    for batch, by_torch in ((getattr(engine, most), False), (getattr(engine, most) + 1, True)):
        encoder = model.encoder[:1].float().repeat(batch, 1, 1)
        assert bool(search.search(encoder, torch.full((batch,), 3))[0]) == by_torch


def test_torch_takes_over_where_numba_is_missing(
    nothing_compiled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (nothing_compiled / "float32").touch()

    def refuse() -> None:
        raise ImportError("Numba needs NumPy 1.0 or less")

    monkeypatch.setattr(engine, "load", refuse)
    model = Model("1")
    for part in (model.prediction, model.joint):
        part.float()
    arguments = model.encoder.float(), model.lengths
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            search = BeamSearch(model.prediction, model.joint, BeamOptions(beam=2))
            assert search.search(*arguments)[0]
    assert sum("Numba needs NumPy" in r.getMessage() for r in caplog.records) == 1
    asked = BeamSearch(model.prediction, model.joint, BeamOptions(beam=2, engine="compiled"))
    with pytest.raises(ValueError, match="numba cannot be imported: Numba needs"):
        asked.search(*arguments)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"numba is not installed .* 'auto' or 'torch'"):
        asked.search(*arguments)
    assert search.search(*arguments)[0]


def test_what_cannot_be_compiled_says_why() -> None:
    class Other(JointNetwork):
        pass

    model = Model("1")
    options = BeamOptions(beam=2, engine="compiled")
    other = Other(6, 5, 7, 3).double().eval()
    with pytest.raises(ValueError, match="joint network is a Other, not the usual one"):
        BeamSearch(model.prediction, other, options).search(model.encoder, model.lengths)
    for part in (model.prediction, model.joint):
        part.bfloat16()
    search = BeamSearch(model.prediction, model.joint, options)
    with pytest.raises(ValueError, match=r"computes in torch\.bfloat16"):
        search.search(model.encoder.bfloat16(), model.lengths)
