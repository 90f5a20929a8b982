"""Can a model learn anything from N-best lists? Figures, a report, and a refusal.

Lists of one entry, or lists whose reference always has all the probability, have no gradient; lists
that never hold the reference come from a search or a language model that went wrong. The mbr
stage's loss shows none of it.

Shapes: N entries of a list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.kaldi_files import read_integers, read_table

#: Keys of the YAML's ``nbest`` section that are thresholds, and what each one bounds.
NBEST_LIMITS: Mapping[str, str] = {
    "min_entries": "entries",
    "min_first_share": "first_share",
    "max_first_share": "first_share",
    "max_forced_share": "forced_share",
    "max_oracle_risk": "oracle_risk",
    "min_expected_risk": "expected_risk",
    "max_skipped_share": "skipped_share",
}


@dataclass(frozen=True)
class _List:
    """One utterance's: labels of each entry, scores, risks, and where the reference was found."""

    sizes: Sequence[int]
    lm: Sequence[float]
    risks: Sequence[float]
    am: Sequence[float] | None
    rank: int | None

    @property
    def forced(self) -> bool:
        """Whether the search had no reference among its best, so that it was put last."""
        return self.rank is not None and not 1 <= self.rank <= len(self.sizes)

    @property
    def reference(self) -> int:
        """Place of the reference."""
        if self.rank is None:
            return list(self.risks).index(0.0) if 0.0 in self.risks else len(self.sizes) - 1
        return len(self.sizes) - 1 if self.forced else self.rank - 1

    @property
    def oracle(self) -> float:
        """Least risk among what the search found by itself."""
        found = [r for n, r in enumerate(self.risks) if not (self.forced and n == self.reference)]
        return min(found, default=float(self.sizes[self.reference]))

    def expected(self, scale: float) -> float:
        """Sum of p_n risk_n, p = softmax(scale (log P + LM)), what the mbr stage begins with."""
        assert self.am is not None
        scores = [scale * (am + lm) for am, lm in zip(self.am, self.lm, strict=True)]
        best = max(scores)
        weights = [math.exp(score - best) if math.isfinite(best) else 1.0 for score in scores]
        pairs = zip(weights, self.risks, strict=True)
        return sum(weight * risk for weight, risk in pairs) / sum(weights)


def assess_nbest(folder: Path, scale: float) -> dict[str, Any]:
    """Compute the figures of the lists in ``folder``, and write quality.json and quality.md.

    Args:
        folder: with ``nbest``, ``nbest_lm`` and ``nbest_risk``; lists of earlier versions have no
            ``nbest_am`` and ``nbest_rank``, and then not all figures.
        scale: of the scores in the mbr stage's softmax.

    Raises:
        ValueError: no lists, or a file is malformed.
    """
    lists = _read(folder)
    if not lists:
        raise ValueError(f"{folder / 'nbest'}: not one list; reasons in {folder / 'skipped'}")
    skipped = folder / "skipped"
    left_out = len(read_table(skipped, allow_empty=True)) if skipped.exists() else 0
    count, longest = len(lists), max(len(entry.sizes) for entry in lists)
    labels = max(1, sum(entry.sizes[entry.reference] for entry in lists))
    figures: dict[str, Any] = {
        "utterances": count,
        "skipped": left_out,
        "skipped_share": left_out / (count + left_out),
        "entries": sum(len(entry.sizes) for entry in lists) / count,
        "full_share": sum(len(entry.sizes) == longest for entry in lists) / count,
        "longest": longest,
        "labels": labels,
        "scale": scale,
    }
    if all(entry.rank is not None and entry.am is not None for entry in lists):
        figures |= {
            "first_share": sum(entry.rank == 1 for entry in lists) / count,
            "forced_share": sum(entry.forced for entry in lists) / count,
            "oracle_risk": sum(entry.oracle for entry in lists) / labels,
            "expected_risk": sum(entry.expected(scale) for entry in lists) / labels,
        }
    write_atomically(folder / "quality.json", json.dumps(figures, indent=2) + "\n")
    write_atomically(folder / "quality.md", _markdown(folder, figures))
    return figures


def _read(folder: Path) -> list[_List]:
    packed = read_integers(folder / "nbest")
    names = ("nbest_lm", "nbest_risk", "nbest_am", "nbest_rank")
    tables = {name: _floats(folder / name) for name in names}
    lists = []
    for key, row in packed.items():
        count = row[0]
        found = {name: table.get(key) for name, table in tables.items()}
        for name in ("nbest_lm", "nbest_risk", "nbest_am"):
            values = found[name]
            if values is None and name == "nbest_am":
                continue
            if values is None or len(values) != count:
                raise ValueError(
                    f"{folder / name}: utterance {key} has {len(values or ())} values for "
                    f"{count} hypotheses; make the lists again"
                )
        rank = found["nbest_rank"]
        lists.append(
            _List(
                row[1 : 1 + count],
                found["nbest_lm"] or (),
                found["nbest_risk"] or (),
                found["nbest_am"],
                None if rank is None else int(rank[0]),
            )
        )
    return lists


def _floats(path: Path) -> dict[str, list[float]]:
    if not path.exists():
        return {}
    return {key: [float(x) for x in value.split()] for key, value in read_table(path).items()}


def summary(figures: Mapping[str, Any]) -> str:
    """One line for the console."""
    text = f"{figures['utterances']} lists of {figures['entries']:.2f} entries, "
    text += f"{figures['skipped']} skipped"
    if "first_share" in figures:
        text += (
            f"; reference first {100 * figures['first_share']:.1f} %, forced in "
            f"{100 * figures['forced_share']:.1f} %, risk per label expected "
            f"{figures['expected_risk']:.4f}, oracle {figures['oracle_risk']:.4f}"
        )
    return text


def _markdown(folder: Path, figures: Mapping[str, Any]) -> str:
    rows = [
        ("utterances with a list", f"{figures['utterances']}"),
        ("utterances skipped", f"{figures['skipped']} ({100 * figures['skipped_share']:.2f} %)"),
        ("distinct entries of a list, mean", f"{figures['entries']:.2f}"),
        (f"lists of {figures['longest']} entries", f"{100 * figures['full_share']:.1f} %"),
        ("labels of the references", f"{figures['labels']}"),
    ]
    if "first_share" in figures:
        rows += [
            ("reference first", f"{100 * figures['first_share']:.1f} %"),
            ("reference forced in", f"{100 * figures['forced_share']:.1f} %"),
            ("oracle risk per label", f"{figures['oracle_risk']:.4f}"),
            (
                f"expected risk per label, scale {figures['scale']:g}",
                f"{figures['expected_risk']:.4f}",
            ),
        ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    head = [f"# Quality of the N-best lists of {folder}", "", "| figure | value |", "| --- | --- |"]
    return "\n".join([*head, *lines]) + "\n"
