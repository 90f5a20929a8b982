"""`StreamingSpeech2Text`: text while somebody is still speaking.

from espnet_plugin.inference.streaming import StreamingSpeech2Text
recognise = StreamingSpeech2Text.from_pretrained("model.zip", chunk_ms=320, endpoint=0.8)
stream = recognise.open()
for samples in microphone:
    for result in stream.feed(samples):
        print(result.stable, "|", result.text)
results = stream.finish()

Shapes: L samples, T' feature frames, F features, C encoder frames of a chunk, D encoder size.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.inference.searchers import Searcher, make_engine, whole_utterances
from espnet_plugin.inference.speech2text import Speech, Speech2Text
from espnet_plugin.inference.stream_features import StreamFeatures, check_streams, reach_of
from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.nn.encoder_stream import FACTOR, encode_chunk, start_state
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.beam.stream import BeamStream, Progress

SEARCHES = ("beam", "lexicon")


@dataclass(frozen=True)
class StreamResult:
    """What is known of a segment.

    Attributes:
        segment: its number, from 0.
        text: of the best hypothesis so far.
        stable: the beginning of ``text`` that all hypotheses agree on; it will not change any more.
        tokens: labels of the best hypothesis.
        frames: encoder frame of each, counted from the beginning of the stream.
        final: whether the segment is over.
        heard: seconds of the stream that this result is made of.
        start: second at which the segment begins: the stream's beginning or the last one's end.
        nbest: of a final result, with frames as above; else empty.
    """

    segment: int
    text: str
    stable: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    final: bool
    heard: float
    start: float
    nbest: tuple[Hypothesis, ...] = ()


class StreamingSpeech2Text(Speech2Text):
    """A trained model for speech that is still coming in. Called, it recognises whole utterances.

    Args:
        asr_train_config, asr_model_file, device, options: as of `Speech2Text`.
        chunk_ms: milliseconds of a chunk, a multiple of the encoder's frame; by default the longest
            of the training that is not the whole utterance.
        endpoint: a segment ends after so many seconds in which the best hypothesis has no label;
            None: only at the end of the stream.
        undecided: see `BeamStream`.
        feature_shift: seconds of a frame, of models that take features.

    Attributes:
        chunk: C.
        frame_shift: seconds of an encoder frame.
        rate: samples a second; None for a model that takes features.

    Raises:
        ValueError: a model, a search or a chunk that does not stream.
    """

    def __init__(
        self,
        asr_train_config: Path | str,
        asr_model_file: Path | str,
        device: str = "cpu",
        *,
        chunk_ms: float | None = None,
        endpoint: float | None = None,
        undecided: int = 200,
        feature_shift: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(asr_train_config, asr_model_file, device, **options)
        model = self.asr_model
        if endpoint is not None and endpoint <= 0:
            raise ValueError(f"endpoint must be positive seconds, got {endpoint:g}")
        if model.frontend is not None:
            reach_of(model.frontend)
        output = WordOutput(model.token_list, self.asr_train_args, feature_shift)
        if output.frame_shift is None:
            raise ValueError("the model's configuration does not tell its sampling rate")
        self.frame_shift: float = output.frame_shift
        shift = output.input_shift
        self.rate = round(1 / shift) if model.frontend is not None and shift else None
        self.chunk = self._chunk(chunk_ms)
        model.encoder.chunks.evaluation = self.chunk
        self.endpoint, self.undecided = endpoint, undecided

    def _make_search(self, args: argparse.Namespace) -> Searcher:
        check_streams(self.asr_model)
        if args.search not in SEARCHES:
            raise ValueError(f"search {args.search} does not stream; take one of {SEARCHES}")
        self.engine, self.finish = make_engine(args, self.asr_model, self.asr_train_args)
        self.nbest, self.has_words = args.nbest, args.search == "lexicon"
        return whole_utterances(self.engine, self.finish, args.nbest)

    def _chunk(self, chunk_ms: float | None) -> int:
        """C of milliseconds."""
        trained = [size for size in self.asr_model.encoder.chunks.sizes if size]
        if chunk_ms is None:
            if not trained:
                raise ValueError("this model was trained on whole utterances alone: name chunk_ms")
            return max(trained)
        step = 1000 * self.frame_shift
        chunk = round(chunk_ms / step)
        if chunk < 1 or abs(chunk * step - chunk_ms) > 1e-6 * step:
            below = max(int(chunk_ms / step), 1)
            raise ValueError(
                f"a chunk of {chunk_ms:g} ms does not fit the subsampling: an encoder frame is "
                f"{step:g} ms, take {below * step:g} or {(below + 1) * step:g}"
            )
        if chunk not in trained:
            sizes = ", ".join(f"{size * step:g}" for size in trained)
            logging.warning("the model was not trained with %g ms chunks: %s", chunk_ms, sizes)
        return chunk

    def open(self, rate: int | None = None) -> SpeechStream:
        """A new stream; any number may be open at once.

        Args:
            rate: of the samples that will come, to be checked; None: the model's.

        Raises:
            ValueError: the model takes another rate.
        """
        if rate is not None and rate != self.rate:
            takes = f"{self.rate} Hz" if self.rate else "features, no audio"
            raise ValueError(
                f"the stream has {rate} Hz, the model takes {takes}; convert it, for one by "
                f"ffmpeg -i INPUT -ar {self.rate} -ac 1 -f s16le -"
            )
        return SpeechStream(self)

    def words(self, found: Hypothesis) -> str:
        """Text of a hypothesis."""
        return self._result(found)[0]


class SpeechStream:
    """One stream; see `StreamingSpeech2Text.open`."""

    def __init__(self, owner: StreamingSpeech2Text) -> None:
        self._owner = owner
        self._features = StreamFeatures(owner.asr_model)
        self._waiting = torch.zeros(0, owner.asr_model.feature_size(), device=owner.device)
        self._state = start_state(owner.asr_model.encoder)
        self._search = BeamStream(owner.engine, owner.undecided)
        self._segment, self._start, self._over = 0, 0, False
        self._shown: tuple[tuple[int, ...], int] = ((), 0)

    def sizes(self) -> dict[str, int]:
        """What is kept: samples, feature frames, numbers of the encoder's state, search."""
        state = sum(tensor.numel() for tensor in self._state.tensors())
        kept = {"samples": self._features.kept, "features": len(self._waiting), "state": state}
        return {**kept, **self._search.sizes()}

    def feed(self, speech: Speech) -> list[StreamResult]:
        """Samples [L] (or features [T', F]) that came in -> what is new, in order.

        One result for each chunk that changed the text, and one for each segment that ended.

        Raises:
            ValueError: the stream is over, or the shape is not that of the model's input.
        """
        if self._over:
            raise ValueError("this stream is finished; open another one")
        tensor = torch.as_tensor(speech)
        wanted = 1 if self._owner.asr_model.frontend is not None else 2
        if tensor.dim() != wanted or (wanted == 2 and tensor.shape[1] != self._waiting.shape[1]):
            shape = "samples [L]" if wanted == 1 else f"features [T', {self._waiting.shape[1]}]"
            raise ValueError(f"the model takes {shape}, got the shape {tuple(tensor.shape)}")
        return self._heard(self._features.feed(tensor))

    def finish(self) -> list[StreamResult]:
        """The end of the stream, in whatever place: the last results, the last of them final."""
        if self._over:
            return []
        results = self._heard(self._features.finish())
        if len(self._waiting):
            results += self._chunk(self._waiting)
        self._over = True
        return [*results, *self._ended(always=True)]

    def _heard(self, feats: Tensor) -> list[StreamResult]:
        self._waiting = torch.cat([self._waiting, feats])
        size, results = FACTOR * self._owner.chunk, []
        while len(self._waiting) >= size:
            results += self._chunk(self._waiting[:size])
            self._waiting = self._waiting[size:].clone()
        return results

    @torch.no_grad()
    def _chunk(self, feats: Tensor) -> list[StreamResult]:
        """One chunk through encoder and search."""
        out, self._state = encode_chunk(self._owner.asr_model.encoder, feats[None], self._state)
        progress = self._search.feed(out[0])
        silence = self._search.heard - (progress.frames[-1] + 1 if progress.frames else 0)
        limit = self._owner.endpoint
        if limit is not None and silence * self._owner.frame_shift >= limit:
            return self._ended()
        shown = (progress.tokens, progress.stable)
        if shown == self._shown or not progress.tokens:
            return []
        self._shown = shown
        return [self._result(progress)]

    def _ended(self, always: bool = False) -> list[StreamResult]:
        """The final result of the segment, if it has any labels; the next segment begins.

        With ``always`` there is one for a stream in which nothing was said.
        """
        nbest = self._owner.finish(self._search.hypotheses(self._owner.nbest))
        nbest = [self._moved(found) for found in nbest] or [Hypothesis((), 0.0, 0.0)]
        best, results = nbest[0], []
        if best.tokens or (always and self._segment == 0):
            text = self._owner.words(best)
            result = self._made(best, text, text)
            results = [replace(result, final=True, nbest=tuple(nbest))]
            self._segment += 1
        self._start += self._search.heard
        self._search = BeamStream(self._owner.engine, self._owner.undecided)
        self._shown = ((), 0)
        return results

    def _moved(self, found: Hypothesis) -> Hypothesis:
        """Frames counted from the beginning of the stream."""
        start = self._start
        frames = tuple(frame + start for frame in found.frames)
        words = tuple((first + start, last + start) for first, last in found.word_frames)
        return replace(found, frames=frames, word_frames=words)

    def _result(self, progress: Progress) -> StreamResult:
        owner, stable = self._owner, progress.stable
        if owner.has_words:
            (best, *_) = self._search.hypotheses(1)
            ends = [last for _, last in best.word_labels]
            done = [w for w, end in zip(best.words, ends, strict=True) if end < stable]
            return self._made(self._moved(best), " ".join(best.words), " ".join(done))
        best = Hypothesis(progress.tokens, progress.score, progress.score, frames=progress.frames)
        fixed = replace(best, tokens=progress.tokens[:stable], frames=progress.frames[:stable])
        return self._made(self._moved(best), owner.words(best), owner.words(fixed))

    def _made(self, best: Hypothesis, text: str, stable: str) -> StreamResult:
        shift = self._owner.frame_shift
        heard = (self._start + self._search.heard) * shift
        start = self._start * shift
        return StreamResult(
            self._segment, text, stable, best.tokens, best.frames, False, heard, start
        )
