"""Check a data directory before anything is trained on it.

Two kinds of trouble: utterances of no use, which are named, counted and left out; and faults of
the data as a whole, after which nothing can go on, each said in one message with file, utterance
and remedy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from espnet_plugin.data.check import labels as check_labels
from espnet_plugin.data.check import tables as check_tables
from espnet_plugin.data.check.measure import Measurement, Request
from espnet_plugin.data.check.measure_all import chosen, measure_all
from espnet_plugin.data.check.report import FEATS_TYPES, CheckOptions, Report
from espnet_plugin.data.kaldi_files import some

FRAMES_PER_SECOND = 100  # of extracted features, as ESPnet's asr.sh assumes


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
    _check_durations(lengths, options, report)
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


def _check_durations(lengths: Mapping[str, int], options: CheckOptions, report: Report) -> None:
    """Leave out what is not between the two durations."""
    shortest, longest = options.durations
    rate = options.frames.fs if options.feats_type == "raw" else FRAMES_PER_SECOND
    if options.evaluation or (not shortest and longest is None):
        return
    if not rate:
        raise ValueError("--min_wav_duration and --max_wav_duration of raw audio need --fs")
    for key, length in lengths.items():
        seconds = length / rate
        if shortest and seconds <= shortest:
            report.skip(key, f"{seconds:.2f} s, not longer than --min_wav_duration {shortest:g}")
        elif longest is not None and seconds >= longest:
            report.skip(key, f"{seconds:.2f} s, not shorter than --max_wav_duration {longest:g}")


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
