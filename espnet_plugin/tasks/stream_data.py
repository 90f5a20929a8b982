"""From a stage's arguments to its stream: checks of records, batches, the iterator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.data.model_frames import parse_rate
from espnet_plugin.data.stream.options import StreamOptions, check_stage, read_options
from espnet_plugin.data.stream.reader import try_producer
from espnet_plugin.data.stream.records import Record
from espnet_plugin.pipeline.plan.losses import JOB_DATA, find_loss
from espnet_plugin.planning.batches import grouped
from espnet_plugin.planning.data_size import DataSize
from espnet_plugin.tasks.stream_align import load_aligner
from espnet_plugin.tasks.stream_iterator import (
    Process,
    StreamIterFactory,
    Utterance,
    without_global_draws,
)


class Preparation:
    """From a record to what the model reads.

    Args:
        args: of the training.
        preprocess: ESPnet's.
        seed: of the stream, for what the preprocessor draws.
    """

    def __init__(self, args: argparse.Namespace, preprocess: Any, seed: int) -> None:
        if preprocess is None:
            raise ValueError("stream: transcripts are words; set --use_preprocessor true")
        self._input_size, self._preprocess, self._seed = args.input_size, preprocess, seed
        rate = (args.frontend_conf or {}).get("fs")
        self._rate = None if rate is None else parse_rate(rate)

    def __call__(self, record: Record) -> Utterance:
        """The utterance.

        Raises:
            ValueError: nothing can be trained on it; with its number and id.
        """
        try:
            speech = self._speech(record)
            if not record.text.strip() or not record.name:
                raise ValueError("its text or id is empty")
            given = {"speech": speech, "text": record.text}
            data = without_global_draws(
                lambda: self._preprocess(record.name, given), self._seed, record.number
            )
            self._check_labels(data["text"], record.text)
        except ValueError as error:
            raise ValueError(f"stream: {record.place}: {error}") from error
        return record.name, data

    def _speech(self, record: Record) -> np.ndarray:
        values = record.values
        if values.ndim == 2 and self._input_size != values.shape[1]:
            wanted = "samples" if self._input_size is None else f"{self._input_size} features"
            raise ValueError(f"{values.shape[1]} features a frame, where {wanted} are expected")
        if values.ndim == 1 and self._input_size is not None:
            raise ValueError(f"samples, where {self._input_size} features a frame are expected")
        if values.ndim == 1 and self._rate not in (None, record.rate):
            raise ValueError(f"{record.rate} Hz, where frontend_conf.fs says {self._rate}")
        # as ESPnet's reader of sound files
        scaled = values / 32768.0 if values.dtype == np.int16 else values
        speech = np.array(scaled, np.float32)  # a copy: torch wants to be able to write
        if not np.isfinite(speech).all():
            raise ValueError("values that are NaN or infinite")
        return speech

    def _check_labels(self, labels: np.ndarray, text: str) -> None:
        known: Any = getattr(self._preprocess, "token_id_converter", None)
        if known is None or known.unk_symbol in text:
            return
        if known.token2id[known.unk_symbol] in labels.tolist():
            raise ValueError(f"its text has labels that are not in the token list: {text!r}")


def stream_seed(args: argparse.Namespace, options: StreamOptions) -> int:
    """The producer's seed."""
    return int(args.seed) if options.seed is None else options.seed


def check_stream(args: argparse.Namespace, preprocess: Any) -> None:
    """Whether a stage can train on its stream, its producer started and its first record read.

    Raises:
        ValueError: it cannot.
    """
    check_stage(vars(args), _job_data(args))
    options = read_options(args.stream)
    if options is not None:
        seed = stream_seed(args, options)
        Preparation(args, preprocess, seed)(try_producer(options, seed))


def stream_iterator(task: Any, args: argparse.Namespace, iter_options: Any) -> StreamIterFactory:
    """The iterator of a stage with a stream.

    Args:
        task: ours, which builds an aligner where the loss needs one.
        iter_options: ESPnet's, of the training part.

    Raises:
        ValueError: it is not known how long an epoch is, or what aligns the stream.
    """
    options = read_options(args.stream)
    assert options is not None
    if iter_options.num_iters_per_epoch is None:
        raise ValueError(
            "stream: how long is an epoch? give num_iters_per_epoch, or stream.epoch_bins"
        )
    process = Process()
    if iter_options.distributed:
        import torch.distributed as ranks

        process = Process(ranks.get_rank(), ranks.get_world_size())
    seed = stream_seed(args, options)
    return StreamIterFactory(
        options,
        seed,
        Preparation(args, iter_options.preprocess_fn, seed),
        Grouping(args, iter_options, process.world),
        _collation(task, args, options, iter_options.collate_fn),
        iter_options.num_iters_per_epoch,
        Path(args.output_dir),
        process,
    )


def _collation(task: Any, args: argparse.Namespace, options: StreamOptions, collate: Any) -> Any:
    """ESPnet's collation, with an alignment where the loss needs one."""
    if _job_data(args) != "alignment":
        return collate
    if options.align is None:
        raise ValueError(
            f"stream: loss {args.loss} needs an alignment; give stream.align: {{model: FILE}}, an "
            "aligner's parameters"
        )
    return load_aligner(task, options.align, collate, "cuda" if args.ngpu > 0 else "cpu")


def _job_data(args: argparse.Namespace) -> str | None:
    """ "alignment" or "nbest", if the loss needs one."""
    needs = find_loss(args.loss).needs_with(args.loss_conf or {})
    return next((name for name in JOB_DATA if name in needs), None)


class Grouping:
    """Utterances of a pool into batches, by the rules of ESPnet's options.

    Of several processes each makes its part of a batch.

    Args:
        args: of the training.
        iter_options: ESPnet's, of the training part.
        world: processes.
    """

    def __init__(self, args: argparse.Namespace, iter_options: Any, world: int) -> None:
        self._dimension = args.input_size or 1
        self._vocabulary = len(args.token_list)
        self._options = {
            "batch_type": iter_options.batch_type,
            "batch_size": max(1, iter_options.batch_size // world),
            "batch_bins": max(1, iter_options.batch_bins // world),
            "fold_length": args.fold_length,
        }

    def __call__(self, utterances: Sequence[Utterance]) -> list[list[int]]:
        """Places of the utterances of each batch, the longest first, as ESPnet sorts them."""
        lengths, labels = (
            np.array([len(data[name]) for _, data in utterances]) for name in ("speech", "text")
        )
        size = DataSize(lengths, labels, self._dimension, self._vocabulary, 1.0, "stream")
        return [group[::-1].tolist() for group in grouped(size, self._options)]
