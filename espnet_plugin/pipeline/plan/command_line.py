"""Options that the pipeline's command lines share, and how they become `RunOptions`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.strict_parser import nearest
from espnet_plugin.data.lm_spec import WORD_ARPA
from espnet_plugin.data.model_frames import parse_rate
from espnet_plugin.packages.imports import module_names
from espnet_plugin.pipeline.plan.config import (
    PipelineConfig,
    deep_merge,
    load_pipeline_config,
    read_value,
)
from espnet_plugin.pipeline.plan.losses import JOB_DATA
from espnet_plugin.pipeline.plan.options import EVERY_STAGE, FEATS_TYPES, RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import PARTS, build_steps, with_init

#: Options of the form ``--<stage>_args "..."``; those of any stage of the YAML are taken, and
#: ``--asr_args`` for all stages.
STAGE_ARGS_SUFFIX = "_args"


def str2bool(text: str) -> bool:
    """``true`` or ``false``, ESPnet's manner."""
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def rate_option(text: str) -> int:
    """``16000`` or ``16k``, ESPnet's manner."""
    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def command_option(text: str) -> str:
    """``local`` or a Kaldi-style command; a bare ``run.pl``, which runs here, is ``local``."""
    return "local" if text == "run.pl" else text


def add_cmd_options(parser: argparse._ActionsContainer) -> None:
    """Add the commands that start processes, by the names that ESPnet's cmd.sh gives them."""
    for name, what in (
        ("train_cmd", "statistics"),
        ("cuda_cmd", "training, and with --gpu_inference true what --decode_cmd starts otherwise"),
        ("decode_cmd", "alignment, N-best lists, decoding"),
    ):
        parser.add_argument(
            f"--{name}",
            type=command_option,
            default="local",
            help=f"starts {what}: local, or Kaldi-style as 'slurm.pl --mem 4G'",
        )


def add_plan_options(parser: argparse.ArgumentParser, config_required: bool = True) -> None:
    """Add the pipeline's YAML and what `plan_config` changes in it."""
    add = parser.add_argument
    text = "pipeline YAML (stage_scheduler, train_stages)"
    add("--config", type=Path, required=config_required, help=text)
    add("--stage_scheduler", metavar="NAME", help="instead of the YAML's")
    add(
        "--stage_scheduler_conf",
        type=mapping_option,
        default={},
        metavar="OPTIONS",
        help="over the YAML's: '{stages: [align, viterbi]}', or 'stages=[align,viterbi] ...'",
    )
    add(
        "--imports",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE",
        help="modules that register losses, models, ... of other packages, beside the YAML's",
    )
    start = parser.add_argument_group("fine-tuning")
    start.add_argument(
        "--init_from",
        metavar="MODEL",
        help="start from this model: packed zip, experiment or stage folder, .pth, Hub id",
    )
    start.add_argument("--init_from_stage", help="which stage does (default: the first)")
    start.add_argument(
        "--init_from_parts",
        metavar="PART,...",
        help=f"of it only these, the rest at random: {', '.join(PARTS)} (default: all)",
    )


def mapping_option(text: str) -> dict[str, Any]:
    """``{a: 1, b: [x, y]}``, or ``a=1 b=[x,y]`` as ESPnet has it."""
    try:
        if text.lstrip().startswith("{"):
            value = read_value(text)
        else:
            pairs = [token.partition("=") for token in shlex.split(text)]
            value = {key: read_value(part) for key, equals, part in pairs if equals}
            if len(value) < len(pairs):
                raise ValueError
    except (yaml.YAMLError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected '{{a: 1}}' or 'a=1 b=2', got {text!r}")
    return value


def add_pipeline_options(parser: argparse.ArgumentParser, data_required: bool = True) -> None:
    """Add everything that `run_options` reads; the data need not exist for a mere plan."""
    add = parser.add_argument
    add_plan_options(parser)
    parser.set_defaults(**{f"{name}{STAGE_ARGS_SUFFIX}": [] for name in JOB_DATA})
    add("--expdir", type=Path, default=Path("exp"), help="experiments go to <expdir>/<tag>")
    add("--tag", help="name of the experiment; default: the YAML's name")
    data = parser.add_argument_group("data")
    for name, text in (
        ("train_data", "Kaldi-style folder"),
        ("valid_data", "Kaldi-style folder"),
        ("stats_dir", "of collect_stats"),
    ):
        data.add_argument(f"--{name}", type=Path, required=data_required, help=text)
    data.add_argument("--feats_type", choices=FEATS_TYPES, default="raw")
    data.add_argument("--fs", type=rate_option, default=16000, help="of raw audio, Hz")
    for name, default in (
        ("token_type", "char"),
        ("token_list", None),
        ("bpemodel", None),
        ("lexicon", None),
        ("cleaner", None),
        ("g2p", None),
        ("non_linguistic_symbols", None),
    ):
        data.add_argument(f"--{name}", default=default)
    add("--word_arpa", help=f"word n-gram that N-best lists with an lm word:{WORD_ARPA}:SCALE use")
    _add_fold_lengths(parser)
    work = parser.add_argument_group("resources")
    work.add_argument("--ngpu", type=int, default=0, help="GPUs a node for training; 0: CPU")
    work.add_argument("--num_nodes", type=int, default=1)
    work.add_argument("--nj", type=int, default=1, help="parallel jobs")
    work.add_argument("--inference_nj", type=int, help="of alignment, N-best, decoding; def. nj")
    work.add_argument("--gpu_inference", type=str2bool, default=False)
    add_cmd_options(work)
    work.add_argument("--train_threads", type=int, help="OMP_NUM_THREADS of local training")
    work.add_argument("--python", default=shlex.quote(sys.executable))
    parser.add_argument("--rerun_stale", type=str2bool, default=False, nargs="?", const=True)


def _add_fold_lengths(parser: argparse.ArgumentParser) -> None:
    folded = parser.add_argument_group("batch_type folded, where the YAML has no fold_length")
    folded.add_argument("--asr_speech_fold_length", type=int, default=800, help="feature frames")
    folded.add_argument("--asr_text_fold_length", type=int, default=150, help="labels")


def read_command_line(
    args: argparse.Namespace, stage_args: dict[str, list[str]]
) -> tuple[PipelineConfig, RunOptions]:
    """The pipeline's YAML with what the command line changes in it, and the options of its run.

    Raises:
        ValueError: the YAML is invalid, the plan impossible, or an option would be dropped.
    """
    config = pipeline_config(args)
    stages = [stage.name for stage in make_plan(config)]
    for name, given in stage_args.items():
        if given and name not in (*stages, EVERY_STAGE):
            raise ValueError(
                f"--{name}{STAGE_ARGS_SUFFIX}: no such stage is planned{nearest(name, stages)}; "
                f"planned: {', '.join(stages)}; likewise for their data: --alignment_args, "
                "--nbest_args"
            )
    return config, run_options(args, stage_args, config.imports)


def run_options(
    args: argparse.Namespace, stage_args: dict[str, list[str]], imports: tuple[str, ...]
) -> RunOptions:
    """Options of the library from those of the command line.

    Raises:
        ValueError: one that would have no effect.
    """
    token_type = args.token_type
    if token_type != "bpe" and args.bpemodel not in (None, "", "none"):
        raise ValueError(f"--bpemodel {args.bpemodel} needs --token_type bpe, not {token_type}")
    text = {
        "token_type": token_type,
        "token_list": args.token_list,
        "bpemodel": args.bpemodel if token_type == "bpe" else None,
        "cleaner": args.cleaner,
        "g2p": args.g2p,
        "non_linguistic_symbols": args.non_linguistic_symbols,
    }
    if args.lexicon:
        # Words go through our preprocessor; its phonemes are "words" to ESPnet's tokenizer.
        text["token_type"] = "word"
        text["preprocessor"] = "lexicon"
        text["preprocessor_conf"] = f"lexicon={args.lexicon}"
    return RunOptions(
        exp=args.expdir / (args.tag or args.config.stem),
        train_data=args.train_data or Path("data/train"),
        valid_data=args.valid_data or Path("data/valid"),
        stats_dir=args.stats_dir or Path("exp/stats"),
        feats_type=args.feats_type,
        fs=args.fs,
        text_options={k: str(v) for k, v in text.items() if v is not None},
        lexicon=Path(args.lexicon) if args.lexicon else None,
        ngpu=args.ngpu,
        num_nodes=args.num_nodes,
        nj=args.nj,
        inference_nj=args.inference_nj or args.nj,
        gpu_inference=args.gpu_inference,
        inference_asr_model=getattr(args, "inference_asr_model", None),
        train_cmd=args.train_cmd,
        cuda_cmd=args.cuda_cmd,
        decode_cmd=args.decode_cmd,
        python=args.python,
        train_threads=args.train_threads,
        stage_args=stage_args,
        fold_lengths=(args.asr_speech_fold_length, args.asr_text_fold_length),
        rerun_stale=args.rerun_stale,
        force_alignment=getattr(args, "force_alignment", False),
        force_nbest=getattr(args, "force_nbest", False),
        imports=imports,
    )


def plan_config(args: argparse.Namespace) -> PipelineConfig:
    """The pipeline's YAML, with what the command line says about its plan.

    Raises:
        ValueError: the YAML is invalid, ``--imports`` names what is no module, or ``--init_from``
            is for a stage that there is not.
    """
    config = load_pipeline_config(args.config)
    name, conf = args.stage_scheduler, args.stage_scheduler_conf
    scheduler = {
        "stage_scheduler": config.stage_scheduler,
        "stage_scheduler_conf": config.stage_scheduler_conf,
    }
    given = {"stage_scheduler": name or config.stage_scheduler, "stage_scheduler_conf": conf}
    merged = deep_merge(scheduler, given)  # another scheduler has other options
    imports = module_names([*config.imports, *args.imports], "--imports")
    return _with_start(replace(config, **merged, imports=imports), args)


def _with_start(config: PipelineConfig, args: argparse.Namespace) -> PipelineConfig:
    """``--init_from MODEL`` for its stage, by default the first that is planned."""
    if args.init_from is None:
        if args.init_from_stage or args.init_from_parts:
            raise ValueError("--init_from_stage and --init_from_parts need --init_from MODEL")
        return config
    stage = args.init_from_stage
    if stage is None:
        # Which one is first is the scheduler's answer, and it refuses a plan that begins with mbr
        # or viterbi unless that stage brings a model.
        given = {
            name: {**options, "init_from": args.init_from}
            for name, options in config.train_stages.items()
        }
        stage = make_plan(replace(config, train_stages=given))[0].name
    return with_init(config, stage, args.init_from, args.init_from_parts)


def pipeline_config(args: argparse.Namespace) -> PipelineConfig:
    """That of `plan_config`, with what the command line says about jobs.

    Raises:
        ValueError: as there, or there are arguments for a job that is not planned.
    """
    return _with_word_arpa(_with_job_arguments(plan_config(args), args), args.word_arpa)


def _with_job_arguments(config: PipelineConfig, args: argparse.Namespace) -> PipelineConfig:
    """``--alignment_args`` and ``--nbest_args`` over the YAML's sections of these names."""
    given = {name: section_from_arguments(name, getattr(args, f"{name}_args")) for name in JOB_DATA}
    given = {name: section for name, section in given.items() if section}
    if not given:
        return config
    changed = replace(
        config,
        alignment=deep_merge(config.alignment, given.get("alignment", {})),
        nbest=deep_merge(config.nbest, given.get("nbest", {})),
    )
    steps = build_steps(make_plan(changed), changed)
    for name in given:
        if name not in (step.kind for step in steps):
            raise ValueError(
                f"--{name}{STAGE_ARGS_SUFFIX}: no step takes them; the plan is "
                f"{' -> '.join(step.name for step in steps)}"
            )
    return changed


def section_from_arguments(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """``--key value ...`` as the YAML's section of a job has it; a key without value is true.

    Raises:
        ValueError: a key is given twice, or a value stands before all keys.
    """
    found: dict[str, list[Any]] = {}
    for token in arguments:
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            if key in found:
                raise ValueError(f"--{name}_args: --{key} is given twice; put all values after one")
            found[key] = [read_value(value)] if equals else []
        elif not found:
            raise ValueError(f"--{name}_args: expected --OPTION VALUE, got {token!r}")
        else:
            found[list(found)[-1]].append(read_value(token))
    return {key: _value_of(values) for key, values in found.items()}


def _value_of(values: list[Any]) -> Any:
    if not values:
        return True
    return values[0] if len(values) == 1 else values


def _with_word_arpa(config: PipelineConfig, file: str | None) -> PipelineConfig:
    """Without a file the placeholder stays: only who makes N-best lists misses it."""
    models = config.nbest.get("lm")
    if file is None or not models:
        return config
    models = [models] if isinstance(models, str) else models
    named = [str(text).replace(WORD_ARPA, file) for text in models]
    return replace(config, nbest={**config.nbest, "lm": named})


def parse_with_stage_args(
    parser: argparse.ArgumentParser, cmd: Sequence[str] | None
) -> tuple[argparse.Namespace, dict[str, list[str]]]:
    """Parse, taking ``--<stage>_args "..."`` for whatever stages there are.

    Given twice, as by a recipe and its user, arguments are joined: of an option, the last counts.
    Those of jobs, ``--alignment_args`` and ``--nbest_args``, become attributes of these names.
    """
    stage_args: dict[str, list[str]] = {}
    rest: list[str] = []
    tokens = list(sys.argv[1:] if cmd is None else cmd)
    while tokens:
        token = tokens.pop(0)
        name, equals, value = token[2:].partition("=")
        known = f"--{name}" in parser._option_string_actions
        if known or not (token.startswith("--") and name.endswith(STAGE_ARGS_SUFFIX)):
            rest.append(token)
            continue
        if not equals:
            if not tokens:
                parser.error(f"{token} expects one argument")
            value = tokens.pop(0)
        stage = name.removesuffix(STAGE_ARGS_SUFFIX)
        stage_args[stage] = [*stage_args.get(stage, ()), *shlex.split(value)]
    args = parser.parse_args(rest)
    for name in JOB_DATA:
        setattr(args, f"{name}{STAGE_ARGS_SUFFIX}", stage_args.pop(name, []))
    return args, stage_args
