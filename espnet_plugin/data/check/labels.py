"""Rules about labels: transcripts, vocabulary, lengths, alignments, N-best lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields, single_spaced
from espnet_plugin.data.check.report import CheckOptions, Report
from espnet_plugin.data.kaldi_files import read_integers, read_table, some
from espnet_plugin.data.token_list import UNKNOWN

Labels = dict[str, list[str]]

# ESPnet masks a padded batch so that a shorter utterance may keep one frame more than alone.
FRAME_TOLERANCE = 1


def check_transcripts(
    text: Mapping[str, str], options: CheckOptions, report: Report
) -> Labels | None:
    """Find empty transcripts and tokens outside the vocabulary; return the tokens, if any."""
    path = report.folder / "text"
    empty = [key for key, transcript in text.items() if not fields(transcript)]
    if empty and options.evaluation:
        report.warnings.append(f"{path}: empty transcripts: {some(empty)}")
    elif empty:
        for key in empty:
            report.skip(key, f"{path}: empty transcript")
    if options.lexicon is not None:
        missing = options.lexicon.missing(w for line in text.values() for w in fields(line))
        if missing:
            _complain(
                f"{options.lexicon.source}: {len(missing)} words of {path} have no pronunciation: "
                f"{' '.join(missing)}; add them, or make the lexicon with make_tokens --g2p g2p_en",
                options,
                report,
            )
            return None
        labels = {key: options.lexicon.labels(fields(line)) for key, line in text.items()}
    elif options.tokenize is not None:
        labels = {key: options.tokenize(single_spaced(line)) for key, line in text.items()}
    else:
        return None
    if options.tokens is not None:
        _check_vocabulary(path, labels, set(options.tokens), options, report)
    return labels


def _check_vocabulary(
    path: Path, labels: Labels, known: set[str], options: CheckOptions, report: Report
) -> None:
    where: dict[str, str] = {}
    for key, tokens in labels.items():
        for token in tokens:
            if token not in known or token == UNKNOWN:
                where.setdefault(token, key)
    if where:
        listed = ", ".join(f"{token!r} (first in {key})" for token, key in sorted(where.items()))
        _complain(
            f"{path}: tokens outside the vocabulary: {listed}; make the token list from this text "
            "too, or correct the text",
            options,
            report,
        )


def _complain(message: str, options: CheckOptions, report: Report) -> None:
    (report.warnings if options.evaluation else report.errors).append(message)


def check_lengths(
    labels: Labels | None,
    frames: Mapping[str, int | None],
    options: CheckOptions,
    report: Report,
) -> None:
    """Find utterances too short for the encoder, or for their labels."""
    cramped = []
    for key, count in frames.items():
        if count is None:
            continue
        size = len(labels.get(key, ())) if labels is not None else 0
        if count < 1:
            report.skip(key, "too short for the encoder, which makes no frame of it")
        elif options.topology == "monotonic" and size > count:
            if options.evaluation:
                cramped.append(key)
            else:
                report.skip(key, f"{size} labels, but only {count} encoder frames to put them on")
    if cramped:
        report.warnings.append(
            f"{report.folder}: more labels than encoder frames: {some(cramped)}; they cannot be "
            "recognised without error"
        )


def check_alignment(
    path: Path,
    labels: Labels | None,
    frames: Mapping[str, int | None],
    options: CheckOptions,
    report: Report,
) -> None:
    """Hold an alignment against transcripts and lengths; utterances that disagree are skipped."""
    # Here, because it brings torch along, which the check of a folder does without.
    from espnet_plugin.search.align.entries import entry_labels, frame_count

    try:
        alignment = read_integers(path)
    except ValueError as error:
        report.errors.append(str(error))
        return
    index = {token: n for n, token in enumerate(options.tokens or ())}
    for key in report.usable:
        if key not in alignment:
            report.skip(key, f"{path}: not there")
            continue
        entries = alignment[key]
        emitted, count = entry_labels(entries), frame_count(entries)
        problem = None
        if options.tokens is not None and not _in_range(emitted, 0, len(options.tokens)):
            problem = f"labels outside 0..{len(options.tokens) - 1}"
        elif options.topology == "monotonic" and count < len(entries):
            problem = "several labels on one frame, for which the monotonic topology has no path"
        elif labels is not None and index and emitted != _ids(labels.get(key, ()), index):
            problem = (
                f"{len(emitted)} labels that are not the {len(labels.get(key, ()))} of the "
                "transcript"
            )
        elif _wrong_length(count, frames.get(key)):
            problem = f"{count} frames, of {frames[key]} that the encoder makes"
        if problem:
            report.skip(key, f"{path}: {problem}; align again with this token list and model")


def _ids(tokens: Sequence[str], index: Mapping[str, int]) -> list[int]:
    return [index.get(token, index.get(UNKNOWN, -1)) for token in tokens]


def _in_range(values: Sequence[int], low: int, end: int) -> bool:
    return not values or (min(values) >= low and max(values) < end)


def _wrong_length(aligned: int, frames: int | None) -> bool:
    return frames is not None and abs(aligned - frames) > FRAME_TOLERANCE


def check_nbest(path: Path, options: CheckOptions, report: Report) -> None:
    """Check N-best lists (``N len_1 .. len_N tokens``) and, beside them, scores and risks."""
    try:
        nbest = read_integers(path)
        beside = {
            name: read_table(path.with_name(name))
            for name in ("nbest_lm", "nbest_risk")
            if path.with_name(name).is_file()
        }
    except ValueError as error:
        report.errors.append(str(error))
        return
    size = len(options.tokens) if options.tokens is not None else None
    for key in report.usable:
        problem = "not there" if key not in nbest else _nbest_problem(nbest[key], size)
        if problem is None:
            count = nbest[key][0]
            for name, table in beside.items():
                values = fields(table.get(key, ""))
                if len(values) != count:
                    problem = f"{count} hypotheses, but {len(values)} values in {name}"
        if problem:
            report.skip(key, f"{path}: {problem}; make the N-best lists again")


def _nbest_problem(values: Sequence[int], size: int | None) -> str | None:
    count = values[0] if values else 0
    lengths = values[1 : 1 + count]
    if count < 1 or len(lengths) < count or min(lengths) < 0:
        return "not N, N lengths and their tokens"
    tokens = values[1 + count :]
    if len(tokens) != sum(lengths):
        return f"{len(tokens)} tokens where the lengths say {sum(lengths)}"
    if size is not None and not _in_range(tokens, 1, size):
        return f"tokens outside 1..{size - 1}"
    return None
