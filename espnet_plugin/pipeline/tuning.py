"""Scales for the decoding, tuned on the validation set with each train stage's own model.

``scales/<stage>_<tag>/``: the validation set's N-best lists, made with moderate scales, the grid of
error rates, and ``decode.yaml``, which the decoding of all sets then takes. A second pass,
``scales/<stage>_<tag>_pass2/``, makes lists with the scales that the first has chosen, and chooses
from both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.lm_spec import lm_options, lm_specs
from espnet_plugin.pipeline.decoding import Decoding, decode
from espnet_plugin.pipeline.pipeline import Pipeline
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.scoring.tune_scales import same_scales, tune_scales

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
    passes: int = 1,
) -> dict[str, Path | None]:
    """Decoding YAML with tuned scales, for each train stage.

    An aligner decodes without language models and keeps ``config``.

    Args:
        data: the validation set.
        overrides: options of decode that go before the YAML's (the language models).
        grids: ``lm_grid`` and ``ilm_grid`` of `tune_scales`.
        passes: lists made at most; fewer if the scales stay as they were.

    Raises:
        ValueError: bad options or files.
        ChildFailed: a job failed.
    """
    if passes < 1:
        raise ValueError(f"tune_passes must be at least 1, got {passes}")
    base = {**(read_yaml(config) if config else {}), **overrides}
    if base.get("search", "beam") not in ("beam", "lexicon"):
        raise ValueError(f"search {base['search']} has no scales to tune; use beam or lexicon")
    chosen: dict[str, Path | None] = dict.fromkeys(stages, config)
    made: dict[str, list[Decoding]] = {
        stage: [] for stage in stages if pipeline.stages[stage].loss != "ctc"
    }
    todo = {s: Decoding(s, data, config, tag, dict(overrides), "scales") for s in made}
    for number in range(1, passes + 1):
        if not todo:
            break
        for stage, lists in todo.items():
            more = _for_lists(lists.options, grids)
            made[stage].append(replace(lists, overrides={**lists.overrides, **more}))
        decode(pipeline, [made[stage][-1] for stage in todo])
        for stage in list(todo):
            chosen[stage] = path = _choose(pipeline, made[stage], base, grids)
            if same_scales(read_yaml(path), made[stage][-1].options):
                del todo[stage]
            else:  # the next pass takes everything from the chosen YAML
                name = f"{tag}_pass{number + 1}"
                todo[stage] = Decoding(stage, data, path, name, {}, "scales")
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
    passes: Sequence[Decoding],
    base: Mapping[str, Any],
    grids: Mapping[str, Sequence[float]],
) -> Path:
    """Write decode.yaml beside a stage's last lists, unless it is there for the same options.

    The lists alone would not tell: they are searched with more than these options ask for.
    """
    made, lists = passes[-1], [pipeline.exp / done.folder for done in passes]
    target = lists[-1].parent
    path, note = target / "decode.yaml", target / "grids.json"
    made_for = {**{name: list(values) for name, values in grids.items()}, "options": dict(base)}
    mark = json.dumps(made_for, default=str, sort_keys=True) + "\n"
    newest = max((folder / "text").stat().st_mtime for folder in lists)
    fresh = path.is_file() and path.stat().st_mtime >= newest
    if fresh and note.is_file() and note.read_text(encoding="utf-8") == mark:
        return path
    note.unlink(missing_ok=True)  # what a kill leaves is then nobody's
    known = {**base, **lm_options(lm_specs(base))}
    chosen = tune_scales(lists, made.data / "text", target, base=known, **grids)
    write_atomically(note, mark)
    scales = {name: chosen[name] for name in ("lm", "ilm_scale") if name in chosen}
    pipeline.show(f"{made.stage:<10} scales tuned on {made.data.name}: {scales}")
    return path
