"""What travels between the model and its criterion.

Shape legend: B batch, T encoder frames, S labels, D encoder size, N hypotheses, P steps of a path
(T in the monotonic topology, T + S in rnnt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from espnet_plugin.lattice.label_graph import LabelGraph


@dataclass(frozen=True)
class EncoderOutput:
    """Encoder output of a batch (of utterances, or of chunks of them).

    Attributes:
        frames: [B, T, D] top block.
        lengths: [B] valid frames.
        intermediate: [B, T, D] of the blocks of `interctc_layer_idx`, by their place there; a
            block that the encoder dropped is missing.
    """

    frames: Tensor
    lengths: Tensor
    intermediate: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class NBest:
    """N-best lists of a batch; B·N hypotheses, row-major by utterance.

    Attributes:
        tokens: [B, N, S_max] label sequences, padded with 0.
        lengths: [B, N] labels of each.
        mask: [B, N] True where a hypothesis exists.
        lm_scores: [B, N] language-model log-scores, already scaled.
        risks: [B, N] label edit distance to the reference.
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    lm_scores: Tensor
    risks: Tensor


@dataclass(frozen=True)
class Batch:
    """One training or validation batch after the encoder.

    Attributes:
        targets: [B, S] labels, padded with 0 (of whole utterances, also when chunked).
        target_lengths: [B].
        alignment: [B', P] label or blank of each step on the frames of `encoder`, or None.
        states: [B', P] labels emitted before each step, or None.
        step_frames: [B', P] frame of each step; None: step n is frame n (monotonic).
        step_lengths: [B'] steps of each row; None: as many as frames (monotonic).
        utterance: [B'] row of `targets` that each row of `encoder` belongs to, or None (the same).
        row_labels: [B'] labels emitted within each row of `encoder`, or None (`target_lengths`).
        nbest: the batch's N-best lists, or None.
        graph: all pronunciation variants of the words, or None.
        utt_ids: names, for messages.
        views: how often each utterance is in the batch; all of its rows are view after view.
        data: what else the criterion needs, `<name>` and `<name>_lengths` as the data loader pads
            them.
    """

    encoder: EncoderOutput
    targets: Tensor
    target_lengths: Tensor
    utt_ids: list[str]
    alignment: Tensor | None = None
    states: Tensor | None = None
    step_frames: Tensor | None = None
    step_lengths: Tensor | None = None
    utterance: Tensor | None = None
    row_labels: Tensor | None = None
    nbest: NBest | None = None
    graph: LabelGraph | None = None
    views: int = 1
    data: Mapping[str, Tensor] = field(default_factory=dict)
