"""N-best lists between the text_int/text_float files and tensors.

Shape legend: B batch, N hypotheses, S labels. One utterance's line is
`N len_1 .. len_N tokens of hypothesis 1 .. tokens of hypothesis N`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.models.batch import NBest


def unpack_nbest(
    flat: Tensor, flat_lengths: Tensor, lm_scores: Tensor, risks: Tensor, utt_ids: list[str]
) -> NBest:
    """flat [B, L] (int), lm_scores/risks [B, N_max] (padded by ESPnet's collate) -> NBest.

    Raises:
        ValueError: naming the utterance whose line does not add up.
    """
    rows = flat.tolist()
    sizes = flat_lengths.tolist()
    lists: list[list[list[int]]] = []
    for row, size, utt in zip(rows, sizes, utt_ids, strict=True):
        count = row[0] if size else 0
        lengths = row[1 : 1 + count]
        if count < 1 or 1 + count + sum(lengths) != size or min(lengths) < 0:
            raise ValueError(
                f"N-best list of utterance {utt} is damaged: {size} numbers do not hold {count} "
                f"hypotheses of {sum(lengths)} tokens; make the lists again (nbest job)"
            )
        hypotheses, position = [], 1 + count
        for length in lengths:
            hypotheses.append(row[position : position + length])
            position += length
        lists.append(hypotheses)
    most = max(len(hypotheses) for hypotheses in lists)
    longest = max(len(tokens) for hypotheses in lists for tokens in hypotheses)
    tokens = torch.zeros(len(lists), most, longest, dtype=torch.long)
    lengths_out = torch.zeros(len(lists), most, dtype=torch.long)
    mask = torch.zeros(len(lists), most, dtype=torch.bool)
    for b, hypotheses in enumerate(lists):
        for n, hypothesis in enumerate(hypotheses):
            tokens[b, n, : len(hypothesis)] = torch.tensor(hypothesis, dtype=torch.long)
            lengths_out[b, n] = len(hypothesis)
            mask[b, n] = True
    device = flat.device
    return NBest(
        tokens=tokens.to(device),
        lengths=lengths_out.to(device),
        mask=mask.to(device),
        lm_scores=lm_scores[:, :most],
        risks=risks[:, :most],
    )


def pack_nbest(hypotheses: list[list[int]]) -> list[int]:
    """The integers of one utterance's line."""
    return [
        len(hypotheses),
        *(len(tokens) for tokens in hypotheses),
        *(token for tokens in hypotheses for token in tokens),
    ]
