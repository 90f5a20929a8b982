"""The pipeline YAML of a training, made from a recipe's own; and what decides its result."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.study.units import ROOT, Study, Unit
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.plan.config import PipelineConfig, deep_merge, load_pipeline_config

#: Limits of a pipeline's `alignment` that refuse none, for aligners that are poor on purpose.
ANY_ALIGNMENT = {"min_score_per_frame": -1e6, "max_label_share": 1.0}
#: What same_code.py has found.
NOTES = Path(__file__).parent / "same_code.json"


def pipeline_yaml(study: Study, unit: Unit) -> dict[str, Any]:
    """What differs from the recipe's YAML, which the result extends.

    Raises:
        ValueError: the recipe's YAML cannot be read, or a stage has no max_epoch to scale.
    """
    arm = study.arm(unit.arm)
    parent = study.recipe(unit.corpus) / str(arm["config"])
    merged: dict[str, Any] = {"extends": str(parent), **study.change(unit)}
    if arm.get("stages"):
        merged = deep_merge(merged, {"stage_scheduler_conf": {"stages": arm["stages"]}})
    stages = planned_stages(study, unit)
    merged = deep_merge(merged, {"train_stages": {k: {"max_epoch": v} for k, v in stages.items()}})
    if arm.get("codes"):
        options = {"accelerators": {"repa": {"codes": str(study.codes(unit))}}}
        taught = [k for k in stages if _is_taught(merged["train_stages"][k])]
        merged = deep_merge(merged, {"train_stages": dict.fromkeys(taught, options)})
    source, start = study.source(unit), arm.get("start")
    if source is not None and start:
        init: dict[str, Any] = {"model": str(study.experiment(source) / start["stage"])}
        if start.get("parts"):
            init["parts"] = list(start["parts"])
        first = next(iter(stages))
        merged = deep_merge(merged, {"train_stages": {first: {"init_from": init}}})
    return merged


def _is_taught(section: Mapping[str, Any]) -> bool:
    return bool((section.get("accelerators") or {}).get("repa"))


def planned_stages(study: Study, unit: Unit) -> dict[str, int]:
    """Train stages in their order and the epochs that this budget gives them.

    Raises:
        ValueError: see `pipeline_yaml`.
    """
    arm, corpus = study.arm(unit.arm), study.corpus(unit.corpus)
    parent = study.recipe(unit.corpus) / str(arm["config"])
    config = load_configuration(study, unit, parent)
    own = (arm.get("change") or {}).get("train_stages") or {}
    known = {
        **config.train_stages,
        **{k: v for k, v in own.items() if k not in config.train_stages},
    }
    names = arm.get("stages") or config.stage_scheduler_conf.get("stages") or list(known)
    full = {**(arm.get("epochs") or {}), **((corpus.get("epochs") or {}).get(unit.arm) or {})}
    epochs = {}
    for name in names:
        if name not in known:
            raise ValueError(f"{study.path}: arms.{unit.arm}: {parent} has no stage {name}")
        count = full.get(name, known[name].get("max_epoch"))
        if count is None:
            raise ValueError(
                f"{parent}: stage {name} has no max_epoch, which a budget of the study scales; "
                f"give it, or arms.{unit.arm}.epochs.{name} in {study.path}"
            )
        epochs[name] = max(1, round(float(count) * unit.budget))
    return epochs


def write_configuration(study: Study, unit: Unit) -> Path:
    """Leave the unit's YAML where its training reads it."""
    path = study.folder(unit.corpus) / "study" / f"{unit.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(pipeline_yaml(study, unit), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, f"{text}")
    return path


def configuration_hash(study: Study, unit: Unit, path: Path) -> str:
    """Of all options of a training, whatever files they stand in.

    Raises:
        ValueError: one of the files cannot be read.
    """
    config = load_configuration(study, unit, path)
    options = [
        config.stage_scheduler, config.stage_scheduler_conf, config.train_stages,
        config.alignment, config.nbest, config.imports,
        study.corpus(unit.corpus)["labels"][unit.labels].get("options"),
    ]  # fmt: skip
    text = json.dumps(options, default=str, sort_keys=True).replace(str(study.work), "")
    if study.arm(unit.arm).get("codes"):
        text += json.dumps(study.arm(unit.arm)["codes"], sort_keys=True)
    source = study.source(unit)
    if source is not None:
        text += configuration_hash(study, source, write_configuration(study, source))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_configuration(study: Study, unit: Unit, path: Path) -> PipelineConfig:
    """A pipeline YAML as the recipe reads it, whose paths are relative to its folder."""
    with contextlib.chdir(study.recipe(unit.corpus)):
        return load_pipeline_config(path)


def training_code_hash(patterns: Iterable[str], root: Path = ROOT) -> str:
    """Of the code that decides what a training gives, without comments and docstrings.

    Raises:
        ValueError: a pattern that no file matches.
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        files = sorted(root.glob(pattern))
        if not files:
            raise ValueError(f"training_code: no file of {root} matches {pattern}")
        for path in files:
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(_meaning(path).encode())
    return digest.hexdigest()[:12]


def read_notes(notes: Path = NOTES) -> list[dict[str, Any]]:
    """What same_code.py has found so far."""
    found: list[dict[str, Any]] = []
    if notes.is_file():
        found = json.loads(notes.read_text(encoding="utf-8"))
    return found


def equal_codes(code: str, notes: Path = NOTES) -> set[str]:
    """Hashes of training code shown (same_code.py) to train the same, this one included."""
    pairs = [set(row["codes"]) for row in read_notes(notes) if not row["difference"]]
    found: set[str] = {code}
    before: set[str] = set()
    while found != before:
        before = set(found)
        found = found.union(*(pair for pair in pairs if pair & found))
    return found


def _meaning(path: Path) -> str:
    """The syntax tree of a Python file without docstrings; of others, the text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.unparse(tree)  # ast.dump is another one in every version of Python
