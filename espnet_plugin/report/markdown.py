"""report/report.md: one page on a pipeline, with its figures beside it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.report.alignment_plot import alignment_plot
from espnet_plugin.report.curves import training_curves
from espnet_plugin.report.experiment import Alignment, Experiment, Stage, read_experiment
from espnet_plugin.report.lag_plot import lag_plot, lag_summary
from espnet_plugin.report.style import save
from espnet_plugin.report.times_plot import times_plot
from espnet_plugin.report.training_table import training_notes

# figure of quality.json -> what it is called, and how it is printed
_QUALITY = {
    "utterances": ("utterances aligned", "{:d}"),
    "skipped": ("utterances left out", "{:d}"),
    "frames": ("encoder frames", "{:d}"),
    "labels": ("labels", "{:d}"),
    "label_share": ("labels per frame", "{:.3f}"),
    "score_per_frame": ("log score per frame", "{:.3f}"),
    "mean_shift": ("mean shift of a label against another alignment, in frames", "{:.2f}"),
    "within": ("share of labels at most `tolerance` frames away", "{:.3f}"),
    "tolerance": ("tolerance, in frames", "{:d}"),
}

_LISTS = {
    "utterances": ("utterances with a list", "{:d}"),
    "skipped": ("utterances left out", "{:d}"),
    "entries": ("distinct entries of a list", "{:.2f}"),
    "first_share": ("share with the reference first", "{:.3f}"),
    "forced_share": ("share with the reference forced in", "{:.3f}"),
    "oracle_risk": ("oracle risk per label", "{:.4f}"),
    "expected_risk": ("expected risk per label", "{:.4f}"),
}


def write_report(exp: Path) -> Path:
    """Write ``<exp>/report/report.md`` and its figures from whatever there is; return its path.

    Raises:
        ValueError: see `read_experiment`.
    """
    experiment = read_experiment(exp)
    folder = exp / "report"
    unfinished = [s for s in experiment.steps if s.status != "done"]
    date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    parts = [f"# {exp.name}", f"`{exp}`, {date}."]
    if unfinished:
        states = ", ".join(f"{step.name} ({step.status})" for step in unfinished)
        parts.append(f"**Not finished:** {states}. This page tells what there is so far.")
    parts += _results(experiment)
    parts += _training(experiment, folder)
    if experiment.alignment is not None:
        parts += _alignment(experiment.alignment, folder)
    for name, figures in experiment.lists.items():
        parts += [f"## N-best lists: {name}", _figures(figures, _LISTS)]
    parts += _lags(experiment, folder)
    parts += _times(experiment, folder)
    path = folder / "report.md"
    write_atomically(path, "\n\n".join(parts) + "\n")
    return path


def _results(experiment: Experiment) -> list[str]:
    """The tables of RESULTS.md, one level of headings lower."""
    if experiment.results is None:
        return ["## Error rates", "No test set has been scored yet."]
    lines = experiment.results.split("\n")
    start = next((n for n, line in enumerate(lines) if line.startswith("### ")), len(lines))
    tables = []
    for line in lines[start:]:
        if line.startswith("### Training"):  # told below
            break
        tables.append(line)
    return ["## Error rates", "\n".join(tables).strip(), "Details: [RESULTS.md](../RESULTS.md)."]


def _training(experiment: Experiment, folder: Path) -> list[str]:
    figure = training_curves(experiment.stages)
    if figure is None:
        return ["## Training", "No epoch is finished yet."]
    save(figure, folder / "curves.png")
    said = (
        "Validation errors are those of greedy search on the dev set (in the aligner's stage, of "
        "the encoder's output alone). Each stage has a criterion of its own, so losses compare "
        "only within a stage."
    )
    table = _stage_table(experiment.stages)
    return ["## Training", "![loss, error rate, learning rate](curves.png)", said, table]


def _stage_table(stages: Sequence[Stage]) -> str:
    lines = [
        "|stage|loss|epochs|dev loss, best|at epoch|dev WER, best|at epoch|dev WER, last|",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stage in stages:
        cells = [stage.name, str(stage.config.get("loss", "")), str(len(stage.epochs))]
        for key in ("loss", "wer"):
            known = [(e.valid[key], e.epoch) for e in stage.epochs if key in e.valid]
            value, epoch = min(known) if known else (None, "")
            cells += ["" if value is None else f"{value:.2f}", str(epoch)]
        last = stage.epochs[-1].valid.get("wer") if stage.epochs else None
        cells.append("" if last is None else f"{last:.2f}")
        lines.append("|" + "|".join(cells) + "|")
    return "\n".join(lines)


def _figures(figures: Mapping[str, Any], known: Mapping[str, tuple[str, str]]) -> str:
    """Those of the known figures that there are, as a table; empty where there are none."""
    rows = [
        f"|{name}|{form.format(figures[key])}|"
        for key, (name, form) in known.items()
        if figures.get(key) is not None
    ]
    return "\n".join(["|figure|value|", "|---|---|", *rows]) if rows else ""


def _alignment(alignment: Alignment, folder: Path) -> list[str]:
    parts = ["## Alignment"]
    table = _figures(alignment.figures, _QUALITY)
    if table:
        parts.append(table)
    figure = alignment_plot(alignment)
    if figure is not None:
        save(figure, folder / "alignment.png")
        parts.append("![alignment of some utterances](alignment.png)")
        parts.append(
            "Utterances from the best score per frame (top) to the worst; every frame without a "
            "label is blank."
        )
    return parts


def _lags(experiment: Experiment, folder: Path) -> list[str]:
    figure = lag_plot(experiment.lags)
    if figure is None:
        return []
    save(figure, folder / "lags.png")
    said = (
        "How long after the sound of a word the model emits its labels, on training data. Word "
        "times (CTM, captions, JSON) are those of the sound."
    )
    picture = "![histograms of how late labels come](lags.png)"
    return ["## Word times", said, lag_summary(experiment.lags), picture]


def _times(experiment: Experiment, folder: Path) -> list[str]:
    notes = training_notes(experiment.folder)[1:]  # without its heading
    if not notes:
        return []
    figure = times_plot(experiment.steps)
    parts = ["## Wall-clock", "\n".join(notes).strip()]
    if figure is not None:
        save(figure, folder / "times.png")
        parts.append("![wall-clock of every step](times.png)")
    return parts
