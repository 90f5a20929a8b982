"""Decode data sets with a packed or trained model, and score the result.

    espnet-progressive evaluate --model model.zip --data dump/raw/org/test --exp exp/evaluation

MODEL is a packed file, its folder, a Hub id, an experiment or a stage's folder. A package brings
the options of its search along. Output: <exp>/decode/<train stage>_packed/<set>, as decode-stages
leaves it, and <exp>/RESULTS.md. The same command continues after a kill.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.decode_files import CTM, SEARCH, WORD_TIMES, decode_names, write_ctm
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lm_spec import BOUNDARY_OPTION, named_files
from espnet_plugin.data.symbols import read_symbols
from espnet_plugin.packages.imports import import_modules
from espnet_plugin.packages.loading import Pretrained, find_pretrained
from espnet_plugin.packages.sources import PIPELINE_STATE
from espnet_plugin.pipeline.launch.commands import as_flags, decode_arguments
from espnet_plugin.pipeline.launch.console import run_command
from espnet_plugin.pipeline.launch.jobs import Job, make_job, run_jobs
from espnet_plugin.pipeline.plan.command_line import (
    add_cmd_options,
    section_from_arguments,
    str2bool,
)
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.state.fingerprint import fingerprint
from espnet_plugin.pipeline.state.lock import RunLock
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.results import Results, results_markdown, results_table
from espnet_plugin.scoring.score_set import score_set

MARK = "made_from"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="packed file, Hub id (owner/name@revision), or experiment")
    add("--data", type=Path, nargs="+", required=True, help="folders with wav.scp or feats.scp")
    add("--exp", type=Path, required=True, help="where results go; not a training's folder")
    add("--inference_config", type=Path, help="YAML with options of decode, not the package's")
    add("--imports", nargs="+", default=[], help="modules of other packages that the model needs")
    add(
        "--inference_args", type=shlex.split, default=[], metavar='"..."',
        help="options of decode that go before those of the package or of --inference_config",
    )  # fmt: skip
    add("--nlsyms_txt", type=Path, help="symbols such as <noise> that count in no WER or CER")
    add("--batch_size", type=int, default=16)
    add("--nj", type=int, default=1, help="parallel jobs")
    add("--gpu_inference", type=str2bool, default=False)
    add_cmd_options(parser)
    add("--python", default=shlex.quote(sys.executable))
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    args = get_parser().parse_args(cmd)

    def work() -> None:
        _refuse_training(args.exp)
        with RunLock(args.exp):
            evaluate(args)

    return run_command(work)


def evaluate(args: argparse.Namespace) -> None:
    """Decode, score, write RESULTS.md.

    Raises:
        ValueError: no usable model or data, or results of something else lie there.
        ChildFailed: a job failed.
    """
    import_modules(args.imports, "--imports")
    model = find_pretrained(args.model)
    config: Path | None = args.inference_config
    if config is not None:
        timing = {k: v for k, v in model.options.items() if k == BOUNDARY_OPTION}
        model = replace(model, decoding=config, options={**timing, **read_yaml(config)})
    given = section_from_arguments("inference", args.inference_args)
    model = replace(model, options={**model.options, **given})
    # A package's own models are part of it, and are looked at with it.
    named = named_files(given if config is None else model.options)
    jobs = {data: _job(args, model, data) for data in args.data}
    for data, job in jobs.items():
        _mark(job.folder, model, named, data, args.inference_args)
    run_jobs(list(jobs.values()), args.nj, lambda: None, lambda line: print(line, flush=True))
    removed = () if args.nlsyms_txt is None else read_symbols(args.nlsyms_txt)
    tables: dict[str, dict[str, Counts]] = {}
    for data, job in jobs.items():
        write_ctm(job.folder / WORD_TIMES, job.folder / CTM)
        shutil.copy(job.logdir / "output.1" / SEARCH, job.folder / SEARCH)
        if not (data / "text").is_file():
            continue
        for unit, counts in score_set(data, job.folder, removed=removed).items():
            row = f"{job.folder.parent.name}/{data.name}"
            tables.setdefault(unit, {})[row] = sum(counts.values(), Counts())
    if tables:
        text = results_markdown([Results(f"{args.model}", tables)])
        write_atomically(args.exp / "RESULTS.md", text)
        print("\n".join(f"{unit}\n\n{results_table(rows)}" for unit, rows in tables.items()))
        print(f"-> {args.exp / 'RESULTS.md'}")


def _refuse_training(exp: Path) -> None:
    """Refuse the folder of a training, whose RESULTS.md is its own.

    Raises:
        ValueError: it is one.
    """
    if (exp / PIPELINE_STATE).is_file():
        other = exp.parent / f"{exp.name}_evaluated"
        raise ValueError(
            f"{exp}: the folder of a training ({PIPELINE_STATE}), whose RESULTS.md would be "
            f"overwritten; give another folder, such as --exp {other} (progressive.sh: --asr_exp)"
        )


def _job(args: argparse.Namespace, model: Pretrained, data: Path) -> Job:
    feats_type = "raw" if (data / "wav.scp").is_file() else "extracted"
    options = RunOptions(
        exp=args.exp,
        train_data=data,
        valid_data=data,
        stats_dir=data,
        feats_type=feats_type,
        inference_nj=args.nj,
        gpu_inference=args.gpu_inference,
        cuda_cmd=args.cuda_cmd,
        decode_cmd=args.decode_cmd,
        python=args.python,
        imports=tuple(args.imports),
    )

    def arguments(key_file: str, output: str) -> list[str]:
        given = decode_arguments(options, model.model_file, data, model.decoding, key_file, output)
        timing = as_flags({BOUNDARY_OPTION: model.options.get(BOUNDARY_OPTION)})
        return [*given, *timing, "--batch_size", str(args.batch_size), *args.inference_args]

    folder = args.exp / "decode" / f"{model.stage or 'model'}_packed" / data.name
    keys = list(read_table(data / options.scp))
    tables = decode_names(int(model.options.get("nbest") or 1))
    return make_job(data.name, folder, keys, "decode", arguments, tables, options, {"nj": args.nj})


def _mark(
    folder: Path, model: Pretrained, named: Sequence[Path], data: Path, arguments: Sequence[str]
) -> None:
    """Note what the folder is made from; another model's output is not to be mixed in.

    Raises:
        ValueError: the folder was made from something else.
    """
    parts = [model.model_file, model.train_config]
    parts += [*([model.decoding] if model.decoding else []), *named]
    for name in ("lm", "decoding"):
        parts += (
            sorted(p for p in (model.root / name).rglob("*") if p.is_file()) if model.root else []
        )
    lists = [path for path in (data / "wav.scp", data / "feats.scp") if path.is_file()]
    settings = {"arguments": list(arguments)} if arguments else {}
    mark = fingerprint(settings, [*parts, *lists], [])
    path = folder / MARK
    if path.is_file() and path.read_text().strip() != mark:
        raise ValueError(
            f"{folder}: made with another model, other options or data; give another --exp"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{mark}\n")


if __name__ == "__main__":
    sys.exit(main())
