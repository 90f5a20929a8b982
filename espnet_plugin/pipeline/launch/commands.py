"""Command lines of the pipeline's steps.

All of them are programs of ours, started as ``python -m``, so that a user can
repeat any step by hand from the first line of its log.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.launch.programs import program_module
from espnet_plugin.pipeline.plan.front_end import check_front_end
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import options_for
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.nbest_quality import NBEST_LIMITS
from espnet_plugin.pipeline.state.quality import LIMITS

#: Keys of the YAML's alignment and nbest sections that the pipeline consumes.
JOB_KEYS = frozenset({*LIMITS, *NBEST_LIMITS, "from_file", "realign", "nj"})

#: What an N-best job writes; training reads the first three, `state.nbest_quality` all.
NBEST_FILES = ("nbest", "nbest_lm", "nbest_risk", "nbest_am", "nbest_rank")
NBEST_TYPES = {"nbest": "text_int", "nbest_lm": "text_float", "nbest_risk": "text_float"}
ALIGNMENT_FILES = ("alignment", "score")


def program(options: RunOptions, name: str) -> list[str]:
    """``python -m espnet_plugin.<bin or jobs>.<name>``."""
    return [*shlex.split(options.python), "-m", program_module(name)]


def stage_config(
    stage: TrainStage, options: RunOptions, fixed: Mapping[str, int | None]
) -> dict[str, Any]:
    """ESPnet's configuration of a stage, with what follows from the data filled in.

    Args:
        fixed: ``max_epoch`` and ``num_iters_per_epoch`` where a budget fixed them.

    Raises:
        ValueError: the front-end is one for another sampling rate.
    """
    config = dict(stage.options)
    if options.imports:
        config["imports"] = list(options.imports)
    if options.feats_type == "raw":
        check_front_end(config, options.fs, f"stage {stage.name}")
        config["frontend_conf"] = {"fs": options.fs, **(config.get("frontend_conf") or {})}
    else:
        config["input_size"] = feature_size(options.train_data)
    if config.get("normalize", "global_mvn") == "global_mvn":
        stats = {"stats_file": str(options.stats_dir / "train" / "feats_stats.npz")}
        config["normalize"] = "global_mvn"
        config["normalize_conf"] = {**stats, **(config.get("normalize_conf") or {})}
    if (fold_length := options.fold_length(config)) is not None:
        config["fold_length"] = fold_length
    if stage.pretrains and config.get("fold_length"):
        config["fold_length"] = config["fold_length"][:1]  # of speech; it has no text
    config.update({key: value for key, value in fixed.items() if value is not None})
    return config


def feature_size(data: Path) -> int:
    """Features per frame of a folder with feats.scp, as ``feats_dim`` tells.

    Raises:
        ValueError: ``feats_dim`` is missing or no number.
    """
    path = data / "feats_dim"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; format the data first (it writes feats_dim)")
    text = path.read_text().strip()
    if not text.isdigit():
        raise ValueError(f"{path}: expected the number of features per frame, found {text!r}")
    return int(text)


def train_command(
    stage: TrainStage,
    options: RunOptions,
    config: Path,
    folder: Path,
    data: Path | None,
    init: str | None,
    labels: Path | None = None,
) -> list[str]:
    """Training of one stage, resuming where ``folder`` has a checkpoint.

    Args:
        config: the merged configuration on disk.
        data: folder with the alignment or N-best lists (and filtered shape files).
        init: ESPnet's ``--init_param`` value.
        labels: folder of the alignment that chose the pronunciations to train on.
    """
    command = [*program(options, "asr_train"), "--config", str(config)]
    command += ["--output_dir", str(folder), "--resume", "true", "--use_preprocessor", "true"]
    command += as_flags(options.text_options)
    options = options_for(stage, options)
    for part, source in (("train", options.train_data), ("valid", options.valid_data)):
        files = [(source / options.scp, "speech", options.speech_type)]
        if options.labelled:
            files.append(((labels or source) / "text", "text", "text"))
        if data is not None and stage.needs == "alignment":
            files.append((data / "alignment", "alignment", "text_int"))
        if data is not None and stage.needs == "nbest" and part == "train":
            files += [(data / name, name, kind) for name, kind in NBEST_TYPES.items()]
        for path, name, kind in files:
            command += [f"--{part}_data_path_and_name_and_type", f"{path},{name},{kind}"]
        for shape in training_shapes(stage, options, part, data, labels):
            command += [f"--{part}_shape_file", str(shape)]
    if init is not None:
        command += ["--init_param", init]
    command += ["--ngpu", str(options.ngpu)]
    if options.ngpu > 1 or options.num_nodes > 1:
        command += ["--multiprocessing_distributed", "true"]
    return [*command, *options.arguments_of(stage.name)]


def training_shapes(
    stage: TrainStage,
    options: RunOptions,
    part: str,
    data: Path | None,
    labels: Path | None = None,
) -> list[Path]:
    """Shape files a stage trains from: the filtered ones where its data leaves utterances out."""
    shapes = options.shape_files(part)
    if data is None or (stage.needs == "nbest" and part == "valid"):
        data = labels  # whose alignment may lack utterances, too
    if data is None:
        return shapes
    return [data / "shape" / part / shape.name for shape in shapes]


class Launching(Protocol):
    """What `launched` has to know of a training: its resources and how processes start."""

    @property
    def python(self) -> str: ...
    @property
    def cuda_cmd(self) -> str: ...
    @property
    def ngpu(self) -> int: ...
    @property
    def num_nodes(self) -> int: ...


def submitted(command: Sequence[str], cmd: str, log: Path) -> tuple[list[str], Path]:
    """A single process as ``cmd`` starts it, and the file for what it says before it starts."""
    if cmd == "local":
        return list(command), log
    return [*shlex.split(cmd), str(log), *command], log.with_name("submit.log")


def launched(command: Sequence[str], options: Launching, log: Path) -> list[str]:
    """The training command, handed to ESPnet's launcher where it needs other machines.

    Raises:
        ValueError: several nodes, but no command that reaches them.
    """
    if options.cuda_cmd == "local" and options.num_nodes == 1:
        return list(command)
    if options.cuda_cmd == "local":
        raise ValueError(
            f"--num_nodes {options.num_nodes} needs --cuda_cmd, a command that starts processes "
            "on other machines (slurm.pl, or another one together with mpirun)"
        )
    launch = [*shlex.split(options.python), "-m", "espnet2.bin.launch"]
    launch += ["--cmd", options.cuda_cmd]
    launch += ["--log", str(log), "--ngpu", str(options.ngpu)]
    launch += ["--num_nodes", str(options.num_nodes), "--multiprocessing_distributed", "true"]
    launch += ["--init_file_prefix", str(log.parent / ".dist_init_"), "--"]
    return [*launch, *command]


def job_arguments(
    options: RunOptions,
    model: Path,
    data: Path,
    settings: Mapping[str, Any],
    key_file: str,
    output: str,
    text: Path | None = None,
) -> list[str]:
    """Arguments of ``align`` or ``nbest`` over ``key_file``; ``settings`` are passed on."""
    command = ["--train_config", str(model.parent / "config.yaml"), "--model_file", str(model)]
    for file, kind, loader in (
        (data / options.scp, "speech", options.speech_type),
        (text or data / "text", "text", "text"),
    ):
        command += ["--data_path_and_name_and_type", f"{file},{kind},{loader}"]
    command += _job_resources(options, key_file, output)
    return command + as_flags({k: v for k, v in settings.items() if k not in JOB_KEYS})


def decode_arguments(
    options: RunOptions, model: Path, data: Path, config: Path | None, key_file: str, output: str
) -> list[str]:
    """Arguments of ESPnet-style decoding of the utterances of ``key_file``."""
    command = ["--asr_train_config", str(model.parent / "config.yaml")]
    command += ["--asr_model_file", str(model)]
    speech = f"{data / options.scp},speech,{options.speech_type}"
    command += ["--data_path_and_name_and_type", speech]
    command += _job_resources(options, key_file, output)
    return command + (["--config", str(config)] if config is not None else [])


def _job_resources(options: RunOptions, key_file: str, output: str) -> list[str]:
    """What a job works on, and where, with what."""
    command = ["--key_file", key_file, "--output_dir", output]
    command += ["--ngpu", "1" if options.gpu_inference else "0"]
    return command + as_flags({"imports": options.imports or None})


def aligned_keys(folder: Path, name: str) -> set[str]:
    """Utterances that an alignment or N-best job gave a result for."""
    return set(read_table(folder / name))


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Options as a command line has them; None is left out."""
    flags = []
    for key, value in values.items():
        if value is None:
            continue
        items = value if isinstance(value, list | tuple) else [value]
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in items]
        flags += [f"--{key}", *texts]
    return flags
