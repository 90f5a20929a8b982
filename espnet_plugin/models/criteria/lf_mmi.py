"""`--loss lf_mmi`: lattice-free MMI, the discriminative stage without N-best lists.

Shape legend: V vocabulary with blank, D size of the prediction network's output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.losses import lf_mmi_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import (
    Criterion,
    TransducerParts,
    check_max_frames,
    feasible,
    within_frames,
)
from espnet_plugin.models.criteria.full_sum import FullSumCriterion
from espnet_plugin.pipeline.plan.losses import BUILT_IN
from espnet_plugin.search.lm.arpa import ArpaNgrams, format_arpa, read_arpa_ngrams
from espnet_plugin.search.lm.label_bigram import bigram_table, estimate_bigram
from espnet_plugin.search.lm.ngram import NgramModel

#: Tokens from which on V * V scores a frame make no sense; a frame's are 4 MB here.
MOST_TOKENS = 1000
#: What `LFMMICriterion.record` writes.
BIGRAM_FILE = "label_bigram.arpa"


class LFMMICriterion(Criterion):
    """MMI over all label sequences + ce_scale · full-sum loss of the reference.

    The model is monotonic and its prediction network sees one label (see `lf_mmi_loss`).

    Args:
        bigram: ARPA file of a bigram over the model's labels; None counts one in the training
            transcripts (`estimate_bigram`), which is then in the stage's folder.
        scale: of the model's log-probabilities.
        lm_scale: of the bigram's.
        ce_scale: weight of the reference's full-sum loss.
        max_frames: encoder frames above which an utterance is left out of training.
        normalization: see `Criterion`.

    Raises:
        ValueError: a scale out of range.
    """

    option_files = BUILT_IN["lf_mmi"].option_files

    def __init__(
        self,
        bigram: str | None = None,
        scale: float = 1.0,
        lm_scale: float = 0.3,
        ce_scale: float = 0.0,
        max_frames: int | None = None,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if scale <= 0 or lm_scale < 0 or ce_scale < 0:
            raise ValueError(
                "lf_mmi needs scale > 0, lm_scale >= 0 and ce_scale >= 0, got "
                f"{scale=} {lm_scale=} {ce_scale=}"
            )
        check_max_frames(max_frames)
        self.bigram, self.max_frames = bigram, max_frames
        self.scale, self.lm_scale, self.ce_scale = scale, lm_scale, ce_scale
        self.full_sum = FullSumCriterion(normalization=normalization)
        self._ngrams: ArpaNgrams | None = None
        self._table: Tensor | None = None

    def prepare(self, model: Any) -> None:
        """See `Criterion.prepare`; reads the bigram, or counts it.

        Raises:
            ValueError: the model is not monotonic, sees more than one label or has too many
                tokens, or the bigram is none of its labels.
        """
        _check_model(model)
        source = self.bigram or "the training transcripts"
        try:
            self._ngrams = self._find_bigram(model)
            table = bigram_table(NgramModel(self._ngrams), model.token_list, model.blank_id)
        except ValueError as error:
            raise ValueError(f"loss lf_mmi: {source}: {error}") from error
        self._table = table

    def _find_bigram(self, model: Any) -> ArpaNgrams:
        if self.bigram:
            return read_arpa_ngrams(self.bigram)
        if self.transcripts is None:
            raise ValueError(
                "nobody has told which they are: give loss_conf.bigram, an ARPA file (train-ngram "
                "--order 2), or train with asr_train"
            )
        return estimate_bigram(self.transcripts(), model.token_list, model.blank_id)

    def record(self, folder: Path) -> None:
        """See `Criterion.record`: the bigram, as `BIGRAM_FILE`."""
        assert self._ngrams is not None
        write_atomically(folder / BIGRAM_FILE, format_arpa(self._ngrams))

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        if self._table is None:
            self.prepare(model)
        assert self._table is not None
        table = self._table.to(batch.encoder.frames.device)  # anew: DataParallel has threads
        losses = lf_mmi_loss(
            batch.encoder.frames,
            context_outputs(model, len(table)),
            model.joint_network,
            batch.targets,
            batch.encoder.lengths,
            batch.target_lengths,
            table,
            blank=model.blank_id,
            scale=self.scale,
            lm_scale=self.lm_scale,
            reduction="none",
        )  # [B]
        used, stats = feasible(losses)
        within = within_frames(model, batch, self.max_frames, used.device)
        used = used if within is None else used & within
        loss = self.normalize(losses, batch, used)
        stats["loss_lf_mmi"] = loss.detach()
        if self.ce_scale > 0:
            extra = self.normalize(self.full_sum.losses(model, batch), batch, used)
            loss = loss + self.ce_scale * extra
            stats["loss_full_sum"] = extra.detach()
        return loss, stats, self.weight(batch, used)


def context_outputs(model: TransducerParts, size: int) -> Tensor:
    """Output of a context-1 prediction network after each label [V, D]; blank: at the beginning."""
    device = next(model.joint_network.parameters()).device
    labels = torch.arange(size, device=device)[:, None]  # [V, 1]
    # The beginning is the blank's own embedding, so that blank needs no case of its own.
    return model.prediction(labels)[:, 1]


def _check_model(model: Any) -> None:
    context = getattr(model.prediction, "context", None)
    if model.topology != "monotonic" or context != 1:
        seen = "all labels" if context is None else f"{context} label(s)"
        raise ValueError(
            "loss lf_mmi sums over all sequences exactly, which needs model_conf.topology: "
            "monotonic and a decoder feedforward_prediction with context: 1; this model is "
            f"{model.topology} and its prediction network sees {seen}; train it with mbr"
        )
    size = len(model.token_list)
    if size > MOST_TOKENS:
        frame = 4 * size * size
        raise ValueError(
            f"loss lf_mmi scores every token after every other: of {size} tokens, "
            f"{frame / 1e6:.0f} MB for each encoder frame, {frame * 1500 / 1e9:.0f} GB for a "
            f"minute of speech at 40 ms; it takes up to {MOST_TOKENS} tokens, such as phonemes "
            "or characters; train this model with mbr"
        )
