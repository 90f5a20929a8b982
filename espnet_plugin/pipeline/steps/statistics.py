"""ESPnet's statistics (shapes, mean and variance) of training and validation data, in parts."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin import __version__
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.pipeline.launch.commands import stage_config
from espnet_plugin.pipeline.launch.job_backends import (
    JobPart,
    ProgressMeter,
    run_parts,
    write_parts,
)
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.options import EVERY_STAGE, RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.fingerprint import Inputs, arguments_named, fingerprint
from espnet_plugin.pipeline.state.lock import RunLock

#: Options of a stage that shapes and statistics depend on.
RELEVANT = ("frontend", "frontend_conf", "input_size", "preprocessor", "preprocessor_conf")


def collect_stats(
    stage: TrainStage, options: RunOptions, show: Callable[[str], None], tick: Callable[[], None]
) -> bool:
    """Fill ``options.stats_dir`` unless it is up to date; returns whether anything was done.

    Args:
        stage: the one whose front-end is used (the first).

    Raises:
        ValueError: bad data files.
        ChildFailed: ESPnet ended with an error.
    """
    folder = options.stats_dir
    config = _stats_config(stage, options)
    mark = _fingerprint(config, options)
    done = folder / "done.json"
    if done.exists() and json.loads(done.read_text())["fingerprint"] == mark:
        show(f"{folder}: statistics are up to date")
        return False
    with RunLock(folder):
        lists = Inputs([*options.data_files(), *options.text_files()])
        done.unlink(missing_ok=True)
        _run_parts(config, options, _parts(mark, options), show, tick)
        if options.labelled:
            _append_vocabulary(options)
        lists.require_unchanged("the collection of statistics")
        write_atomically(done, json.dumps({"fingerprint": mark}) + "\n")
    return True


def _parts(mark: str, options: RunOptions) -> int:
    """How many parts; a killed run's are kept whatever ``nj`` says now, as some may be done."""
    logdir = options.stats_dir / "logdir"
    marker = logdir / "fingerprint"
    begun = marker.read_text().split() if marker.exists() else []
    if len(begun) == 2 and begun[0] == mark:
        return int(begun[1])
    for old in logdir.glob("done.*"):
        old.unlink()
    sizes = (len(read_table(data / _keys(options))) for data in _folders(options))
    nj = max(1, min(options.nj, *sizes))
    write_atomically(marker, f"{mark} {nj}\n")
    return nj


def _stats_config(stage: TrainStage, options: RunOptions) -> dict[str, Any]:
    config = stage_config(stage, options, {})
    # Statistics come before normalisation, and before any loss that needs more than the text.
    loss = "ctc" if options.labelled else "best_rq"
    config.update({"normalize": None, "normalize_conf": {}, "loss": loss, "loss_conf": {}})
    return config


def _folders(options: RunOptions) -> tuple[Path, Path]:
    return options.train_data, options.valid_data


def _keys(options: RunOptions) -> str:
    """The table of a data folder that names its utterances."""
    return "text" if options.labelled else options.scp


def _shape(options: RunOptions) -> str:
    """A shape file that collecting makes, line by line."""
    return "text_shape" if options.labelled else "speech_shape"


def _fingerprint(config: dict[str, Any], options: RunOptions) -> str:
    settings = {
        "version": __version__,
        "options": {key: config.get(key) for key in RELEVANT},
        "text": dict(options.text_options),
        "speech": options.speech_type,
    }
    if arguments := _front_end_arguments(options):
        settings["arguments"] = arguments
    return fingerprint(settings, [*options.data_files(), *options.text_files()], [])


def _run_parts(
    config: dict[str, Any],
    options: RunOptions,
    nj: int,
    show: Callable[[str], None],
    tick: Callable[[], None],
) -> None:
    logdir = options.stats_dir / "logdir"
    path = logdir / "stats.yaml"
    write_atomically(path, yaml.safe_dump(config, sort_keys=False))
    keys = {
        part: list(read_table(data / _keys(options)))
        for part, data in zip(("train", "valid"), _folders(options), strict=True)
    }
    for name, names in keys.items():
        write_parts(names, nj, functools.partial(_keys_of_part, logdir, name))
    total = sum(len(names) for names in keys.values())
    files = [
        logdir / f"stats.{n}" / name / _shape(options) for n in range(1, nj + 1) for name in keys
    ]
    meter = ProgressMeter("statistics", total, files, show)

    def on_tick() -> None:
        tick()
        meter()

    part = functools.partial(_part, options, path)
    run_parts(part, nj, options.train_cmd, nj, options.python, on_tick)
    _aggregate(options, nj)
    meter.finish()


def _keys_of_part(logdir: Path, name: str, number: int | str) -> Path:
    return logdir / f"{name}.{number}.scp"


def _front_end_arguments(options: RunOptions) -> list[str]:
    """Those of --asr_args that change the features."""
    return arguments_named(options.stage_args.get(EVERY_STAGE, ()), RELEVANT)


def _part(options: RunOptions, config: Path, number: int | str) -> JobPart:
    logdir = options.stats_dir / "logdir"
    arguments = ["--collect_stats", "true", "--use_preprocessor", "true"]
    arguments += ["--config", str(config), "--output_dir", str(logdir / f"stats.{number}")]
    for name, value in options.text_options.items():
        arguments += [f"--{name}", value]
    for name, data in (("train", options.train_data), ("valid", options.valid_data)):
        speech = f"{data / options.scp},speech,{options.speech_type}"
        text = [f"{data / 'text'},text,text"] if options.labelled else []
        for triple in (speech, *text):
            arguments += [f"--{name}_data_path_and_name_and_type", triple]
        arguments += [f"--{name}_shape_file", str(_keys_of_part(logdir, name, number))]
    arguments += _front_end_arguments(options)
    log, done = logdir / f"stats.{number}.log", logdir / f"done.{number}"
    return JobPart("asr_train", arguments, log, done)


def _aggregate(options: RunOptions, nj: int) -> None:
    """Join the parts with ESPnet's own program."""
    logdir = options.stats_dir / "logdir"
    arguments = ["--output_dir", str(options.stats_dir)]
    for number in range(1, nj + 1):
        arguments += ["--input_dir", str(logdir / f"stats.{number}")]
    _espnet(options, "aggregate_stats_dirs", arguments, logdir / "aggregate.log")


def _espnet(options: RunOptions, name: str, arguments: Sequence[str], log: Path) -> None:
    command = [*shlex.split(options.python), "-m", f"espnet2.bin.{name}", *arguments]
    status = wait_all([start(command, log)], lambda: None)[0]
    if status != 0:
        raise ChildFailed(name, status, log)


def _append_vocabulary(options: RunOptions) -> None:
    """``text_shape.<token type>``: lengths with the vocabulary's size, for ``numel`` batches."""
    size = len(read_token_list(Path(options.text_options["token_list"])))
    for part in ("train", "valid"):
        source = options.stats_dir / part / "text_shape"
        lines = read_lines(source)
        target = source.with_name(f"text_shape.{options.text_options['token_type']}")
        write_atomically(target, "".join(f"{line},{size}\n" for line in lines))
