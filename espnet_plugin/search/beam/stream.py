"""A beam search over frames that come block by block, of any size and for any time.

After each block the beam waits for the next one, so the search is that of all frames at once, label
by label. What all hypotheses agree on is settled: no later frame can change it. Only what they do
not agree on is kept as a tree, so that memory does not grow with the frames.

Shapes: T frames of a block, D encoder size, R hypotheses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.search.beam.beam import BeamSearch
from espnet_plugin.search.beam.beam_state import NEG_INF, Beam
from espnet_plugin.search.beam.history import HistoryTree, shared_length
from espnet_plugin.search.hypothesis import Hypothesis


@dataclass(frozen=True)
class Progress:
    """How far a stream is.

    Attributes:
        tokens: labels of the best hypothesis so far.
        frames: frame of each, counted from the first of the stream.
        stable: so many of them are the same in all hypotheses, and will not change any more.
        score: of the best hypothesis, without what the end of a sentence adds.
    """

    tokens: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    stable: int = 0
    score: float = 0.0


class BeamStream:
    """One utterance, block by block. Several may take turns with one search.

    Args:
        search: label-level or lexicon search; it runs in torch.
        undecided: labels that hypotheses may differ in, counted back from the best one's last.
            Those that differ from the best one in an older label are given up, which bounds the
            memory of a model that can never decide.

    Raises:
        ValueError: ``undecided`` below 1.
    """

    def __init__(self, search: BeamSearch, undecided: int = 200) -> None:
        if undecided < 1:
            raise ValueError(f"undecided must be at least 1 label, got {undecided}")
        self._search, self._undecided = search, undecided
        self._beam: Beam | None = None
        self._trees: tuple[HistoryTree, ...] = ()
        self._heard = 0

    @property
    def heard(self) -> int:
        """Frames so far."""
        return self._heard

    def sizes(self) -> dict[str, int]:
        """What is kept: hypotheses, and nodes of their histories that may still change."""
        width = 0 if self._beam is None else self._beam.width
        return {"hypotheses": width, "nodes": sum(len(tree) for tree in self._trees)}

    @torch.inference_mode()
    def feed(self, frames: Tensor) -> Progress:
        """Go on with frames [T, D]."""
        search, device = self._search, frames.device
        projected = search._joint.encoder_proj(frames)  # [T, J]
        if self._beam is None:
            dtype = torch.promote_types(projected.dtype, torch.float32)
            self._beam = search._start(1, device, dtype)
            self._trees = search._trees()
        search._use_trees(self._trees)
        if not len(frames):
            return self._progress(self._beam)
        for tree in self._trees:
            tree.first_frame = self._heard
        first = torch.zeros(1, dtype=torch.int64, device=device)
        ((_, beam),) = search._run(self._beam, projected, first, first + len(frames))
        self._heard += len(frames)
        self._beam = search._settled(self._decided(beam))
        return self._progress(self._beam)

    def _decided(self, beam: Beam) -> Beam:
        """Hypotheses given up that differ from the best one too long ago."""
        histories = self._trees[0].unsettled(beam.node)
        scores = beam.score.flatten()
        best = int(scores.argmax())
        old = max(len(histories[best][0]) - self._undecided, 0)
        if old == 0:
            return beam
        wanted = [part[:old] for part in histories[best]]
        differs = [[part[:old] for part in history] != wanted for history in histories]
        gone = torch.tensor(differs, device=scores.device).view_as(beam.score)
        beam.score = beam.score.masked_fill(gone, NEG_INF)
        return beam

    def _progress(self, beam: Beam) -> Progress:
        tree, scores = self._trees[0], beam.score.flatten().tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        histories = tree.unsettled(beam.node)
        living = [labels for (labels, _), s in zip(histories, scores, strict=True) if s > NEG_INF]
        labels, frames = histories[best]
        settled = tree.settled
        return Progress(
            tuple(label for label, _ in settled) + labels,
            tuple(frame for _, frame in settled) + frames,
            len(settled) + shared_length(living),
            scores[best],
        )

    @torch.inference_mode()
    def hypotheses(self, nbest: int = 1) -> list[Hypothesis]:
        """What the search would return if the stream ended here, best first.

        It may go on afterwards. Before the first block there is nothing.
        """
        if self._beam is None:
            return []
        self._search._use_trees(self._trees)
        number = torch.zeros(1, dtype=torch.int64, device=self._beam.score.device)
        (found,) = self._search._read([(number, self._beam)], nbest)
        return found
