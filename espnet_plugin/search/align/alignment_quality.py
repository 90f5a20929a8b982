"""How good is an alignment? Figures to look at before stage 1 is started on it.

An aligner stopped too early ruins the Viterbi stage (method.md, prototypes): it places labels
anywhere at low score. Pure functions on one batch's worth of alignments.

Shapes: B batch, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espnet_plugin.search.align.entries import entry_labels, frame_count, label_frames


@dataclass(frozen=True)
class AlignmentQuality:
    """Figures over a set of alignments.

    Attributes:
        utterances, frames, labels: Counts.
        score_per_frame: Mean log score per frame; None if no scores were given.
        label_share: Labels per frame. Near 1 the utterances are almost too short for their text
            (in the rnnt topology it may be more).
        mean_shift: Mean |frame difference| of corresponding labels against another alignment;
            None without one.
        within: Share of labels at most ``tolerance`` frames away from the other alignment.
        tolerance: In frames.
    """

    utterances: int
    frames: int
    labels: int
    score_per_frame: float | None
    label_share: float
    mean_shift: float | None = None
    within: float | None = None
    tolerance: int = 2


def alignment_quality(
    alignments: Sequence[Sequence[int]],
    scores: Sequence[float] | None = None,
    *,
    other: Sequence[Sequence[int]] | None = None,
    tolerance: int = 2,
    blank: int = 0,
) -> AlignmentQuality:
    """Quality figures of unpadded alignments.

    Args:
        alignments: Blank or label per encoder frame of each utterance; negative entries as
            `espnet_plugin.search.align.entries` says.
        scores: Total score of each utterance, as :func:`forced_align` returns it.
        other: A second alignment of the same utterances and texts (a re-alignment).
        tolerance: A label counts as ``within`` if it moved by at most so many frames.
        blank: Index of blank.

    Raises:
        ValueError: No frames, numbers of utterances that differ, or an alignment pair with
            different label sequences.
    """
    frames = sum(frame_count(a) for a in alignments)
    if frames == 0:
        raise ValueError("no alignment frames to judge")
    if scores is not None and len(scores) != len(alignments):
        raise ValueError(f"{len(alignments)} alignments but {len(scores)} scores")
    if other is not None and len(other) != len(alignments):
        raise ValueError(f"{len(alignments)} alignments against {len(other)}")
    shifts: list[int] = []
    for number, pair in enumerate(zip(alignments, other or (), strict=False)):
        shifts += _shifts(pair[0], pair[1], blank, number)
    labels = sum(len(label_frames(a, blank)) for a in alignments)
    return AlignmentQuality(
        utterances=len(alignments),
        frames=frames,
        labels=labels,
        score_per_frame=None if scores is None else sum(scores) / frames,
        label_share=labels / frames,
        mean_shift=sum(shifts) / len(shifts) if shifts else None,
        within=sum(s <= tolerance for s in shifts) / len(shifts) if shifts else None,
        tolerance=tolerance,
    )


def _shifts(first: Sequence[int], second: Sequence[int], blank: int, number: int) -> list[int]:
    here, there = label_frames(first, blank), label_frames(second, blank)
    if entry_labels(first, blank) != entry_labels(second, blank):
        raise ValueError(
            f"alignment {number}: the two alignments have different label sequences "
            f"({len(here)} and {len(there)} labels)"
        )
    return [abs(a - b) for a, b in zip(here, there, strict=True)]
