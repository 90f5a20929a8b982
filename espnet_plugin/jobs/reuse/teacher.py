"""Codes of a teacher's encoder frames, for `accelerators: {repa: ...}` of a student's stages.

    espnet-progressive teacher --train_config exp/big/full_sum/config.yaml \\
        --model_file exp/big/full_sum/valid.loss.ave.pth --output_dir exp/codes \\
        --data_path_and_name_and_type dump/raw/train/wav.scp,speech,sound \\
        --data_path_and_name_and_type dump/raw/train/text,text,text \\
        --key_file dump/raw/train/text

Frames of some of the utterances make the codebooks, then all utterances are coded: a byte for each
book and frame. Killed and started again, it goes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch

from espnet_plugin.corpora.atomic import save_atomically, write_atomically

CODEBOOKS = "codebooks.pt"


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet_plugin.inference.batch_job import make_parser

    parser = make_parser(__doc__ or "", ("train_config", "model_file"))
    parser.add_argument("--block", type=int, default=0, help="encoder block; 0: its output")
    parser.add_argument("--books", type=int, default=16, help="parts of a frame")
    parser.add_argument("--codes", type=int, default=256, help="of each part, at most 256")
    parser.add_argument(
        "--fit_utterances", type=int, default=500, help="whose frames make the codebooks"
    )
    return parser


class BlockOutput:
    """Frames and lengths of one encoder block, or of the encoder.

    Raises:
        ValueError: there is no such block.
    """

    def __init__(self, model: Any, block: int) -> None:
        from espnet_plugin.inference.batch_job import encode

        blocks = getattr(model.encoder, "encoders", ())
        if not 0 <= block <= len(blocks):
            raise ValueError(f"--block {block}: the encoder has blocks 1 to {len(blocks)}")
        self._model, self._encode, self._block = model, encode, block
        self._seen: torch.Tensor | None = None
        if block:
            blocks[block - 1].register_forward_hook(self._listen)

    def _listen(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        frames = output[0]
        self._seen = frames[0] if isinstance(frames, tuple) else frames

    def __call__(self, batch: dict[str, Any]) -> list[torch.Tensor]:
        """Frames [T, D] of each utterance of a batch."""
        frames, lengths = self._encode(self._model, batch)
        if self._block:
            assert self._seen is not None
            frames = self._seen
        return [row[:length] for row, length in zip(frames, lengths.tolist(), strict=True)]


def fit_codebooks(args: argparse.Namespace, train_args: argparse.Namespace, output: Any) -> Any:
    """Centroids of the frames of some utterances, drawn from the key file."""
    from espnet_plugin.inference.batch_job import in_batches, iterate_batches, read_keys
    from espnet_plugin.nn import quantiser

    keys = read_keys(args.key_file)
    order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(args.seed))
    chosen = sorted(order[: args.fit_utterances].tolist())  # ESPnet reads in the files' order
    batches = in_batches([keys[number] for number in chosen], args.batch_size)
    frames: list[torch.Tensor] = []
    for _, batch in iterate_batches(args, train_args, batches):
        frames += [row.cpu() for row in output(batch)]
    return quantiser.fit(torch.cat(frames), args.books, args.codes, args.seed)


def code(args: argparse.Namespace) -> None:
    """Writes `codebooks.pt`, `codes` and `codes.json`."""
    from espnet_plugin.inference.batch_job import ResumableTables, load_model, run_batches
    from espnet_plugin.nn import quantiser
    from espnet_plugin.nn.accelerators.repa import ABOUT, CODES

    model, train_args = load_model(args)
    output = BlockOutput(model, args.block)
    path = args.output_dir / CODEBOOKS
    if not path.exists():
        centroids = fit_codebooks(args, train_args, output)
        save_atomically(path, functools.partial(torch.save, centroids))
        logging.info("wrote %s", path)
    centroids = torch.load(path, weights_only=True).to(next(model.parameters()).device)

    def process(keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        for utt, frames in zip(keys, output(batch), strict=True):
            codes = quantiser.quantise(frames, centroids).to(torch.uint8).cpu()
            tables.write(utt, codes.numpy().tobytes().hex())

    run_batches(args, train_args, (CODES,), process)
    about = {
        "books": args.books,
        "codes": args.codes,
        "subsampling": model.subsampling().factor,
        "teacher": str(args.model_file),
        "block": args.block,
    }
    write_atomically(args.output_dir / ABOUT, json.dumps(about) + "\n")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), code, cmd)


if __name__ == "__main__":
    sys.exit(main())
