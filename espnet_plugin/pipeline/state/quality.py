"""Is an alignment good enough to train on? Figures, a report, and a refusal.

An aligner stopped early spoils the whole Viterbi stage, and nothing in that stage's loss shows
it, so the figures are checked before the stage starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.kaldi_files import read_integers, read_table

#: Keys of the YAML's ``alignment`` section that are thresholds, and what each one bounds.
LIMITS: Mapping[str, str] = {
    "min_score_per_frame": "score_per_frame",
    "max_label_share": "label_share",
    "min_label_share": "label_share",
    "max_skipped_share": "skipped_share",
    "max_mean_shift": "mean_shift",
}


def assess_alignment(folder: Path, other: Path | None = None) -> dict[str, Any]:
    """Compute the figures of ``folder/alignment`` and write quality.json and quality.md.

    Args:
        folder: with ``alignment`` and, where known, ``score`` (per frame) and ``skipped``.
        other: another alignment's folder, to measure the shift of labels against it.

    Raises:
        ValueError: no utterance could be aligned, or a file is malformed.
    """
    # Here, because it brings torch along, which the command lines need not wait for.
    from espnet_plugin.search.align.alignment_quality import alignment_quality

    table = read_table(folder / "alignment", allow_empty=True)
    skipped = _optional(folder / "skipped")
    if not table:
        raise ValueError(
            f"{folder / 'alignment'}: not one utterance could be aligned; reasons in "
            f"{folder / 'skipped'}"
        )
    alignment = read_integers(folder / "alignment")
    keys = list(alignment)
    quality = alignment_quality([alignment[k] for k in keys], _scores(folder, alignment, keys))
    figures: dict[str, Any] = {
        **asdict(quality),
        "skipped": len(skipped),
        "skipped_share": len(skipped) / (len(skipped) + len(keys)),
    }
    if other is not None:
        figures.update(_shift(alignment, other))
    write_atomically(folder / "quality.json", json.dumps(figures, indent=2) + "\n")
    write_atomically(folder / "quality.md", _markdown(folder, figures))
    return figures


def check_limits(place: str, limits: Mapping[str, Any], known: Mapping[str, str] = LIMITS) -> None:
    """Before hours of training end at a comparison that cannot be made.

    Raises:
        ValueError: a threshold of the section is no number.
    """
    for key in known:
        limit = limits.get(key)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise ValueError(f"{place}.{key}: must be a number such as -0.5, got {limit!r}")


def broken_limits(
    figures: Mapping[str, Any], limits: Mapping[str, Any], known: Mapping[str, str] = LIMITS
) -> list[str]:
    """One sentence per threshold of ``limits`` that the figures break.

    Args:
        known: thresholds there are, and the figure that each one bounds.
    """
    problems = []
    for key, name in known.items():
        limit, value = limits.get(key), figures.get(name)
        if limit is None or value is None:
            continue
        if value < limit if key.startswith("min") else value > limit:
            relation = "below" if key.startswith("min") else "above"
            problems.append(f"{name} {value:.3f} is {relation} {key} {limit}")
    return problems


def _scores(
    folder: Path, alignment: Mapping[str, list[int]], keys: list[str]
) -> list[float] | None:
    table = _optional(folder / "score")
    if not table:
        return None
    missing = [key for key in keys if key not in table]
    if missing:
        raise ValueError(f"{folder / 'score'}: no score for utterance {missing[0]}")
    from espnet_plugin.search.align.entries import frame_count

    return [float(table[key]) * frame_count(alignment[key]) for key in keys]


def _shift(alignment: Mapping[str, list[int]], other: Path) -> dict[str, Any]:
    from espnet_plugin.search.align.alignment_quality import alignment_quality

    reference = read_integers(other / "alignment")
    common = [key for key in alignment if key in reference]
    quality = alignment_quality(
        [alignment[k] for k in common], other=[reference[k] for k in common]
    )
    return {"mean_shift": quality.mean_shift, "within": quality.within, "against": str(other)}


def _optional(path: Path) -> dict[str, str]:
    return read_table(path, allow_empty=True) if path.exists() else {}


def _markdown(folder: Path, figures: Mapping[str, Any]) -> str:
    rows = [
        ("utterances aligned", f"{figures['utterances']}"),
        ("utterances skipped", f"{figures['skipped']} ({100 * figures['skipped_share']:.2f} %)"),
        ("encoder frames", f"{figures['frames']}"),
        ("labels", f"{figures['labels']}"),
        ("labels per frame", f"{100 * figures['label_share']:.1f} %"),
    ]
    if figures.get("score_per_frame") is not None:
        rows.append(("log score per frame", f"{figures['score_per_frame']:.3f}"))
    if figures.get("mean_shift") is not None:
        rows.append(
            (
                f"mean shift of a label against {figures['against']}",
                f"{figures['mean_shift']:.2f} frames",
            )
        )
        rows.append(
            (f"labels within {figures['tolerance']} frames", f"{100 * figures['within']:.1f} %")
        )
    lines = [f"| {name} | {value} |" for name, value in rows]
    head = [f"# Alignment quality of {folder}", "", "| figure | value |", "| --- | --- |"]
    return "\n".join([*head, *lines]) + "\n"
