"""Losses of a trained model, for `accelerators: {selective: {irreducible: ...}}` of other stages.

    espnet-progressive irreducible --train_config exp/held_out/full_sum/config.yaml \\
        --model_file exp/held_out/full_sum/valid.loss.ave.pth --output_dir exp/irreducible \\
        --data_path_and_name_and_type dump/raw/train/wav.scp,speech,sound \\
        --data_path_and_name_and_type dump/raw/train/text,text,text \\
        --key_file dump/raw/train/text

The loss is the one that the model was trained with, per label, without dropout or SpecAugment; an
alignment is given beside the text where it needs one. Killed and started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet_plugin.inference.batch_job import make_parser

    return make_parser(__doc__ or "", ("train_config", "model_file"))


def compute(args: argparse.Namespace) -> None:
    """Writes `losses` and `losses.json`.

    Raises:
        ValueError: the model's loss is none of single utterances.
    """
    from espnet_plugin.inference.batch_job import ResumableTables, load_model, run_batches
    from espnet_plugin.nn.accelerators.irreducible import ABOUT, LOSSES
    from espnet_plugin.nn.accelerators.selective import LossRecorder

    model, train_args = load_model(args)
    loss = getattr(train_args, "loss", None) or "full_sum"
    if loss not in ("ctc", "viterbi", "full_sum"):
        raise ValueError(
            f"{args.train_config}: trained with loss {loss}; take a model of ctc, viterbi or "
            "full_sum"
        )
    model.error_rates = None  # a greedy search for each batch, which nobody reads
    recorder = LossRecorder(model.criterion)

    def process(keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        with recorder:
            model(**batch, utt_id=keys)
        losses = recorder.per_label(batch["text_lengths"], float("inf"))
        for utt, value in zip(keys, losses.double().tolist(), strict=True):
            tables.write(utt, f"{value:.6f}")

    run_batches(args, train_args, (LOSSES,), process)
    about = {"loss": loss, "labels": list(model.token_list), "model": str(args.model_file)}
    write_atomically(args.output_dir / ABOUT, json.dumps(about) + "\n")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), compute, cmd)


if __name__ == "__main__":
    sys.exit(main())
