"""The label prior that an alignment divides by: parts of the training data, side by side.

A killed estimation goes on with the parts that are not done. Each part is one process that passes
its utterances through the encoder and leaves the sum of its posteriors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.launch.commands import job_arguments
from espnet_plugin.pipeline.launch.job_backends import JobPart, run_parts, write_parts
from espnet_plugin.pipeline.plan.options import RunOptions

#: What a part leaves: its frames, then each label's sum of posteriors, a number a line.
PRIOR_SUMS = "prior_sums"
#: Utterances of a part at most: what a kill may cost, and what a start of the program is worth.
UTTERANCES = 10_000


def estimate_prior(
    folder: Path,
    settings: Mapping[str, Any],
    options: RunOptions,
    model: Path,
    data: Path,
    tick: Callable[[], None],
    show: Callable[[str], None],
) -> Path:
    """Estimate the prior once, over the training data: all parts of the alignment divide by it.

    Args:
        folder: of the alignment; takes the file `prior`.
        settings: of the alignment.
        model: the aligner's checkpoint.
        data: lists of all utterances.

    Raises:
        ChildFailed: a part failed.
        ValueError: there was not a frame.
    """
    path = folder / "prior"
    if path.exists():
        return path
    given = {**settings, "prior_only": True, "prior_part": True}

    def part(number: int | str) -> JobPart:
        keys, output = _keys(logdir, number), logdir / f"output.prior.{number}"
        arguments = job_arguments(options, model, data, given, str(keys), str(output))
        return JobPart("align", arguments, logdir / f"log.prior.{number}", _sums(logdir, number))

    logdir = folder / "logdir"
    count = _split(logdir, settings, options)
    show(f"{folder.name:<10} estimating the label prior in {count} parts")
    cmd, parallel = options.inference_cmd, options.inference_nj
    run_parts(part, count, cmd, parallel, options.python, tick)
    _write(path, [_sums(logdir, number) for number in range(1, count + 1)])
    return path


def _keys(logdir: Path, number: int | str) -> Path:
    return logdir / f"keys.prior.{number}"


def _sums(logdir: Path, number: int | str) -> Path:
    return logdir / f"output.prior.{number}" / PRIOR_SUMS


def _split(logdir: Path, settings: Mapping[str, Any], options: RunOptions) -> int:
    """Write each part's list; returns the number of parts, that of a killed run where it began."""
    marker = logdir / "split.prior"
    if marker.exists():
        return int(marker.read_text())
    names = sorted(read_table(options.train_data / "text"))
    wanted = max(int(settings.get("nj") or options.inference_nj), -(-len(names) // UTTERANCES))
    count = max(1, min(wanted, len(names)))
    write_parts(names, count, lambda number: _keys(logdir, number))
    write_atomically(marker, f"{count}\n")
    return count


def _write(path: Path, parts: Sequence[Path]) -> None:
    """The log prior, a number a line, from the parts' sums.

    Raises:
        ValueError: there was not a frame.
    """
    # Here, because it brings torch along, which the command lines need not wait for.
    from espnet_plugin.search import LabelPrior

    first, *others = ([float(line) for line in read_lines(part)] for part in parts)
    prior = LabelPrior(len(first) - 1)
    for frames, *sums in (first, *others):
        prior.add_sums(sums, int(frames))
    write_prior(path, prior.log_prior().tolist())


def write_prior(path: Path, log_prior: Sequence[float]) -> None:
    """A number a line."""
    write_atomically(path, "".join(f"{value:.8f}\n" for value in log_prior))
