"""Scales for the decoding, tuned on the validation set with each train stage's own model.

``scales/<stage>_<tag>/``: the validation set's N-best lists, made with moderate scales, the grid of
error rates, and ``decode.yaml``, which the decoding of all sets then takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.lm_spec import lm_options, lm_specs
from espnet_plugin.stages.config import read_yaml
from espnet_plugin.stages.decoding import Decoding, decode
from espnet_plugin.stages.pipeline import Pipeline

#: What lists for tuning are made with, where the YAML does not say more.
LIST_SIZE = 20
ILM_SCALE = 0.1


def tuned_configs(
    pipeline: Pipeline,
    stages: Sequence[str],
    data: Path,
    config: Path | None,
    tag: str,
    overrides: Mapping[str, Any],
    grids: Mapping[str, Sequence[float]],
) -> dict[str, Path | None]:
    """Decoding YAML with tuned scales, for each train stage.

    An aligner decodes without language models and keeps ``config``.

    Args:
        data: the validation set.
        overrides: options of decode that go before the YAML's (the language models).
        grids: ``lm_grid`` and ``ilm_grid`` of `tune_scales`.

    Raises:
        ValueError: bad options or files.
        ChildFailed: a job failed.
    """
    base = {**(read_yaml(config) if config else {}), **overrides}
    lists = [
        Decoding(stage, data, config, tag, {**overrides, **_for_lists(base, grids)}, "scales")
        for stage in stages
        if pipeline.stages[stage].loss != "ctc"
    ]
    if base.get("search", "beam") not in ("beam", "lexicon"):
        raise ValueError(f"search {base['search']} has no scales to tune; use beam or lexicon")
    decode(pipeline, lists)
    chosen: dict[str, Path | None] = dict.fromkeys(stages, config)
    for made in lists:
        chosen[made.stage] = _choose(pipeline, made, base, grids)
    return chosen


def _for_lists(base: Mapping[str, Any], grids: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    ilm = base.get("ilm_scale")
    if not any(grids["ilm_grid"]):
        ilm = 0.0
    return {
        "nbest": max(LIST_SIZE, int(base.get("nbest", 1))),
        "beam_size": max(LIST_SIZE, int(base.get("beam_size", 8))),
        "ilm_scale": ILM_SCALE if ilm is None else ilm,
        "word_times": "none",
    }


def _choose(
    pipeline: Pipeline,
    made: Decoding,
    base: Mapping[str, Any],
    grids: Mapping[str, Sequence[float]],
) -> Path:
    """Write decode.yaml for one stage, unless its lists have one of the same grids already."""
    from espnet_plugin.scoring.tune_scales import tune_scales

    folder = pipeline.exp / made.folder
    target = folder.parent
    path, note = target / "decode.yaml", target / "grids.json"
    mark = json.dumps({name: list(values) for name, values in grids.items()}) + "\n"
    fresh = path.is_file() and path.stat().st_mtime >= (folder / "text").stat().st_mtime
    if fresh and note.is_file() and note.read_text(encoding="utf-8") == mark:
        return path
    known = {**base, **lm_options(lm_specs(base))}
    chosen = tune_scales(folder, made.data / "text", target, base=known, **grids)
    write_atomically(note, mark)
    scales = {name: chosen[name] for name in ("lm", "ilm_scale") if name in chosen}
    pipeline.show(f"{made.stage:<10} scales tuned on {made.data.name}: {scales}")
    return path
