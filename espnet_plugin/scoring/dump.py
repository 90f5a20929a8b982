"""Alignments and sums in the layout of NIST's sclite, which ESPnet's scripts read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.scoring.edit_distance import (
    DELETION,
    INSERTION,
    SUBSTITUTION,
    Counts,
    Steps,
)

_EVAL = {SUBSTITUTION: "S", DELETION: "D", INSERTION: "I"}
_COLUMNS = ("Corr", "Sub", "Del", "Ins", "Err", "S.Err")


def rates(counts: Counts) -> tuple[float, float, float, float, float, float]:
    """Correct, Sub, Del, Ins, Err and S.Err in per cent."""
    parts = (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
    correct, sub, deleted, inserted = (counts.percent(part) for part in parts)
    return correct, sub, deleted, inserted, counts.error_rate, counts.sentence_error_rate


def write_score_dir(
    folder: Path,
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    steps: Mapping[str, Steps],
    counts: Mapping[str, Counts],
    speakers: Mapping[str, str],
) -> None:
    """Write ``ref.trn``, ``hyp.trn`` and ``result.txt`` (sums by speaker, then every alignment).

    Args:
        speakers: utterance to speaker; may lack some or all.
    """
    for name, side in (("ref.trn", references), ("hyp.trn", hypotheses)):
        lines = [f"{' '.join(side[key])}\t({_trn_id(key, speakers)})\n" for key in references]
        write_atomically(folder / name, "".join(lines))
    parts = [_speaker_table(counts, speakers), "\n"]
    for key in references:
        parts.append(
            _aligned(
                _trn_id(key, speakers), references[key], hypotheses[key], steps[key], counts[key]
            )
        )
    write_atomically(folder / "result.txt", "".join(parts))


def _trn_id(utterance: str, speakers: Mapping[str, str]) -> str:
    # ESPnet's scripts write speaker-utterance
    return f"{speakers[utterance]}-{utterance}" if utterance in speakers else utterance


def _speaker_table(counts: Mapping[str, Counts], speakers: Mapping[str, str]) -> str:
    sums: dict[str, Counts] = {}
    for key, value in counts.items():
        speaker = speakers.get(key, "all")
        sums[speaker] = sums.get(speaker, Counts()) + value
    total = sum(counts.values(), Counts())
    width = max(len("Sum/Avg"), *(len(speaker) for speaker in sums))
    rule = "-" * (width + 65)
    titles = "".join(f"{title:>8}" for title in _COLUMNS)
    lines = [rule, f"| {'SPKR':<{width}} | {'# Snt':>6} {'# Wrd':>7} |{titles} |", rule]
    rows = [*sorted(sums.items()), ("Sum/Avg", total)]
    for name, value in rows:
        numbers = "".join(f"{rate:>8.1f}" for rate in rates(value))
        row = f"| {name:<{width}} | {value.sentences:>6} {value.tokens:>7} |{numbers} |"
        lines += [rule, row] if name == "Sum/Avg" else [row]
    return "\n".join([*lines, rule]) + "\n"


def _aligned(
    name: str, reference: Sequence[str], hypothesis: Sequence[str], steps: Steps, counts: Counts
) -> str:
    rows: tuple[list[str], list[str], list[str]] = ([], [], [])
    i = j = 0
    for step in steps.tolist():
        left = "" if step == INSERTION else reference[i]
        right = "" if step == DELETION else hypothesis[j]
        i += step != INSERTION
        j += step != DELETION
        width = max(len(left), len(right), 1)
        for row, cell in zip(rows, (left, right), strict=False):
            row.append(cell.ljust(width) if cell else "*" * width)
        rows[2].append(_EVAL.get(step, "").ljust(width))
    lines = (
        f"{head} {' '.join(row)}"
        for head, row in zip(("REF: ", "HYP: ", "Eval:"), rows, strict=True)
    )
    scores = (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
    body = "\n".join(line.rstrip() for line in lines)
    return f"id: ({name})\nScores: (#C #S #D #I) {' '.join(map(str, scores))}\n{body}\n\n"
