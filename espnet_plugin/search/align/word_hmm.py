"""Where words begin and end in the sound: a small hidden Markov model of spellings.

A transducer emits a label somewhere in or after its sound, as it learned to, so the frames of its
labels are no boundaries. This model only places words that are known already. Each character of a
word is a chain of states, in the context of its neighbours where training saw that often enough;
pauses may stand between words. A state has a Gaussian density of the features around one frame, so
that no boundary can move away from its sound. `hmm_training` makes it from transcribed speech.

Shapes: B utterances, T' feature frames, F features, D projected ones, K Gaussians, N states.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_plugin.corpora.atomic import save_atomically
from espnet_plugin.search.align.chain_path import BEGIN, NO_JUMP, chain_path

STATES_PER_CHARACTER = 2
#: A pause lasts at least so many frames; its states share a mixture of the first Gaussians: what is
#: silence differs from room to room.
PAUSE_STATES, PAUSE_GAUSSIANS = 3, 4
PAUSE_ROW = 0
UNKNOWN = "\n"  # a name that no spelling has
EDGE = " "  # beside the first and last character of a word
_ARRAYS = ("units", "mean", "variance", "offset", "projection")
# Frames times states of an utterance: 0.5 GB of scores and pointers.
MAX_CELLS = 100_000_000

Span = tuple[int, int]


def spellings(word: str) -> list[tuple[str, str, str]]:
    """Names that each character's unit may have: with both neighbours, the left one, or alone."""
    text = EDGE + word + EDGE
    places = range(1, len(word) + 1)
    return [(text[i - 1 : i + 2], text[i - 1 : i + 1], text[i]) for i in places]


def around(features: Tensor) -> Tensor:
    """Features [T', F] without their mean, and their slopes over five frames: [T', 2F]."""
    centred = features - features.mean(0)
    padded = torch.cat([centred[:1], centred[:1], centred, centred[-1:], centred[-1:]])
    slope = (2 * padded[4:] + padded[3:-1] - padded[1:-3] - 2 * padded[:-4]) / 10
    return torch.cat([centred, slope], 1)


@dataclass(frozen=True)
class Chain:
    """The states of an utterance's words, pauses before, between and after them.

    Attributes:
        rows: Gaussian of every state [N].
        words: number of the word that every state belongs to, -1 for pauses [N].
        jump, last: see `chain_path`.
    """

    rows: list[int]
    words: list[int]
    jump: list[int]
    last: int


@dataclass(frozen=True)
class WordHmm:
    """The model, on the CPU: the path goes frame by frame, too little work for a GPU.

    Attributes:
        units: name of a unit -> its number; a unit's states have consecutive Gaussians.
        mean, variance: [K, D].
        offset, projection: [2F] and [2F, D], of what `around` gives.
    """

    units: Mapping[str, int]
    mean: Tensor
    variance: Tensor
    offset: Tensor
    projection: Tensor

    def unit(self, names: Sequence[str]) -> int:
        """The first of the names that there is a unit for, or that of all sounds."""
        return next((self.units[name] for name in names if name in self.units), self.units[UNKNOWN])

    def chain(self, words: Sequence[str]) -> Chain:
        """The states of a text."""
        pause = [PAUSE_ROW] * PAUSE_STATES
        rows, owners, jump = list(pause), [-1] * PAUSE_STATES, [NO_JUMP] * PAUSE_STATES
        last = -1  # of the word before
        for number, word in enumerate(words):
            start = len(rows)
            for names in spellings(word):
                rows += gaussians(self.unit(names))
            count = len(rows) - start
            owners += [number] * count
            jump += [BEGIN if last < 0 else last, *[NO_JUMP] * (count - 1)]
            last = len(rows) - 1
            rows += pause
            owners += [-1] * PAUSE_STATES
            jump += [NO_JUMP] * PAUSE_STATES
        return Chain(rows, owners, jump, max(last, 0))

    def project(self, features: Tensor) -> Tensor:
        """Features [T', F] -> [T', D]."""
        return (around(features) - self.offset) @ self.projection

    def paths(self, chains: Sequence[Chain], sounds: Sequence[Tensor]) -> Tensor:
        """State of every frame [B, T'], see `chain_path`, from projected features [T', D] each."""
        pad = torch.nn.utils.rnn.pad_sequence
        rows = pad([torch.tensor(c.rows) for c in chains], batch_first=True)
        jump = pad([torch.tensor(c.jump) for c in chains], True, NO_JUMP)
        last = torch.tensor([c.last for c in chains])
        frames = torch.tensor([len(s) for s in sounds])
        states = torch.tensor([len(c.rows) for c in chains])
        scores = self._scores(pad(list(sounds), batch_first=True), rows)
        return chain_path(scores, jump, last, frames, states)

    def _scores(self, sounds: Tensor, rows: Tensor) -> Tensor:
        """Log densities [B, T', N], less a constant, of sounds [B, T', D] in Gaussians [B, N]."""
        scores = _densities(sounds, self.mean[rows], self.variance[rows])
        pause = self.pause_scores(sounds).logsumexp(-1, keepdim=True)
        return torch.where(rows[:, None] == PAUSE_ROW, pause, scores)

    def pause_scores(self, sounds: Tensor) -> Tensor:
        """Log densities [..., T', P] of sounds [..., T', D] in the pauses' Gaussians, weighted."""
        first = slice(PAUSE_ROW, PAUSE_ROW + PAUSE_GAUSSIANS)
        return _densities(sounds, self.mean[first], self.variance[first]) - math.log(
            PAUSE_GAUSSIANS
        )

    def spans(
        self, words: Sequence[Sequence[str]], features: Tensor, lengths: Tensor
    ) -> list[list[Span] | None]:
        """First frame of every word, and the one after its last.

        Args:
            words: of each utterance [B].
            features, lengths: the model's features [B, T', F] and [B].

        Returns:
            As many spans as words; None for an utterance that is too short for its words, or so
            long (minutes, with hundreds of words) that the path would not fit into memory.
        """
        found: list[list[Span] | None] = []
        for said, row, length in zip(words, features, lengths.tolist(), strict=True):
            chain = self.chain(said)
            if not said:
                found.append([])
            elif length == 0 or length * len(chain.rows) > MAX_CELLS:
                found.append(None)
            else:
                sound = self.project(row[:length].to(self.mean))
                path = self.paths([chain], [sound])[0].tolist()
                found.append(word_spans(path, chain.words, len(said)))
        return found

    def save(self, path: Path) -> None:
        """Write a file of NumPy arrays."""
        names = sorted(self.units, key=lambda name: self.units[name])
        tensors = (self.mean, self.variance, self.offset, self.projection)
        numbers = [tensor.cpu().numpy() for tensor in tensors]
        arrays: dict[str, Any] = dict(zip(_ARRAYS, (np.array(names), *numbers), strict=True))
        save_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def _densities(sounds: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """[..., T', D] in Gaussians [..., N, D] -> [..., T', N]."""
    weight = 1.0 / variance
    constant = (mean * mean * weight - weight.log()).sum(-1)  # [..., N]
    square = (sounds * sounds) @ weight.transpose(-1, -2)
    product = sounds @ (mean * weight).transpose(-1, -2)
    return product - 0.5 * (square + constant.unsqueeze(-2))


def gaussians(unit: int) -> list[int]:
    """Rows of a unit's states."""
    start = PAUSE_GAUSSIANS + unit * STATES_PER_CHARACTER
    return list(range(start, start + STATES_PER_CHARACTER))


def word_spans(path: Sequence[int], owners: Sequence[int], count: int) -> list[Span] | None:
    """Frames of each of ``count`` words on a path; None if there is none."""
    if not path or path[0] < 0:
        return None
    first, end = [-1] * count, [0] * count
    for frame, state in enumerate(path):
        word = owners[state]
        if word >= 0:
            first[word] = frame if first[word] < 0 else first[word]
            end[word] = frame + 1
    return list(zip(first, end, strict=True))


def read_word_hmm(path: Path) -> WordHmm:
    """Read what `WordHmm.save` wrote.

    Raises:
        ValueError: there is no such file, or it is no such model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, *arrays = (file[name] for name in _ARRAYS)
        mean, variance, offset, projection = (torch.from_numpy(a).float() for a in arrays)
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no file of word boundaries: {error}") from error
    units = {str(name): number for number, name in enumerate(names.tolist())}
    rows = PAUSE_GAUSSIANS + len(units) * STATES_PER_CHARACTER
    fits = mean.shape == variance.shape == (rows, projection.shape[-1])
    fits = fits and projection.shape[:1] == offset.shape and UNKNOWN in units
    sound = all(torch.isfinite(a).all() for a in (mean, variance, offset, projection))
    if not fits or not sound or not bool((variance > 0).all()):
        raise ValueError(f"{path}: no file of word boundaries: its arrays do not belong together")
    return WordHmm(units, mean, variance, offset, projection)
