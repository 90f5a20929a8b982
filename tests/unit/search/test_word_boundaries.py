"""Placing known words in the sound: the path against all paths, the model on made-up speech."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from espnet_plugin.search.align import word_hmm
from espnet_plugin.search.align.chain_path import BEGIN, NO_JUMP, chain_path
from espnet_plugin.search.align.hmm_training import MIN_UTTERANCES, train_word_hmm
from espnet_plugin.search.align.word_hmm import WordHmm, read_word_hmm

FEATURES = 10
SOUNDS = {letter: n for n, letter in enumerate("ABCDE")}


def allowed(path: tuple[int, ...], jump: list[int], last: int) -> bool:
    """By the rules in words: stay, one on, or from the state that may be jumped from."""
    if path[0] != 0 and jump[path[0]] != BEGIN:
        return False
    if path[-1] not in (last, len(jump) - 1):
        return False
    return all(b in (a, a + 1) or jump[b] == a for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("seed", range(6))
def test_the_best_of_all_paths(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jumps = [
        [NO_JUMP, BEGIN, NO_JUMP, NO_JUMP, 2],  # pause, two states, pause, one state
        [NO_JUMP, BEGIN, NO_JUMP],  # pause, one state, pause
        [NO_JUMP],
        [NO_JUMP, BEGIN, NO_JUMP, NO_JUMP, 2],  # in too few frames
    ]
    lasts, frames = [4, 1, 0, 4], [6, 5, 3, 1]
    width, steps = 5, 6
    scores = torch.randn(4, steps, width, generator=generator)
    rows = [row + [NO_JUMP] * (width - len(row)) for row in jumps]
    states = torch.tensor([len(row) for row in jumps])
    found = chain_path(
        scores, torch.tensor(rows), torch.tensor(lasts), torch.tensor(frames), states
    )
    for b, (jump, last, length) in enumerate(zip(jumps, lasts, frames, strict=True)):
        paths = [
            path
            for path in itertools.product(range(len(jump)), repeat=length)
            if allowed(path, jump, last)
        ]
        assert found[b, length:].tolist() == [-1] * (steps - length)
        if not paths:
            assert found[b].tolist() == [-1] * steps
            continue
        best = max(paths, key=lambda path: float(scores[b, range(length), list(path)].sum()))
        assert found[b, :length].tolist() == list(best)


def speak(words: list[str], rng: np.random.Generator) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Noise around a direction per letter, pauses before, after and half of the time between."""
    rows: list[np.ndarray] = []
    spans = []

    def sound(mean: np.ndarray, frames: int) -> None:
        rows.extend(mean + 0.4 * rng.standard_normal(FEATURES) for _ in range(frames))

    silence = np.full(FEATURES, -1.0)
    sound(silence, int(rng.integers(8, 20)))
    for number, word in enumerate(words):
        if number and rng.random() < 0.5:
            sound(silence, int(rng.integers(5, 20)))
        start = len(rows)
        for letter in word:
            sound(3.0 * np.eye(FEATURES)[SOUNDS[letter]], int(rng.integers(4, 12)))
        spans.append((start, len(rows)))
    sound(silence, int(rng.integers(8, 20)))
    return torch.from_numpy(np.array(rows)).float(), spans


def sentence(rng: np.random.Generator, letters: str = "ABCD") -> list[str]:
    count = int(rng.integers(2, 5))
    return ["".join(rng.choice(list(letters), int(rng.integers(1, 4)))) for _ in range(count)]


@pytest.fixture(scope="module")
def trained() -> WordHmm:
    rng = np.random.default_rng(1)
    texts = [sentence(rng) for _ in range(60)]
    return train_word_hmm([*texts, []], [*(speak(t, rng)[0] for t in texts), torch.zeros(9, 10)])


def errors(model: WordHmm, letters: str) -> np.ndarray:
    """Frames from the true boundary to the found one, of both ends of all words [2W]."""
    rng = np.random.default_rng(2)
    texts = [sentence(rng, letters) for _ in range(15)]
    said = [speak(text, rng) for text in texts]
    lengths = torch.tensor([len(sound) for sound, _ in said])
    padded = torch.nn.utils.rnn.pad_sequence([s for s, _ in said], batch_first=True)
    found = model.spans(texts, padded, lengths)
    true = [bound for _, spans in said for span in spans for bound in span]
    got = [bound for spans in found for span in spans or () for bound in span]
    return np.array(got) - np.array(true)


def test_boundaries_are_found_without_having_been_told(trained: WordHmm) -> None:
    wrong = errors(trained, "ABCD")
    assert np.abs(wrong).mean() < 2.5 and abs(wrong.mean()) < 1 and np.median(np.abs(wrong)) <= 2
    # one that has not heard anything, for comparison
    assert np.abs(errors(untrained(trained), "ABCD")).mean() > 10


def untrained(model: WordHmm) -> WordHmm:
    one = torch.ones_like(model.mean)
    return WordHmm(model.units, 0 * one, one, model.offset, model.projection)


def test_a_letter_that_training_never_saw(trained: WordHmm) -> None:
    assert "E" not in trained.units
    assert np.abs(errors(trained, "ABCDE")).mean() < 4


def test_utterances_without_a_place_for_their_words(
    trained: WordHmm, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.randn(3, 20, FEATURES, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([20, 5, 0])
    found = trained.spans([[], ["ABCD"], ["A"]], features, lengths)
    assert found == [[], None, None]
    monkeypatch.setattr(word_hmm, "MAX_CELLS", 100)
    assert trained.spans([["AB"]], features[:1], lengths[:1]) == [None]


def test_file(trained: WordHmm, tmp_path: Path) -> None:
    path = tmp_path / "boundaries.npz"
    trained.save(path)
    again = read_word_hmm(path)
    assert again.units == dict(trained.units)
    assert errors(again, "ABCD").tolist() == errors(trained, "ABCD").tolist()
    assert path.stat().st_size < 100_000


def test_files_that_are_none(trained: WordHmm, tmp_path: Path) -> None:
    path = tmp_path / "boundaries.npz"
    with pytest.raises(ValueError, match="no file of word boundaries"):
        read_word_hmm(path)
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="no file of word boundaries"):
        read_word_hmm(path)
    np.savez(path, units=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="no file of word boundaries"):
        read_word_hmm(path)
    trained.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "mean": arrays["mean"][:-1]})
    with pytest.raises(ValueError, match="do not belong together"):
        read_word_hmm(path)


def test_too_little_to_learn_from() -> None:
    words = [["AB"]] * MIN_UTTERANCES
    long, short = torch.randn(30, FEATURES), torch.randn(3, FEATURES)
    with pytest.raises(ValueError, match=r"there are 1$"):
        train_word_hmm(words, [long, *[short] * (MIN_UTTERANCES - 1)])
    with pytest.raises(ValueError, match="all the same"):
        train_word_hmm(words, [torch.ones(30, FEATURES)] * MIN_UTTERANCES)
