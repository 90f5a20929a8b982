"""Language-model scales from N-best lists of a development set, and the decoding YAML with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.lm_spec import LmSpec, lm_options, lm_specs
from espnet_plugin.data.nbest_lists import read_pooled, read_settings

if TYPE_CHECKING:  # torch is only imported where a grid is searched
    from espnet_plugin.search import ScalePoint

LM_GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
ILM_GRID = (0.0, 0.1, 0.2, 0.3, 0.4)
MAX_POINTS = 100_000


def tune_scales(
    lists: Sequence[Path],
    text: Path,
    target: Path,
    *,
    lm_grid: Sequence[float] = LM_GRID,
    ilm_grid: Sequence[float] = ILM_GRID,
    base: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``grid.md``, ``scales.json`` and ``decode.yaml`` into ``target``.

    Of scales with the same error rate, those nearest to the last lists' own are taken.

    Args:
        lists: folders with N-best lists of a development set (`decode` or `rescore`), made with
            the same models; the hypotheses of all are sorted together.
        text: its transcripts.
        lm_grid: scales to try for each language model.
        ilm_grid: scales to try for the internal one, if the lists have its scores.
        base: options of ``decode.yaml`` besides the scales; by default those of the search.

    Returns:
        The options of ``decode.yaml``.

    Raises:
        ValueError: broken or missing files, lists of other models, or a grid that is too large.
    """
    settings = _settings(lists)
    specs = lm_specs(settings)
    with_ilm = settings.get("ilm_scale") is not None
    ilm = sorted(ilm_grid) if with_ilm else [0.0]
    size = len(lm_grid) ** len(specs) * len(ilm)
    if size > MAX_POINTS:
        raise ValueError(f"the grid has {size} points; give fewer values with --lm_grid")
    points, utterances = _points(lists, text, settings, [sorted(lm_grid)] * len(specs), ilm)
    made = [*(spec.scale or 0.0 for spec in specs), settings.get("ilm_scale") or 0.0]
    # Lists hold what a search with their own scales found: of equal points, the nearest to those.
    points.sort(key=lambda p: (p.rate, math.dist([*p.lm_scales, p.ilm_scale], made)))
    best = points[0]
    chosen = dict(base if base is not None else settings)
    if base is None:  # the lists' own length, and what they left out to be quick
        chosen = {k: v for k, v in chosen.items() if k not in ("nbest", "word_times")}
    chosen |= lm_options([s.with_scale(v) for s, v in zip(specs, best.lm_scales, strict=True)])
    if with_ilm:
        chosen["ilm_scale"] = best.ilm_scale
    scales = {"lm": list(best.lm_scales), "ilm": best.ilm_scale if with_ilm else None}
    summary = {"scales": scales, "wer": best.rate, "utterances": utterances}
    summary["lists"] = [str(folder) for folder in lists]
    rows = [(*p.lm_scales, p.ilm_scale if with_ilm else "-", f"{100 * p.rate:.2f}") for p in points]
    write_atomically(target / "grid.md", _table(specs, rows, text))
    write_atomically(target / "scales.json", json.dumps(summary, indent=1) + "\n")
    title = f"# Scales tuned on {text}; WER of its N-best lists {100 * best.rate:.2f} %.\n"
    text_of = yaml.safe_dump({k: v for k, v in chosen.items() if v is not None}, sort_keys=False)
    write_atomically(target / "decode.yaml", title + text_of)
    return chosen


def same_scales(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two sets of decode's options have the same language models and scales."""
    models = [[(s.kind, s.path, s.scale) for s in lm_specs(options)] for options in (first, second)]
    return models[0] == models[1] and first.get("ilm_scale") == second.get("ilm_scale")


def _settings(lists: Sequence[Path]) -> dict[str, Any]:
    """Options of the last lists' search, whose models must be those of all."""
    all_settings = [read_settings(folder) for folder in lists]
    models = [
        ([(s.kind, s.path) for s in lm_specs(settings)], settings.get("ilm_scale") is not None)
        for settings in all_settings
    ]
    for folder, found in zip(lists, models, strict=True):
        if found != models[-1]:
            raise ValueError(
                f"{folder}: made with other language models than {lists[-1]}, or only one of them "
                "has scores of an internal one; their hypotheses cannot be compared"
            )
    return all_settings[-1]


def _points(
    lists: Sequence[Path],
    text: Path,
    settings: Mapping[str, Any],
    lm_grid: Sequence[Sequence[float]],
    ilm_grid: Sequence[float],
) -> tuple[list[ScalePoint], int]:
    """Every point of the grid, the best first, and the number of utterances."""
    from espnet_plugin.search import Hypothesis, search_scales

    entries, references = read_pooled(lists), read_table(text)
    lost = sorted(entries.keys() - references.keys())
    if lost:
        raise ValueError(f"{text}: lacks utterances of {lists[0]}: {some(lost)}")
    nbest = [
        [Hypothesis((), e.score, e.am, e.ilm, e.lms, words=e.words,
                    pronunciation_score=e.pronunciation) for e in found]
        for found in entries.values()
    ]  # fmt: skip
    points = search_scales(
        nbest,
        [fields(references[utt]) for utt in entries],
        lm_grid,
        ilm_grid,
        units=lambda h: h.words,
        pronunciation_scale=float(settings.get("pronunciation_scale", 0.0)),
    )
    return points, len(nbest)


def _table(specs: Sequence[LmSpec], rows: Sequence[Sequence[object]], text: Path) -> str:
    names = [f"{spec.kind}:{spec.path.name}" for spec in specs]
    head = f"| {' | '.join([*names, 'ILM', 'WER'])} |\n| {' | '.join(['---'] * (len(names) + 2))} |"
    body = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
    return f"Scales and WER on the N-best lists of {text}, the best first.\n\n{head}\n{body}\n"
