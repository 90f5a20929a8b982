"""The jobs between train stages: forced alignment and N-best lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.launch.commands import (
    ALIGNMENT_FILES as ALIGNMENT,
)
from espnet_plugin.pipeline.launch.commands import (
    NBEST_FILES,
    NBEST_TYPES,
    aligned_keys,
    job_arguments,
)
from espnet_plugin.pipeline.launch.jobs import make_job, run_jobs
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.inputs import filter_shapes, merge_tables
from espnet_plugin.pipeline.plan.list_settings import list_scale, list_settings
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.realign import entry_after, is_realignment
from espnet_plugin.pipeline.plan.stage_plan import Step, TrainStage
from espnet_plugin.pipeline.state.nbest_quality import NBEST_LIMITS, assess_nbest, summary
from espnet_plugin.pipeline.state.quality import assess_alignment, broken_limits, check_limits
from espnet_plugin.pipeline.steps.label_prior import estimate_prior
from espnet_plugin.pipeline.steps.variants import report_variants

__all__ = ["ALIGNMENT", "NBEST", "make_alignment", "make_nbest"]

#: Files of finished lists without which they cannot be trained on.
NBEST = tuple(NBEST_TYPES)

Tick = Callable[[], None]
Show = Callable[[str], None]


def make_alignment(
    step: Step,
    config: PipelineConfig,
    options: RunOptions,
    model: Path | None,
    tick: Tick,
    show: Show,
) -> None:
    """Align training and validation data, judge the result, and prepare it for training.

    Args:
        model: the aligner's checkpoint; None takes ``alignment.from_file``.

    Raises:
        ValueError: the alignment breaks a limit of the YAML and is not forced.
        ChildFailed: an alignment job failed.
    """
    folder = options.exp / step.folder
    settings = _settings(step, config)
    if not ((folder / "done").exists() and (folder / ALIGNMENT[0]).exists()):
        if model is None:
            _import(Path(config.alignment["from_file"]), options, folder)
        else:
            _align(step, settings, options, model, tick, show)
        (folder / "done").touch()
    figures = assess_alignment(folder, _alignment_before(step, options))
    if chooses_variants(step, config):
        show(f"{step.folder:<10} {report_variants(folder)}")
    keep = aligned_keys(folder, "alignment")
    for part in ("train", "valid"):
        filter_shapes(options.shape_files(part), keep, folder / "shape" / part)
    score = figures.get("score_per_frame")
    show(
        f"{step.folder:<10} {figures['utterances']} aligned, {figures['skipped']} skipped, "
        f"label share {figures['label_share']:.3f}"
        + (f", score per frame {score:.3f}" if score is not None else "")
    )
    _refuse_broken(folder, broken_limits(figures, settings), options, show)


def _alignment_before(step: Step, options: RunOptions) -> Path | None:
    """The alignment that a re-alignment is compared with."""
    jobs = [name.removeprefix("job:") for name in step.upstream if name.startswith("job:")]
    if not is_realignment(step.folder) or not jobs:
        return None
    folder = options.exp / jobs[0]
    return folder if (folder / "alignment").exists() else None


def judge_data(
    step: Step,
    config: PipelineConfig,
    stages: Mapping[str, TrainStage],
    options: RunOptions,
    show: Show,
) -> None:
    """Hold a finished alignment, or finished lists, against the limits of the present YAML.

    Raises:
        ValueError: they break one and are not forced.
    """
    folder = options.exp / step.folder
    path = folder / "quality.json"
    figures = json.loads(path.read_text()) if path.exists() else None
    if step.kind == "alignment":
        figures = figures or assess_alignment(folder, _alignment_before(step, options))
        _refuse_broken(folder, broken_limits(figures, _settings(step, config)), options, show)
    else:
        figures = figures or assess_nbest(folder, list_scale(step, stages, options))
        _refuse_lists(folder, figures, config, options, show)


def job_checks(
    steps: Iterable[Step],
    config: PipelineConfig,
    stages: Mapping[str, TrainStage],
    options: RunOptions,
) -> dict[str, list[str]]:
    """``job:<folder>`` -> its program and arguments, for a check of them before anything runs.

    Raises:
        ValueError: a limit that is no number.
    """
    found = {}
    for step in steps:
        if step.kind == "train":
            continue
        if step.kind == "alignment":
            name, settings = "align", _settings(step, config)
            check_limits(f"{config.path}: alignment", settings)
        else:
            name, settings = "nbest", list_settings(step, config, stages, options)
            check_limits(f"{config.path}: nbest", config.nbest, NBEST_LIMITS)
        model = options.exp / str(step.stage) / "model.pth"
        arguments = job_arguments(options, model, options.train_data, settings, "keys", "output")
        found[step.name] = [name, *arguments]
    return found


def chooses_variants(step: Step, config: PipelineConfig) -> bool:
    """Whether an alignment chooses among the pronunciations of each word."""
    return bool(config.alignment.get("variants")) and not is_realignment(step.folder)


def _settings(step: Step, config: PipelineConfig) -> dict[str, Any]:
    """The YAML's alignment section, as it applies to this step."""
    settings = dict(config.alignment)
    if not is_realignment(step.folder):
        return settings
    settings.pop("variants", None)  # chosen already
    entry = entry_after(config.alignment, step.stage) or {}
    return {**settings, "source": "transducer", **{k: v for k, v in entry.items() if k != "after"}}


def make_nbest(
    step: Step,
    config: PipelineConfig,
    stages: Mapping[str, TrainStage],
    options: RunOptions,
    model: Path,
    tick: Tick,
    show: Show,
) -> None:
    """Make N-best lists of the training data, judge them, and prepare them for training.

    Raises:
        ValueError: the lists do not cover the data, or break a limit of the YAML.
        ChildFailed: a job failed.
    """
    folder = options.exp / step.folder
    settings = list_settings(step, config, stages, options)
    text = options.train_data / "text"
    keys = list(read_table(text))
    if step.labels_step is not None:
        text = options.exp / "alignment" / "text"
        known = read_table(text)
        keys = [key for key in keys if key in known]

    def command(key_file: str, output: str) -> list[str]:
        data = options.train_data
        return job_arguments(options, model, data, settings, key_file, output, text)

    job = make_job(step.folder, folder, keys, "nbest", command, NBEST_FILES, options, settings)
    run_jobs([job], options.inference_nj, tick, show)
    figures = assess_nbest(folder, list_scale(step, stages, options))
    keep = aligned_keys(folder, "nbest")
    filter_shapes(options.shape_files("train"), keep, folder / "shape" / "train")
    show(f"{step.folder:<10} {summary(figures)}")
    _refuse_lists(folder, figures, config, options, show)


def _align(
    step: Step, settings: dict[str, Any], options: RunOptions, model: Path, tick: Tick, show: Show
) -> None:
    folder = options.exp / step.folder
    data = folder / "data"
    sets = (options.train_data, options.valid_data)
    texts = [d / "text" for d in sets]
    if is_realignment(step.folder) and step.labels_step is not None:
        texts = [options.exp / "alignment" / "text"]
    keys = merge_tables(texts, data / "text")
    merge_tables([d / options.scp for d in sets], data / options.scp)
    if settings.get("source", "encoder") == "encoder" and float(settings.get("prior_scale", 0)):
        settings["prior_file"] = str(
            estimate_prior(folder, settings, options, model, data, tick, show)
        )
    else:
        settings["prior_scale"] = 0  # said aloud: the program's own default is the paper's

    def command(key_file: str, output: str) -> list[str]:
        return job_arguments(options, model, data, settings, key_file, output)

    files = (*ALIGNMENT, "text") if settings.get("variants") else ALIGNMENT
    job = make_job(step.folder, folder, keys, "align", command, files, options, settings)
    run_jobs([job], options.inference_nj, tick, show)


def _import(source: Path, options: RunOptions, folder: Path) -> None:
    """Take an alignment made elsewhere; utterances it lacks are skipped."""
    table = read_table(source)
    wanted = [k for d in (options.train_data, options.valid_data) for k in read_table(d / "text")]
    missing = sorted(set(wanted) - set(table))
    lines = "".join(f"{k} {table[k]}\n" for k in sorted(set(wanted) & set(table)))
    write_atomically(folder / "skipped", "".join(f"{k} not in {source}\n" for k in missing))
    write_atomically(folder / "alignment", lines)


def _refuse_broken(folder: Path, problems: list[str], options: RunOptions, show: Show) -> None:
    if not problems:
        return
    text = "; ".join(problems)
    if _forced(folder, text, "alignment", options.force_alignment, show):
        return
    raise ValueError(
        f"{folder / 'alignment'} is plainly broken: {text}. Report: {folder / 'quality.md'}. Train "
        "the aligner longer, change the limits under alignment: in the YAML, or give "
        "--force_alignment true"
    )


def _refuse_lists(
    folder: Path,
    figures: Mapping[str, Any],
    config: PipelineConfig,
    options: RunOptions,
    show: Show,
) -> None:
    problems = broken_limits(figures, config.nbest, NBEST_LIMITS)
    text = "; ".join(problems)
    if not problems or _forced(folder, text, "nbest", options.force_nbest, show):
        return
    raise ValueError(
        f"{folder / 'nbest'}: nothing is to be learned from these lists: {text}. Report: "
        f"{folder / 'quality.md'}. Make them otherwise (beam, language model, list_size), change "
        "the limits under nbest: in the YAML, or give --force_nbest true"
    )


def _forced(folder: Path, text: str, name: str, forced: bool, show: Show) -> bool:
    if forced:
        show(f"{folder.name:<10} {text}; going on, as --force_{name} says")
    return forced
