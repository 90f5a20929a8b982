"""Drives the compiled loops: one utterance after the other, models asked in between.

Shapes: F frames of all utterances, T of one, J joint size, K hypotheses, P scorers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.compiled import layout as at
from espnet_plugin.search.beam.compiled.kernel import run
from espnet_plugin.search.beam.compiled.maths import ACTIVATIONS
from espnet_plugin.search.beam.compiled.states import make_states
from espnet_plugin.search.beam.history import NO_KEY, ROOT_KEY
from espnet_plugin.search.beam.prediction_cache import PredictionCache
from espnet_plugin.search.beam.scorer_set import ScorerSet
from espnet_plugin.search.hypothesis import Hypothesis

#: Output layers from this size on come from memory each time, smaller ones from the core's cache:
#: they are evaluated for frames ahead (`logits.py`), in a workspace so many times as large.
AHEAD_FROM_BYTES = 1 << 21
PLACES_PER_ROW = 16


class CompiledSearch:
    """The same as `BeamSearch`, on a CPU.

    Args:
        candidates: how many take part in a step.
        waiting: how many that have left a frame may still gain there (rnnt).
    """

    def __init__(
        self,
        joint: Any,
        cache: PredictionCache,
        scorers: ScorerSet,
        options: BeamOptions,
        candidates: int,
        waiting: int,
    ) -> None:
        self._joint, self._scorers, self._options = joint, scorers, options
        self._states = make_states(cache, scorers, joint)
        self._merges_late = options.recombination == "context"
        self._settings = np.zeros(at.SETTINGS_SIZE, np.int64)
        self._settings[at.TOPOLOGY] = at.RNNT if options.topology == "rnnt" else at.MONOTONIC
        self._settings[at.BEST_PATH] = options.semiring == "max"
        self._settings[at.MERGES_LATE] = self._merges_late
        self._settings[at.BEAM], self._settings[at.BLANK] = options.beam, options.blank
        self._settings[at.MAX_SYMBOLS] = options.max_symbols
        self._settings[at.ACTIVATION] = ACTIVATIONS[joint.activation_name]
        self._settings[at.OLDEST] = self._states.oldest
        score_beam = np.inf if options.score_beam is None else options.score_beam
        self._limits = np.array([score_beam, options.blank_penalty])
        self._time = 0  # frames of all utterances so far
        self._make_room(candidates, waiting)

    def _make_room(self, candidates: int, waiting: int) -> None:
        """Arrays that every utterance uses again."""
        options = self._options
        depth = 1 + (options.max_symbols if options.topology == "rnnt" else 0)
        width = waiting + options.beam
        vocab, size = self._joint.output.weight.shape
        kind = torch.empty(0, dtype=self._joint.output.weight.dtype).numpy().dtype
        sizes = (width, at.WHOLE_SIZE), (width, 1 + len(self._scorers))
        self._beam = tuple(
            np.empty(size, kind)
            for _ in range(2)
            for size, kind in zip(sizes, (np.int64, np.float64), strict=True)
        )
        self._candidates = np.empty((candidates, at.CANDIDATE_SIZE), np.int64), np.empty(candidates)
        self._left = np.empty((waiting, at.CANDIDATE_SIZE), np.int64), np.empty(waiting)
        self._asked = np.empty((max(candidates, width), 2), np.int64)
        weights = self._joint.output.weight
        reads_much = weights.numel() * weights.element_size() >= AHEAD_FROM_BYTES
        self._settings[at.AHEAD] = at.MOST_AHEAD if reads_much else 1
        self._settings[at.FRAME_ROWS] = depth * options.beam
        places = depth * options.beam * (PLACES_PER_ROW if reads_much else 1)
        self._work = (
            np.empty(width, np.int64),
            np.empty((places, size), kind),
            np.empty((places, vocab), kind),
            np.empty(places),
            np.empty((width, 3)),
            np.empty((width, 2), np.int64),
            np.empty(width, np.int64),
            np.empty(width, np.int64),
        )
        self._nodes_per_frame = options.beam * max(1, depth - 1)

    def search(
        self, frames: Tensor, first: Tensor, lengths: Tensor, nbest: int
    ) -> list[list[Hypothesis]]:
        """Frames [F, J] through the joint's projection, [B], [B] as of `packed_frames`."""
        encoder = np.ascontiguousarray(frames.numpy())
        spans = zip(first.tolist(), lengths.tolist(), strict=True)
        return [self._utterance(encoder[begin : begin + many], nbest) for begin, many in spans]

    def _utterance(self, encoder: Any, nbest: int) -> list[Hypothesis]:
        """[T, J] -> hypotheses, best first."""
        output = self._joint.output
        weight, bias = (
            np.ascontiguousarray(part.detach().numpy()) for part in (output.weight, output.bias)
        )
        history = np.empty((1 + len(encoder) * self._nodes_per_frame, 3), np.int64)
        history[0] = -1
        control = np.zeros(at.CONTROL_SIZE, np.int64)
        control[at.LEVEL] = control[at.NODES] = 1
        control[at.TIME] = control[at.EMPTIED] = self._time
        self._time += len(encoder)
        whole, score = self._beam[:2]
        whole[0] = 0, ROOT_KEY, NO_KEY, self._options.blank, self._states.begin()
        score[0] = 0.0
        while True:
            event = run(
                control, self._settings, self._limits, self._asked, encoder, weight, bias,
                self._states.arrays, self._beam, self._candidates, self._left, history, self._work,
            )  # fmt: skip
            asked = self._asked[: control[at.ASKED]]
            if event == at.DONE:
                return self._read(int(control[at.LEVEL]), history, nbest)
            if event == at.EVALUATE:
                self._states.evaluate(asked[:, 0])
            else:
                self._states.link(asked[:, 0], asked[:, 1], evaluate=not self._merges_late)

    def _read(self, count: int, history: Any, nbest: int) -> list[Hypothesis]:
        """The last beam with the end-of-sentence scores, sorted again."""
        whole, score = (array[:count] for array in self._beam[:2])
        totals, parts = score[:, at.SCORE], score[:, at.PARTS :]
        if len(self._scorers):
            states = self._states.scorer_states(whole[:, at.CODE])
            finals, gained = self._scorers.finals(states, torch.from_numpy(totals))
            totals = totals + gained.numpy()
            parts = parts + finals.numpy()
        order = np.argsort(-totals, kind="stable")[:nbest]
        best = totals[order[0]] if len(order) else 0.0
        limit = best - self._limits[at.SCORE_BEAM]
        return [
            self._hypothesis(int(whole[k, at.NODE]), float(totals[k]), parts[k].tolist(), history)
            for k in order
            if totals[k] >= limit and totals[k] > -np.inf
        ]

    def _hypothesis(self, node: int, score: float, parts: list[float], history: Any) -> Hypothesis:
        tokens, frames = [], []
        while node > 0:
            node, label, frame = history[node].tolist()
            tokens.append(label)
            frames.append(frame)
        am_score = score - self._scorers.total(parts)
        split = self._scorers.split(parts)
        return Hypothesis(tuple(tokens[::-1]), score, am_score, *split, tuple(frames[::-1]))
