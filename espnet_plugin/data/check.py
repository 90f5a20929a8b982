"""Check a data directory before anything is trained on it.

Two kinds of trouble: utterances of no use, which are named, counted and left out; and faults of
the data as a whole, after which nothing can go on, each said in one message with file, utterance
and remedy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet_plugin.data import check_labels, check_tables
from espnet_plugin.data.kaldi_files import some
from espnet_plugin.data.lexicon import Lexicon
from espnet_plugin.data.measure import Measurement, Request
from espnet_plugin.data.measure_all import chosen, measure_all
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


def check_data_dir(folder: Path, options: CheckOptions) -> Report:
    """Check the data directory `folder`; nothing is written but the cache."""
    report = Report(folder)
    scp = FEATS_TYPES[options.feats_type]
    tables = check_tables.read_all(folder, scp, report)
    if report.errors:
        return report
    check_tables.check_ids(tables, options.allow_missing, report)
    if report.errors:
        return report
    text = {key: tables["text"][key] for key in report.usable}
    labels = check_labels.check_transcripts(text, options, report)
    lengths = _check_speech(tables, scp, options, report)
    frames = {key: options.frames.encoder_frames(length) for key, length in lengths.items()}
    check_labels.check_lengths(labels, frames, options, report)
    if options.alignment is not None:
        check_labels.check_alignment(options.alignment, labels, frames, options, report)
    if options.nbest is not None:
        check_labels.check_nbest(options.nbest, options, report)
    report.speech = sum(lengths[key] for key in report.usable if key in lengths)
    _check_share(options, report)
    return report


def _check_speech(
    tables: Mapping[str, Mapping[str, str]], scp: str, options: CheckOptions, report: Report
) -> dict[str, int]:
    """Measure the speech; return the lengths of what can be used."""
    kind = "audio" if scp == "wav.scp" else "features"
    requests = {}
    for key in report.utterances:
        entry, start, end = check_tables.speech_of(tables, scp, key)
        requests[key] = Request(entry, kind, chosen(key, options.scan), start, end)
    measured = measure_all(requests, nj=options.nj, cache=options.cache, name=str(report.folder))
    for key, found in measured.items():
        if found.problem:
            report.skip(key, found.problem)
    good = {key: found for key, found in measured.items() if not found.problem}
    _check_uniform(good, report.folder / scp, options, report)
    return {key: found.frames for key, found in good.items()}


def _check_uniform(
    measured: Mapping[str, Measurement], path: Path, options: CheckOptions, report: Report
) -> None:
    """One sampling rate, the configured one; one number of feature channels."""
    rate = options.frames.fs
    rates = Counter(found.rate for found in measured.values() if found.rate)
    wanted = rate or (rates.most_common(1)[0][0] if rates else 0)
    wrong = [key for key, found in measured.items() if found.rate not in (0, wanted)]
    if wrong:
        found_rates = ", ".join(f"{r} Hz" for r in sorted(rates) if r != wanted)
        configured = "the configured" if rate else "most files'"
        report.errors.append(
            f"{path}: sampling rate {found_rates}, where {wanted} Hz is {configured}: "
            f"{some(wrong)}; resample the audio, or change --fs and frontend_conf.fs"
        )
    widths = Counter(found.width for found in measured.values())
    if len(widths) < 2:
        return
    usual = widths.most_common(1)[0][0]
    odd = [key for key, found in measured.items() if found.width != usual]
    if path.name == "feats.scp":
        report.errors.append(
            f"{path}: most feature matrices have {usual} columns, those of {some(odd)} have not; "
            "extract the features anew, all in the same way"
        )
    else:
        report.warnings.append(f"{path}: not {usual} channel(s) as most: {some(odd)}")


def _check_share(options: CheckOptions, report: Report) -> None:
    """Refuse data of which hardly anything is left."""
    total, lost = len(report.utterances), len(report.skipped)
    if not total or (lost < total and lost <= options.max_skipped * total):
        return
    key, reason = next(iter(report.skipped.items()))
    report.errors.append(
        f"{report.folder}: {lost} of {total} utterances are of no use, so something is wrong "
        f"with all of them; the first, {key}: {reason}"
    )
