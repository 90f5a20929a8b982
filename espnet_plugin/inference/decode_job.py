"""Decoding as a job: N-best lists with score parts, word times, confidences, real-time factor."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.decode_files import (
    CTM,
    SEARCH,
    TIMING,
    WORD_TIMES,
    decode_names,
    real_time,
    word_times_line,
    write_ctm,
)
from espnet_plugin.data.nbest_lists import ListEntry
from espnet_plugin.inference.batch_job import (
    ResumableTables,
    encode_with_features,
    load_model,
    run_batches,
)
from espnet_plugin.inference.search_options import search_settings
from espnet_plugin.inference.searchers import make_searcher
from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.inference.word_times import spoken_words, words_in_sound
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.align.word_hmm import read_word_hmm


class DecodeJob:
    """One model and search, batch after batch.

    Args:
        args: options of `decode`.
        model: in evaluation mode.
        train_args: of its training.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: ProgressiveTransducerModel,
        train_args: argparse.Namespace,
    ) -> None:
        self.args, self.model = args, model
        self.words = WordOutput(model.token_list, train_args, args.feature_shift)
        if args.word_times != "none" and self.words.frame_shift is None:
            logging.warning("no word times: the frame shift of this encoder is not known")
        file = args.boundary_file
        self._boundaries = None if file is None else read_word_hmm(file)
        # Confidences are shares of the whole beam, however few hypotheses are wanted.
        longest = max(args.nbest, args.beam_size)
        self._search = make_searcher(args, model, train_args, longest)

    @torch.no_grad()
    def __call__(self, keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        """Decode one batch and write it down."""
        clock = _Clock(self.model)
        try:
            frames, lengths, feats, feat_lengths = encode_with_features(self.model, batch)
        except TooShortUttError as error:  # ESPnet's encoders, where all of a batch are
            for utt in keys:
                tables.skip(utt, f"too short for the encoder: {error}")
            return
        clock.lap()
        lists = self._search(frames, lengths)
        clock.lap()
        spoken = spoken_words(self.model, self.words, lists, frames, lengths, self.args.word_times)
        spoken = words_in_sound(spoken, self.words, self._boundaries, feats, feat_lengths)
        times = [
            word_times_line((w.start, w.duration, w.word, w.confidence) for w in words)
            for words in spoken
        ]
        clock.lap()
        inputs = batch["speech_lengths"].tolist()
        for utt, found, line, length in zip(keys, lists, times, inputs, strict=True):
            audio = length * (self.words.input_shift or 0.0)
            spent = [seconds * length / max(1, sum(inputs)) for seconds in clock.laps]
            timing = " ".join(f"{value:.6f}" for value in (audio, *spent))
            tables.write(utt, *self._nbest(found), line, timing)

    def _nbest(self, found: Sequence[Hypothesis]) -> list[str]:
        """Values of the N-best files."""
        values: list[str] = []
        for n in range(self.args.nbest):
            # A list shorter than asked for repeats its last entry, so that every file has every
            # utterance; ESPnet's readers expect that.
            values += self._entry(found[min(n, len(found) - 1)]).values
        return values

    def _entry(self, found: Hypothesis) -> ListEntry:
        return ListEntry(
            words=tuple(fields(self.words.text(found))),
            tokens=tuple(self.words.symbols(found)),
            token_int=found.tokens,
            score=found.score,
            am=found.am_score,
            ilm=found.ilm_score,
            pronunciation=found.pronunciation_score,
            lms=found.lm_scores,
        )


class _Clock:
    """Seconds between calls of `lap`."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._cuda = next(model.parameters()).is_cuda
        self.laps: list[float] = []
        self._last = self._now()

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def lap(self) -> None:
        """Note the time since the last call."""
        now = self._now()
        self.laps.append(now - self._last)
        self._last = now


def decode_to_folder(args: argparse.Namespace) -> None:
    """Decode the utterances of a key file into ``args.output_dir``, resuming a killed run.

    Raises:
        ValueError: bad options, files or models, or a folder with results of others.
    """
    model, train_args = load_model(args)
    job = DecodeJob(args, model, train_args)
    run_batches(args, train_args, decode_names(args.nbest), job, inference=True)
    settings = yaml.safe_dump(search_settings(args), sort_keys=True)
    write_atomically(args.output_dir / SEARCH, settings)
    write_ctm(args.output_dir / WORD_TIMES, args.output_dir / CTM)
    speed = real_time(args.output_dir / TIMING)
    if speed is not None:
        logging.info("%s", speed)
