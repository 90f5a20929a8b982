"""Learns from transcribed speech where words begin and end in a model's features.

    python -m espnet_plugin learn_boundaries --train_config exp/tag/mbr/config.yaml \\
        --model_file exp/tag/mbr/valid.loss.ave.pth --key_file some_utterances \\
        --data_path_and_name_and_type dump/raw/train/wav.scp,speech,sound \\
        --data_path_and_name_and_type dump/raw/train/text,text,text --output_dir exp/tag/word_times

Some hundred utterances are enough. `boundaries.npz` is what `decode --boundary_file` takes; `lags`
has a line per utterance, for each word the seconds from its beginning in the sound to its first
label, and from its end to its last label's.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.decode_files import BOUNDARIES, LAGS


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet_plugin.inference.batch_job import make_parser

    parser = make_parser(__doc__ or "", ("train_config", "model_file"))
    parser.add_argument(
        "--feature_shift", type=float, default=0.01, help="seconds per frame of extracted features"
    )
    return parser


def learn(args: argparse.Namespace) -> None:
    """Write the two files.

    Raises:
        ValueError: too little speech to learn from.
    """
    import torch

    from espnet_plugin.inference.batch_job import (
        encode_with_features,
        in_batches,
        iterate_batches,
        load_model,
        read_keys,
    )
    from espnet_plugin.inference.text_output import WordOutput
    from espnet_plugin.inference.word_lags import label_words, word_lags
    from espnet_plugin.jobs.align import transcripts
    from espnet_plugin.search.align.hmm_training import train_word_hmm

    model, train_args = load_model(args)
    output = WordOutput(model.token_list, train_args, args.feature_shift)
    texts = transcripts(args)
    keys: list[str] = []
    sounds: list[Any] = []
    labels: list[list[tuple[float, float]]] = []
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    for names, batch in iterate_batches(args, train_args, batches):
        frames, lengths, feats, feat_lengths = encode_with_features(model, batch)
        keys += names
        rows = zip(feats.cpu(), feat_lengths.tolist(), strict=True)
        sounds += [row[:length].clone() for row, length in rows]
        if model.criterion.searches_encoder:  # its joint network is not trained
            labels += [[] for _ in names]
        else:
            labels += label_words(model, output, batch, frames, lengths)
    words = [texts[key] for key in keys]
    boundaries = train_word_hmm(words, sounds)
    lines = []
    for key, said, sound, timed in zip(keys, words, sounds, labels, strict=True):
        (spans,) = boundaries.spans([said], sound[None], torch.tensor([len(sound)]))
        lags = word_lags(timed, spans, output)
        lines.append(" ".join([key, *(f"{first:.3f} {last:.3f}" for first, last in lags)]) + "\n")
    write_atomically(args.output_dir / LAGS, "".join(lines))
    boundaries.save(args.output_dir / BOUNDARIES)
    logging.info("learned %d units from %d utterances", len(boundaries.units), len(keys))


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), learn, cmd)


if __name__ == "__main__":
    sys.exit(main())
