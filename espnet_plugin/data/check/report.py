"""What a check holds data against, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from espnet_plugin.data.lexicon import Lexicon
from espnet_plugin.data.model_frames import ModelFrames
from espnet_plugin.data.text_units import Tokenizer

FEATS_TYPES = {"raw": "wav.scp", "extracted": "feats.scp"}


@dataclass(frozen=True)
class CheckOptions:
    """What to hold the data against; whatever is None is not checked.

    Attributes:
        feats_type: "raw" (wav.scp) or "extracted" (feats.scp).
        frames: sampling rate and number of encoder frames.
        tokens: the vocabulary, blank first.
        tokenize: transcript to tokens.
        lexicon: of a phoneme system; `tokenize` is then not used.
        durations: seconds, from and to (None: any), both excluded as in ESPnet's asr.sh; what is
            outside is left out. Feature frames count for 10 ms each.
        topology: with "monotonic", an utterance needs as many encoder frames as labels.
        evaluation: a set that is only decoded: labels matter to nothing but the score, so an
            empty, unknown or long transcript is only warned of.
        alignment, nbest: files of the later train stages.
        allow_missing: leave out utterances that not every file has, instead of refusing.
        scan: share of the utterances whose values are all read; of the others, the header.
        max_skipped: refuse if a larger share of the utterances is of no use.
        nj: processes.
        cache: file that remembers measurements.
    """

    feats_type: str = "raw"
    frames: ModelFrames = field(default_factory=ModelFrames)
    tokens: tuple[str, ...] | None = None
    tokenize: Tokenizer | None = None
    lexicon: Lexicon | None = None
    durations: tuple[float, float | None] = (0.0, None)
    topology: str = "monotonic"
    evaluation: bool = False
    alignment: Path | None = None
    nbest: Path | None = None
    allow_missing: bool = False
    scan: float = 1.0
    max_skipped: float = 0.5
    nj: int = 1
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.feats_type not in FEATS_TYPES:
            raise ValueError(f"feats_type {self.feats_type!r} is not one of {list(FEATS_TYPES)}")
        if not 0 <= self.scan <= 1:
            raise ValueError(f"scan {self.scan} is not a share in [0, 1]")


@dataclass
class Report:
    """Outcome for one data directory.

    Attributes:
        utterances: all of them.
        skipped: utterance of no use -> reason.
        errors: after which nothing can go on.
        warnings: worth knowing.
        speech: measured length of the usable utterances, summed: samples or feature frames.
    """

    folder: Path
    utterances: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    speech: int = 0

    @property
    def usable(self) -> list[str]:
        """Utterances to go on with."""
        return [key for key in self.utterances if key not in self.skipped]

    def skip(self, utterance: str, reason: str) -> None:
        """Leave an utterance out; the first reason stays."""
        self.skipped.setdefault(utterance, reason)

    def raise_errors(self) -> None:
        """Raise what was found.

        Raises:
            ValueError: if there is any error.
        """
        if self.errors:
            raise ValueError("\n".join(self.errors))
