"""The jobs between train stages: forced alignment and N-best lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.launch.commands import (
    ALIGNMENT_FILES as ALIGNMENT,
)
from espnet_plugin.pipeline.launch.commands import (
    NBEST_FILES as NBEST,
)
from espnet_plugin.pipeline.launch.commands import aligned_keys, job_arguments, program
from espnet_plugin.pipeline.launch.jobs import make_job, run_jobs
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.inputs import filter_shapes, merge_tables
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import Step
from espnet_plugin.pipeline.state.quality import assess_alignment, broken_limits
from espnet_plugin.pipeline.steps.variants import report_variants

__all__ = ["ALIGNMENT", "NBEST", "make_alignment", "make_nbest"]

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
    again = _is_realignment(step)
    if not ((folder / "done").exists() and (folder / ALIGNMENT[0]).exists()):
        if model is None:
            _import(Path(config.alignment["from_file"]), options, folder)
        else:
            _align(step, settings, options, model, tick, show)
        (folder / "done").touch()
    first = options.exp / "alignment"
    against = first if again and (first / "alignment").exists() else None
    figures = assess_alignment(folder, against)
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


def judge_alignment(step: Step, config: PipelineConfig, options: RunOptions, show: Show) -> None:
    """Hold a finished alignment against the limits of the present YAML.

    Raises:
        ValueError: it breaks one and is not forced.
    """
    folder = options.exp / step.folder
    path = folder / "quality.json"
    figures = json.loads(path.read_text()) if path.exists() else assess_alignment(folder)
    _refuse_broken(folder, broken_limits(figures, _settings(step, config)), options, show)


def job_checks(
    steps: Iterable[Step], config: PipelineConfig, options: RunOptions
) -> dict[str, list[str]]:
    """``job:<folder>`` -> its program and arguments, for a check of them before anything runs."""
    found = {}
    for step in steps:
        if step.kind == "train" or (step.kind == "alignment" and step.stage is None):
            continue
        name = "align" if step.kind == "alignment" else "nbest"
        settings = _settings(step, config) if name == "align" else config.nbest
        model = options.exp / str(step.stage) / "model.pth"
        arguments = job_arguments(options, model, options.train_data, settings, "keys", "output")
        found[step.name] = [name, *arguments]
    return found


def _is_realignment(step: Step) -> bool:
    return step.name == "job:realignment"


def chooses_variants(step: Step, config: PipelineConfig) -> bool:
    """Whether an alignment chooses among the pronunciations of each word."""
    return bool(config.alignment.get("variants")) and not _is_realignment(step)


def _settings(step: Step, config: PipelineConfig) -> dict[str, Any]:
    """The YAML's alignment section, as it applies to this step."""
    settings = dict(config.alignment)
    if not _is_realignment(step):
        return settings
    settings.pop("variants", None)  # chosen already
    realign = {k: v for k, v in (settings.get("realign") or {}).items() if k != "after"}
    return {**settings, "source": "transducer", **realign}


def make_nbest(
    step: Step, config: PipelineConfig, options: RunOptions, model: Path, tick: Tick, show: Show
) -> None:
    """Make N-best lists of the training data and prepare them for training.

    Raises:
        ValueError: the lists do not cover the data.
        ChildFailed: a job failed.
    """
    folder = options.exp / step.folder
    text = options.train_data / "text"
    keys = list(read_table(text))
    if step.labels_step is not None:
        text = options.exp / "alignment" / "text"
        known = read_table(text)
        keys = [key for key in keys if key in known]

    def command(key_file: str, output: str) -> list[str]:
        data = options.train_data
        return job_arguments(options, model, data, config.nbest, key_file, output, text)

    job = make_job(step.folder, folder, keys, "nbest", command, NBEST, options, config.nbest)
    run_jobs([job], options.inference_nj, tick, show)
    keep = aligned_keys(folder, "nbest")
    filter_shapes(options.shape_files("train"), keep, folder / "shape" / "train")


def _align(
    step: Step, settings: dict[str, Any], options: RunOptions, model: Path, tick: Tick, show: Show
) -> None:
    folder = options.exp / step.folder
    data = folder / "data"
    sets = (options.train_data, options.valid_data)
    texts = [d / "text" for d in sets]
    if _is_realignment(step) and step.labels_step is not None:
        texts = [options.exp / "alignment" / "text"]
    keys = merge_tables(texts, data / "text")
    merge_tables([d / options.scp for d in sets], data / options.scp)
    if settings.get("source", "encoder") == "encoder" and float(settings.get("prior_scale", 0)):
        settings["prior_file"] = str(_prior(folder, settings, options, model, data, tick, show))
    else:
        settings["prior_scale"] = 0  # said aloud: the program's own default is the paper's

    def command(key_file: str, output: str) -> list[str]:
        return job_arguments(options, model, data, settings, key_file, output)

    files = (*ALIGNMENT, "text") if settings.get("variants") else ALIGNMENT
    job = make_job(step.folder, folder, keys, "align", command, files, options, settings)
    run_jobs([job], options.inference_nj, tick, show)


def _prior(
    folder: Path,
    settings: Mapping[str, Any],
    options: RunOptions,
    model: Path,
    data: Path,
    tick: Tick,
    show: Show,
) -> Path:
    """Estimate the label prior once, over the training data: all jobs divide by the same."""
    path = folder / "prior"
    if path.exists():
        return path
    temporary = folder / "prior.tmp"
    keys = folder / "logdir" / "keys.prior"
    names = read_table(options.train_data / "text")
    write_atomically(keys, "".join(f"{key}\n" for key in sorted(names)))
    given = {**settings, "prior_only": True, "prior_file": str(temporary)}
    output = str(folder / "logdir" / "output.prior")
    command = program(options, "align")
    command += job_arguments(options, model, data, given, str(keys), output)
    log = folder / "logdir" / "log.prior"
    show(f"{folder.name:<10} estimating the label prior")
    status = wait_all([start(command, log)], tick)[0]
    if status != 0:
        raise ChildFailed("label prior", status, log)
    if not temporary.exists():
        raise ValueError(f"{temporary}: the prior was not written; see {log}")
    os.replace(temporary, path)
    return path


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
    if options.force_alignment:
        show(f"{folder.name:<10} {text}; going on, as --force_alignment says")
        return
    raise ValueError(
        f"{folder / 'alignment'} is plainly broken: {text}. Report: {folder / 'quality.md'}. Train "
        "the aligner longer, change the limits under alignment: in the YAML, or give "
        "--force_alignment true"
    )
