"""What padded frames do to the batch statistics of the conformer's batch norm.

    python benchmarks/batch_norm_padding.py --model model.zip --data dump/extracted/train

Runs a trained model over batches of the data (extracted features), sorted by length, shuffled, and
cut into windows as the viterbi stage cuts them, and compares mean and variance of what goes into
each batch norm over all frames with those over the frames that count.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from espnet_plugin.nn.chunking import chunk_index, cut_features

WINDOW, HOP = 64, 32  # encoder frames


def batches(lengths: dict[str, int], bins: int, shuffled: bool) -> list[list[str]]:
    """25 of the batches of at most so many padded frames."""
    order = sorted(lengths, key=lambda utt: -lengths[utt])
    if shuffled:
        random.Random(0).shuffle(order)
    made: list[list[str]] = [[]]
    for utt in order:
        longest = max([lengths[utt], *(lengths[other] for other in made[-1])])
        if longest * (len(made[-1]) + 1) > bins and made[-1]:
            made.append([])
        made[-1].append(utt)
    return made[:: max(1, len(made) // 25)][:25]


class Statistics:
    """Hooks into every batch norm; `frames` are the encoder frames that count of each row."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.frames: Tensor | None = None
        self.rows: list[tuple[float, float, float]] = []
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.register_forward_pre_hook(self._look)

    def _look(self, module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        if self.frames is None:
            return
        values = args[0]  # [B, C, T]
        mask = torch.arange(values.size(2)) < self.frames[:, None]
        counted = values.transpose(1, 2)[mask]  # [frames, C]
        variance = counted.var(0, unbiased=False)
        shift = (values.mean((0, 2)) - counted.mean(0)).abs() / variance.sqrt()
        ratio = values.var((0, 2), unbiased=False) / variance
        padding = 1 - float(mask.float().mean())
        self.rows.append((padding, float(shift.mean()), float(ratio.log().abs().mean())))


@torch.no_grad()
def main() -> None:
    """One line for each kind of batches."""
    from espnet2.train.dataset import DATA_TYPES

    from espnet_plugin.inference.speech2text import Speech2Text

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bins", type=int, default=2500)
    args = parser.parse_args()
    model: Any = Speech2Text.from_pretrained(args.model).asr_model.eval()
    features = DATA_TYPES["kaldi_ark"]["func"](str(args.data / "feats.scp"))
    utts = [line.split()[0] for line in (args.data / "feats.scp").read_text("utf-8").splitlines()]
    speech = {utt: torch.tensor(features[utt]).float() for utt in utts}
    sub, found = model.subsampling(), Statistics(model)
    for kind in ("sorted", "shuffled", "windows"):
        found.rows = []
        lengths = {utt: len(value) for utt, value in speech.items()}
        for batch in batches(lengths, args.bins, kind == "shuffled"):
            rows = [speech[utt] for utt in batch]
            sizes = torch.tensor([len(row) for row in rows])
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            found.frames = None
            feats, sizes = model.features(padded, sizes)
            if kind == "windows":
                frames = [sub.encoder_frames(size) for size in sizes.tolist()]
                chunks = chunk_index(frames, WINDOW, HOP, feats.device)
                feats, sizes = cut_features(feats, sizes, chunks, sub, WINDOW)
            found.frames = torch.tensor([sub.encoder_frames(size) for size in sizes.tolist()])
            model.encode_features(feats, sizes)
        padding, shift, ratio = torch.tensor(found.rows).mean(0).tolist()
        print(
            f"{kind}: padding {100 * padding:.1f} % of the frames; mean off by {shift:.3f} "
            f"deviations, log variance by {ratio:.3f} (means over channels, layers, batches)"
        )


if __name__ == "__main__":
    main()
