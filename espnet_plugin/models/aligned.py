"""Batches of the viterbi stage: the alignment brought to the frames that the encoder gives.

Shape legend: B batch, T' feature frames, T encoder frames, E entries of an alignment (see
`espnet_plugin.nn.alignment`), C windows, P steps of a path (T, or T + S in the rnnt topology).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.models.batch import Batch, EncoderOutput
from espnet_plugin.nn.alignment import (
    PlacedLabels,
    label_states,
    place_labels,
    stretch_alignment,
)
from espnet_plugin.nn.chunking import Chunks, chunk_index, cut_features, cut_frames

Padded = tuple[Tensor, Tensor]  # a batch of sequences, and their lengths


def aligned_batch(
    model: Any, speech: Padded, text: Padded, utt_ids: list[str], data: Mapping[str, Any]
) -> Batch:
    """Encodes whole utterances or windows of them, and puts the path beside their frames.

    Args:
        model: `ProgressiveTransducerModel`.
        speech: features [B, T', F] and lengths.
        text: labels [B, S] and lengths.
        utt_ids: for messages.
        data: with ``alignment`` [B, E] and ``alignment_lengths``.

    Raises:
        ValueError: naming an utterance whose alignment does not fit.
    """
    entries, entry_counts = data["alignment"], data["alignment_lengths"]
    placed = place_labels(entries, entry_counts)
    _check_labels(placed, text[1], utt_ids)
    rnnt = model.topology == "rnnt"
    if not rnnt:
        _check_monotonic(entries, entry_counts, utt_ids)
    encoder, frames, chunks = _encode(model, speech)
    _check_frames(model, placed, frames, utt_ids)
    batch = Batch(encoder, *text, utt_ids, utterance=None if chunks is None else chunks.utterance)
    if rnnt:
        batch = _with_steps(batch, placed, frames, chunks or _whole(frames))
    else:
        batch = _with_frames(batch, _on_frames(entries, placed, frames), chunks)
    if chunks is None:
        return batch
    assert batch.alignment is not None
    lengths = encoder.lengths if batch.step_lengths is None else batch.step_lengths
    valid = torch.arange(batch.alignment.size(1), device=lengths.device) < lengths[:, None]
    return replace(batch, row_labels=((batch.alignment != model.blank_id) & valid).sum(1))


def _encode(model: Any, speech: Padded) -> tuple[EncoderOutput, Tensor, Chunks | None]:
    """Encoder output, encoder frames of the utterances [B], and the windows, if any."""
    chunking = model.criterion.chunking if model.training else None
    if chunking is None:
        encoder = model.encode_features(*speech)
        return encoder, encoder.lengths, None
    sub, device = model.subsampling(), speech[0].device
    frames = torch.tensor([sub.encoder_frames(n) for n in speech[1].tolist()], device=device)
    chunks = chunk_index(frames.tolist(), chunking.size, chunking.hop, device, chunking.tail)
    cut, cut_lengths = cut_features(*speech, chunks, sub, chunking.size)
    if model.masks_windows():
        cut = model.specaug.mask(cut, cut_lengths)
    return model.encode_features(cut, cut_lengths), frames, chunks


def _whole(frames: Tensor) -> Chunks:
    """Utterances as windows of themselves."""
    rows = torch.arange(len(frames), device=frames.device)
    return Chunks(rows, torch.zeros_like(rows), frames)


def _with_frames(batch: Batch, alignment: Tensor, chunks: Chunks | None) -> Batch:
    """The batch with the monotonic path [B, T] on each row's frames."""
    states = label_states(alignment)
    if chunks is not None:
        width = batch.encoder.frames.size(1)
        alignment, states = (cut_frames(table, chunks, width) for table in (alignment, states))
    return replace(batch, alignment=alignment, states=states)


def _with_steps(batch: Batch, placed: PlacedLabels, frames: Tensor, chunks: Chunks) -> Batch:
    """The batch with the steps of the rnnt path that lie on each row's frames."""
    if not torch.equal(placed.lengths, frames.to(placed.lengths)):
        placed = placed.stretched(frames.to(placed.lengths))
    path = placed.path()  # [B, P]
    states = label_states(path)
    first = placed.first_steps(chunks.utterance, chunks.start)  # [C]
    lengths = placed.first_steps(chunks.utterance, chunks.start + chunks.size) - first
    index = first[:, None] + torch.arange(int(lengths.max()), device=path.device)
    inside = torch.arange(index.size(1), device=path.device) < lengths[:, None]
    index = index.clamp(max=path.size(1) - 1)
    rows = chunks.utterance[:, None]
    states = states[rows, index]
    # Only blanks consume a frame: step n of the utterance is on frame n - s(y, n).
    on_frame = (index - states - chunks.start[:, None]).masked_fill(~inside, 0)
    return replace(
        batch,
        alignment=path[rows, index],
        states=states,
        step_frames=on_frame,
        step_lengths=lengths,
    )


def _on_frames(entries: Tensor, placed: PlacedLabels, frames: Tensor) -> Tensor:
    """A strictly monotonic alignment on these frames: [B, T]."""
    entries = entries.clamp(min=0)  # the padding
    if torch.equal(placed.lengths, frames.to(placed.lengths)):
        return entries[:, : int(frames.max())]
    return stretch_alignment(entries, placed.lengths, frames.to(placed.lengths))


def _check_frames(model: Any, placed: PlacedLabels, frames: Tensor, utt_ids: list[str]) -> None:
    """The number of frames has to be right, unless the utterances were stretched."""
    aligned = placed.lengths
    stretches = model.training and getattr(model.specaug, "time_stretch", None) is not None
    if stretches or torch.equal(aligned, frames.to(aligned)):
        return
    bad = int((aligned != frames.to(aligned)).nonzero()[0])
    raise ValueError(
        f"alignment of utterance {utt_ids[bad]} has {int(aligned[bad])} frames, the "
        f"encoder gives {int(frames[bad])}; align again with this model's subsampling"
    )


def _check_labels(placed: PlacedLabels, text_lengths: Tensor, utt_ids: list[str]) -> None:
    labels = placed.counts
    if not torch.equal(labels, text_lengths.to(labels)):
        bad = int((labels != text_lengths.to(labels)).nonzero()[0])
        raise ValueError(
            f"alignment of utterance {utt_ids[bad]} carries {int(labels[bad])} labels, its "
            f"transcript {int(text_lengths[bad])}; align again with this token list"
        )
    beyond = (placed.valid & (placed.frames >= placed.lengths[:, None])).any(1)
    if bool(beyond.any()):
        bad = int(beyond.nonzero()[0])
        raise ValueError(
            f"alignment of utterance {utt_ids[bad]} ends in a negative entry, a label whose frame "
            "does not follow; the file is damaged: align again"
        )


def _check_monotonic(entries: Tensor, lengths: Tensor, utt_ids: list[str]) -> None:
    valid = torch.arange(entries.size(1), device=entries.device) < lengths[:, None]
    several = ((entries < 0) & valid).any(1)
    if bool(several.any()):
        bad = int(several.nonzero()[0])
        raise ValueError(
            f"alignment of utterance {utt_ids[bad]} has several labels on one frame (negative "
            "entries), which only model_conf.topology rnnt can train on; align with a model of "
            "the monotonic topology"
        )
