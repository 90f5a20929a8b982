"""Trains a `WordHmm` from speech and its words, by nothing but best paths from a flat start.

First the edges of an utterance are pauses and its characters equally long. Then, again and again,
Gaussians from the present path and a new path from the Gaussians. Features are projected on their
principal components at first, later on the directions that tell the states apart (Fisher's
discriminants). Contexts come in when the plain characters have found their places.

Shapes: T' feature frames, F features, D projected ones, K Gaussians.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from espnet_plugin.search.align.word_hmm import (
    PAUSE_GAUSSIANS,
    PAUSE_ROW,
    STATES_PER_CHARACTER,
    UNKNOWN,
    Chain,
    WordHmm,
    around,
    gaussians,
    spellings,
)

DIMENSIONS = 24
ROUNDS = 14
#: Rounds after which the projection is made anew, and that after which contexts come in.
PROJECT_AFTER, CONTEXTS_AFTER = (5, 10), 7
#: A context becomes a unit when it was seen so often.
CONTEXT_COUNT = 40
# Frames that each Gaussian takes from all speech, and its least variance, relative to that of all.
_PRIOR_FRAMES, _FLOOR = 5.0, 0.05
_BATCH, _KMEANS_ROUNDS = 32, 8
#: Below so many utterances nothing is learned.
MIN_UTTERANCES = 20


def train_word_hmm(words: Sequence[Sequence[str]], features: Sequence[Tensor]) -> WordHmm:
    """Learn from utterances; those that are too short for their words are left out.

    Args:
        words: of each utterance.
        features: [T', F] each.

    Raises:
        ValueError: too few utterances, or features that are all the same.
    """
    pairs = [(w, f) for w, f in zip(words, features, strict=True) if w and len(f) >= _least(w)]
    if len(pairs) < MIN_UTTERANCES:
        raise ValueError(
            f"word boundaries are learned from {MIN_UTTERANCES} utterances at least, that are long "
            f"enough for their words; there are {len(pairs)}"
        )
    pairs.sort(key=lambda pair: len(pair[1]))
    return _Training([w for w, _ in pairs], [around(f.float()) for _, f in pairs]).run()


def _least(words: Sequence[str]) -> int:
    """Frames that words need."""
    return STATES_PER_CHARACTER * sum(map(len, words))


class _Training:
    def __init__(self, words: list[Sequence[str]], sounds: list[Tensor]) -> None:
        self._words, self._sounds = words, sounds
        self._all = torch.cat(sounds)
        counts = Counter(name for said in words for w in said for n in spellings(w) for name in n)
        self._kept = {name for name, count in counts.items() if count >= CONTEXT_COUNT}
        offset, projection = principal(self._all, DIMENSIONS)
        nothing = projection.new_zeros(0, projection.shape[1])
        self._model = WordHmm(self._units(False), nothing, nothing, offset, projection)

    def run(self) -> WordHmm:
        """All rounds."""
        chains = self._chains()
        labels = [self._flat(c, s) for c, s in zip(chains, self._sounds, strict=True)]
        self._estimate(labels)
        for number in range(1, ROUNDS + 1):
            paths = self._paths(chains)
            if number == CONTEXTS_AFTER:
                self._model = replace(self._model, units=self._units(True))
                chains = self._chains()
            labels = [_labels(c, p) for c, p in zip(chains, paths, strict=True)]
            if number in PROJECT_AFTER:
                self._project(labels)
            self._estimate(labels)
        return self._model

    def _units(self, contexts: bool) -> dict[str, int]:
        """Numbers of the units that the training has."""
        units = {UNKNOWN: 0}
        for said in self._words:
            for word in said:
                for names in spellings(word):
                    name = next((n for n in names[:2] if contexts and n in self._kept), names[2])
                    units.setdefault(name, len(units))
                    units.setdefault(names[2], len(units))  # for contexts that are new later
        return units

    def _chains(self) -> list[Chain]:
        return [self._model.chain(said) for said in self._words]

    def _flat(self, chain: Chain, sound: Tensor) -> Tensor:
        """Rows [T'] with equal shares for all states of words, and pauses where it is faint."""
        loud = (sound - self._model.offset) @ self._model.projection[:, 0]
        middle = loud[len(loud) // 4 : -(len(loud) // 4) or None].mean()
        if middle < torch.cat([loud[:5], loud[-5:]]).mean():
            loud = -loud
        low, high = torch.quantile(loud, torch.tensor([0.05, 0.95]).to(loud)).tolist()
        speech = (loud > low + 0.35 * (high - low)).nonzero().flatten().tolist()
        states = [row for row, word in zip(chain.rows, chain.words, strict=True) if word >= 0]
        first, end = (speech[0], speech[-1] + 1) if speech else (0, len(sound))
        if end - first < len(states):
            first, end = 0, len(sound)
        rows = torch.full((len(sound),), PAUSE_ROW)
        places = torch.arange(end - first) * len(states) // (end - first)
        rows[first:end] = torch.tensor(states)[places]
        return rows

    def _paths(self, chains: list[Chain]) -> list[Tensor]:
        """Best path [T'] of every utterance; they are sorted by length."""
        projected = [(s - self._model.offset) @ self._model.projection for s in self._sounds]
        found: list[Tensor] = []
        for start in range(0, len(chains), _BATCH):
            part = slice(start, start + _BATCH)
            paths = self._model.paths(chains[part], projected[part])
            sizes = map(len, projected[part])
            found += [path[:size] for path, size in zip(paths, sizes, strict=True)]
        return found

    def _project(self, labels: Sequence[Tensor]) -> None:
        offset, projection = discriminant(self._all, torch.cat(list(labels)), DIMENSIONS)
        self._model = replace(self._model, offset=offset, projection=projection)

    def _estimate(self, labels: Sequence[Tensor]) -> None:
        """Means and variances of the frames of each row; the unknown unit gets all words'."""
        model, rows = self._model, torch.cat(list(labels))
        sound = (self._all - model.offset) @ model.projection
        pauses = rows < PAUSE_GAUSSIANS
        rows = rows.masked_scatter(pauses, self._pauses(sound[pauses]))
        count = PAUSE_GAUSSIANS + len(model.units) * STATES_PER_CHARACTER
        totals = sound.new_zeros(count).index_add(0, rows, sound.new_ones(len(rows)))
        sums = sound.new_zeros(count, sound.shape[1]).index_add(0, rows, sound)
        squares = sound.new_zeros(count, sound.shape[1]).index_add(0, rows, sound * sound)
        for row in gaussians(model.units[UNKNOWN]):
            totals[row] = totals[PAUSE_GAUSSIANS:].sum()
            sums[row], squares[row] = (t[PAUSE_GAUSSIANS:].sum(0) for t in (sums, squares))
        mean, square = sound.mean(0), (sound * sound).mean(0)
        weight = (totals + _PRIOR_FRAMES)[:, None]
        means = (sums + _PRIOR_FRAMES * mean) / weight
        least = _FLOOR * (square - mean * mean)
        variances = (squares + _PRIOR_FRAMES * square) / weight - means * means
        variances = torch.maximum(variances, least)
        self._model = replace(model, mean=means, variance=variances)

    def _pauses(self, sound: Tensor) -> Tensor:
        """Which of their Gaussians frames of pauses [P, D] belong to: the nearest, by k-means."""
        if len(sound) < PAUSE_GAUSSIANS:
            return torch.full((len(sound),), PAUSE_ROW)
        order = sound[:, 0].argsort()
        nearest = torch.empty_like(order)
        nearest[order] = torch.arange(len(order)) * PAUSE_GAUSSIANS // len(order)
        for _ in range(_KMEANS_ROUNDS):
            centres = torch.stack(
                [
                    sound[nearest == n].mean(0) if bool((nearest == n).any()) else sound[n]
                    for n in range(PAUSE_GAUSSIANS)
                ]
            )
            nearest = torch.cdist(sound, centres).argmin(1)
        return PAUSE_ROW + nearest


def _labels(chain: Chain, path: Tensor) -> Tensor:
    """Row [T'] of every frame of a path."""
    return torch.tensor(chain.rows)[path]


def principal(sound: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Offset [2F] and projection [2F, D] on the largest components, all of variance one.

    Raises:
        ValueError: features that are all the same.
    """
    offset = sound.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(sound.T))
    wanted = values.flip(0)[:dimensions]
    if not float(wanted[0]) > 0 or not bool(torch.isfinite(wanted).all()):
        raise ValueError("word boundaries cannot be learned from features that are all the same")
    return offset, vectors.flip(1)[:, :dimensions] / wanted.clamp(min=1e-8 * wanted[0]).sqrt()


def discriminant(sound: Tensor, rows: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Offset and projection on the directions in which rows differ most, relative to within."""
    offset = sound.mean(0)
    centred = sound - offset
    count = int(rows.max()) + 1
    totals = sound.new_zeros(count).index_add(0, rows, sound.new_ones(len(rows)))
    sums = sound.new_zeros(count, sound.shape[1]).index_add(0, rows, centred)
    means = sums / totals.clamp(min=1)[:, None]
    between = (means * totals[:, None]).T @ means / len(rows)
    within = centred.T @ centred / len(rows) - between
    ridge = 1e-3 * within.diagonal().mean() * torch.eye(len(within)).to(within)
    factor = torch.linalg.cholesky(within + ridge)
    whitened = torch.linalg.solve_triangular(factor, between, upper=False)
    whitened = torch.linalg.solve_triangular(factor, whitened.T, upper=False)
    _, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    best = vectors.flip(1)[:, :dimensions]
    return offset, torch.linalg.solve_triangular(factor.T, best, upper=True)
