"""Alignments of streamed utterances, made as they arrive by the model that aligned stored ones.

Shape legend: B batch, T encoder frames, V vocabulary with blank.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.stream.options import AlignOptions
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import forced_align
from espnet_plugin.tasks.model_fit import build_fitting_model
from espnet_plugin.tasks.stream_iterator import Utterance


class ArrivalAligner:
    """Puts an alignment beside every utterance of a batch, and collates.

    Args:
        model: an aligner, which is put into evaluation mode.
        collate: ESPnet's.
        prior: log prior [V] that posteriors are divided by, or None.
        prior_scale: to this power.
    """

    def __init__(
        self,
        model: ProgressiveTransducerModel,
        collate: Callable[[Sequence[Utterance]], Any],
        prior: Tensor | None = None,
        prior_scale: float = 0.0,
    ) -> None:
        self._model, self._collate = model.eval(), collate
        self._prior, self._scale = prior, prior_scale

    def __call__(self, utterances: Sequence[Utterance]) -> Any:
        """ESPnet's batch with ``alignment``; utterances that cannot be aligned are left out.

        Raises:
            ValueError: there are no others.
        """
        _, batch = self._collate(utterances)
        rows = self._align(batch)
        aligned = [
            (name, {**data, "alignment": row})
            for (name, data), row in zip(utterances, rows, strict=True)
            if row is not None
        ]
        if len(aligned) < len(utterances):
            kept = {name for name, _ in aligned}
            lost = [name for name, _ in utterances if name not in kept]
            logging.warning("stream: more labels than encoder frames, left out: %s", lost)
        if not aligned:
            raise ValueError(
                f"stream: no utterance of a batch can be aligned, of {utterances[0][0]} and "
                f"{len(utterances) - 1} others; each has more labels than encoder frames"
            )
        return self._collate(aligned)

    @torch.no_grad()
    def _align(self, batch: dict[str, Tensor]) -> list[np.ndarray | None]:
        """A path [T] of each utterance, or None."""
        device = next(self._model.parameters()).device
        data = {key: value.to(device) for key, value in batch.items()}
        feats, lengths = self._model.features(data["speech"], data["speech_lengths"])
        output = self._model.encode_features(feats, lengths)
        log_probs = self._model.encoder_logits(output.frames).log_softmax(-1)  # [B, T, V]
        paths, score = forced_align(
            log_probs,
            data["text"],
            output.lengths,
            data["text_lengths"],
            blank=self._model.blank_id,
            prior=self._prior,
            prior_scale=self._scale,
            infeasible="skip",
        )
        return [
            path[:length].cpu().numpy() if np.isfinite(value) else None
            for path, length, value in zip(
                paths, output.lengths.tolist(), score.tolist(), strict=True
            )
        ]


def load_aligner(
    task: Any, options: AlignOptions, collate: Callable[[Sequence[Utterance]], Any], device: str
) -> ArrivalAligner:
    """The aligner of a stage.

    Args:
        task: ours.
        device: where it works.

    Raises:
        ValueError: a file is missing, or is none of an aligner.
    """
    path = Path(options.model)
    model, _ = build_fitting_model(task, path.parent / "config.yaml", path, device)
    if not isinstance(model, ProgressiveTransducerModel):
        raise ValueError(f"stream.align: {path} is a {type(model).__name__}, which cannot align")
    if not options.prior_scale:
        return ArrivalAligner(model, collate)
    assert options.prior is not None
    values = [float(line) for line in read_lines(Path(options.prior))]
    if len(values) != model.vocab_size:
        raise ValueError(
            f"stream.align: {options.prior} has {len(values)} numbers for {model.vocab_size} tokens"
        )
    return ArrivalAligner(model, collate, torch.tensor(values, device=device), options.prior_scale)
