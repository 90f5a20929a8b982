"""What decoding leaves behind, in ESPnet's layout and a little more.

    1best_recog/{text,token,token_int,score}  ... Nbest_recog/    as ESPnet's asr_inference
    <n>best_recog/score_parts    JSON: unscaled log-probabilities that the score is made of
    word_times                   start, duration (seconds), word, confidence, of every word in turn
    ctm                          the same in NIST's format
    timing                       seconds of audio, and of encoder, search and word times
    search.yaml                  options of the search, scales included

A merged decoding has the first hypothesis' files in the folder itself as well, as ESPnet does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table

NBEST_FILES = ("text", "token", "token_int", "score", "score_parts")
WORD_TIMES, TIMING, CTM, SEARCH = "word_times", "timing", "ctm", "search.yaml"
#: Folder of an experiment where word boundaries are learned, and what it holds.
BOUNDARY_FOLDER, BOUNDARIES, LAGS = "word_times", "boundaries.npz", "lags"


def nbest_names(size: int) -> list[str]:
    """Tables of the ``size`` best hypotheses, below a decoding's folder."""
    return [f"{n}best_recog/{name}" for n in range(1, size + 1) for name in NBEST_FILES]


def decode_names(nbest: int) -> tuple[str, ...]:
    """All tables with one line per utterance."""
    return (*nbest_names(nbest), WORD_TIMES, TIMING)


@dataclass(frozen=True)
class RealTime:
    """Seconds spent per second of audio.

    Attributes:
        audio: seconds.
        encoder, search, times: seconds of work.
    """

    audio: float
    encoder: float
    search: float
    times: float

    @property
    def factor(self) -> float:
        """All work per second of audio."""
        return (self.encoder + self.search + self.times) / max(self.audio, 1e-9)

    def __str__(self) -> str:
        def share(part: float) -> str:
            return f"{part / max(self.audio, 1e-9):.4f}"

        return (
            f"RTF {self.factor:.4f} (encoder {share(self.encoder)}, search {share(self.search)}, "
            f"word times {share(self.times)}; {self.audio:.1f} s of audio)"
        )


def real_time(path: Path) -> RealTime | None:
    """Sum up a ``timing`` table; None where the length of the audio is not known."""
    rows = [
        [float(v) for v in fields(line)] for line in read_table(path, allow_empty=True).values()
    ]
    if not rows or sum(row[0] for row in rows) == 0:
        return None
    audio, encoder, search, times = (sum(column) for column in zip(*rows, strict=True))
    return RealTime(audio, encoder, search, times)


def word_times_line(words: Iterable[tuple[float, float, str, float]]) -> str:
    """``start duration word confidence`` of every word, as one line's value."""
    return " ".join(
        f"{start:.3f} {duration:.3f} {word} {confidence:.4f}"
        for start, duration, word, confidence in words
    )


def write_ctm(word_times: Path, target: Path, channel: str = "1") -> None:
    """NIST's CTM (utterance, channel, start, duration, word, confidence) from ``word_times``.

    Raises:
        ValueError: a line that is not made of groups of four.
    """
    lines = []
    for utterance, value in read_table(word_times, allow_empty=True).items():
        columns = fields(value)
        if len(columns) % 4:
            raise ValueError(f"{word_times}: utterance {utterance}: not groups of four: {value!r}")
        for i in range(0, len(columns), 4):
            lines.append(f"{utterance} {channel} {' '.join(columns[i : i + 4])}\n")
    write_atomically(target, "".join(lines))
