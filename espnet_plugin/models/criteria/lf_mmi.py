"""`--loss lf_mmi`: lattice-free MMI, the discriminative stage without N-best lists.

Shape legend: V vocabulary with blank, D size of the prediction network's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.losses import lf_mmi_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import Criterion, TransducerParts, feasible
from espnet_plugin.models.criteria.full_sum import FullSumCriterion
from espnet_plugin.search.lm.ngram import OOV_LOG_PROB, NgramScorer, read_arpa


class LFMMICriterion(Criterion):
    """MMI over all label sequences + ce_scale · full-sum loss of the reference.

    The model is monotonic and its prediction network sees one label (see `lf_mmi_loss`).

    Args:
        bigram: ARPA file of a bigram over the model's labels (`train-ngram --order 2`), counted on
            the training transcripts.
        scale: of the model's log-probabilities.
        lm_scale: of the bigram's.
        ce_scale: weight of the reference's full-sum loss.
        normalization: see `Criterion`.

    Raises:
        ValueError: a scale out of range.
    """

    def __init__(
        self,
        bigram: str,
        scale: float = 1.0,
        lm_scale: float = 0.3,
        ce_scale: float = 0.0,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if scale <= 0 or lm_scale < 0 or ce_scale < 0:
            raise ValueError(
                "lf_mmi needs scale > 0, lm_scale >= 0 and ce_scale >= 0, got "
                f"{scale=} {lm_scale=} {ce_scale=}"
            )
        self.bigram = bigram
        self.scale, self.lm_scale, self.ce_scale = scale, lm_scale, ce_scale
        self.full_sum = FullSumCriterion(normalization=normalization)
        self._table: Tensor | None = None

    def prepare(self, model: Any) -> None:
        """See `Criterion.prepare`; reads the bigram.

        Raises:
            ValueError: the model is not monotonic or sees more than one label, or the file is no
                bigram of its labels.
        """
        context = getattr(model.prediction, "context", None)
        if model.topology != "monotonic" or context != 1:
            seen = "all labels" if context is None else f"{context} label(s)"
            raise ValueError(
                "loss lf_mmi sums over all sequences exactly, which needs model_conf.topology: "
                "monotonic and a decoder feedforward_prediction with context: 1; this model is "
                f"{model.topology} and its prediction network sees {seen}; train it with mbr"
            )
        self._table = bigram_table(self.bigram, model.token_list, model.blank_id)

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        if self._table is None:
            self.prepare(model)
        assert self._table is not None
        self._table = self._table.to(batch.encoder.frames.device)
        losses = lf_mmi_loss(
            batch.encoder.frames,
            context_outputs(model, len(self._table)),
            model.joint_network,
            batch.targets,
            batch.encoder.lengths,
            batch.target_lengths,
            self._table,
            blank=model.blank_id,
            scale=self.scale,
            lm_scale=self.lm_scale,
            reduction="none",
        )  # [B]
        used, stats = feasible(losses)
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


def bigram_table(path: str, token_list: Sequence[str], blank: int) -> Tensor:
    """log P(w | v) as `lf_mmi_loss` takes it, [V, V + 1].

    Raises:
        ValueError: no such file, no bigram, or one of another vocabulary; names the file.
    """
    model = read_arpa(path)
    if model.order > 2:
        raise ValueError(
            f"{path}: an n-gram of order {model.order}; lf_mmi sums over all sequences with "
            "bigrams: make it with train-ngram --order 2"
        )
    try:
        scorer = NgramScorer(model, token_list)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    size = len(token_list)
    states = scorer.advance(scorer.start(size), torch.arange(size))  # [V]
    states[blank] = scorer.start(1)[0]
    steps, _ = scorer.score(states)  # [V, V]
    table = torch.cat([steps, scorer.final(states)[:, None]], 1)
    return table.clamp(min=OOV_LOG_PROB)
