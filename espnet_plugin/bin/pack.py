"""Pack a trained model with all it needs into one file, and try the file out.

    espnet-progressive pack --exp exp/train_progressive_raw_char \\
        --inference_config conf/decode.yaml --outpath model.zip

The file holds the averaged model of the last finished stage, configurations of all stages, token
list, statistics, language models, lexicon, scales, RESULTS.md and figures, and no absolute path.
It is unpacked into a temporary folder, one utterance of the validation set is decoded with it, and
the result must equal the unpacked model's.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.decode_files import SEARCH
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.packages.contents import JOB_OPTIONS, Contents, collect
from espnet_plugin.packages.loading import OUTPUT_OPTIONS, pretrained_arguments
from espnet_plugin.packages.package import CONFIG, MODEL, read_mapping
from espnet_plugin.packages.sources import (
    PIPELINE_STATE,
    TrainedModel,
    finished_stages,
    stage_model,
)
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.plan.command_line import str2bool
from espnet_plugin.scoring.decode_dirs import stage_of

TOLERANCE = 1e-5  # of scores, in nats


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--exp", type=Path, required=True, help="the pipeline, <expdir>/<tag>")
    add("--stage", help="whose model (default: the last finished one)")
    add("--inference_config", type=Path, help="YAML with options of decode")
    add(
        "--inference_tag",
        help="take the options, tuned scales included, of this decoding of the stage (default: of "
        "the last one)",
    )
    add("--outpath", type=Path, help="default: <exp>/<tag>.zip, or <tag>_<stage>.zip")
    add("--verify", type=str2bool, default=True, help="try the file out (true)")
    add("--valid_data", type=Path, help="to try it out on; default: the pipeline's --valid_data")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: print(run(args)))


def run(args: argparse.Namespace) -> Path:
    """Pack, verify, and only then put the file in its place.

    Raises:
        ValueError: something is missing, or the file does not give the model's result.
    """
    from espnet_plugin.tasks.packing import write_package

    if not (args.exp / PIPELINE_STATE).is_file():
        raise ValueError(f"{args.exp}: no pipeline has run here ({PIPELINE_STATE} is missing)")
    if args.inference_config is not None and not args.inference_config.is_file():
        raise ValueError(f"{args.inference_config}: no such decoding configuration")
    stage = args.stage or finished_stages(args.exp)[-1]
    model = stage_model(args.exp, stage)
    state = read_mapping(args.exp / PIPELINE_STATE)
    decoding = args.inference_config or decoding_options(args.exp, state, stage, args.inference_tag)
    contents = collect(args.exp, stage, model, decoding)
    name = args.exp.absolute().name + (f"_{args.stage}" if args.stage else "")
    target: Path = args.outpath or args.exp / f"{name}.zip"
    if target.suffix != ".zip":
        raise ValueError(f"--outpath {target}: its name must end in .zip")
    finished = float(state["steps"][f"train:{stage}"].get("finished") or 0)
    scratch = target.with_name(f".{target.name}.packing")
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed run left
    try:
        archive = scratch / target.name
        logging.info("packing %s", model.model_file)
        write_package(contents, archive, finished)
        if args.verify:
            logging.info("trying the package out")
            data = args.valid_data or recorded_valid_data(state)
            verify(archive, model, decoding, contents, data)
        archive.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    logging.info("%s: %.1f MB", target, target.stat().st_size / 1e6)
    return target


def decoding_options(exp: Path, state: dict[str, Any], stage: str, tag: str | None) -> Path | None:
    """Options of a decoding of the stage, as it left them; None if nothing was decoded.

    Raises:
        ValueError: there is no decoding of that tag.
    """
    steps = state.get("steps") or {}
    stages = [name.removeprefix("train:") for name in steps if name.startswith("train:")]
    begun = {}
    for name, step in steps.items():
        kind, _, place = name.partition(":")
        decoding = place.partition("/")[0]
        own = stage_of(decoding, stages) == stage if tag is None else decoding == f"{stage}_{tag}"
        if kind == "decode" and own:
            begun[place] = float(step.get("started") or 0)
    found = {name: exp / "decode" / name / SEARCH for name in begun}
    known = {name: path for name, path in found.items() if path.is_file()}
    if known:
        name = max(known, key=lambda name: begun[name])
        logging.info("options of the search: those of %s", name)
        return known[name]
    if tag is not None:
        raise ValueError(f"{exp}: no decoding {stage}_{tag} that tells its options ({SEARCH})")
    return None


def recorded_valid_data(state: dict[str, Any]) -> Path:
    """The validation set of the pipeline's last run.

    Raises:
        ValueError: it is not known any more.
    """
    arguments = (state.get("invocation") or {}).get("arguments") or []
    if "--valid_data" not in arguments[:-1]:
        raise ValueError("give --valid_data FOLDER to try the package out on, or --verify false")
    return Path(arguments[arguments.index("--valid_data") + 1])


def verify(
    archive: Path, model: TrainedModel, decoding: Path | None, contents: Contents, data: Path
) -> None:
    """Decode an utterance with the packed and with the original model, and compare.

    Raises:
        ValueError: the results differ, or there is no data to try it on.
    """
    from espnet_plugin.inference.speech2text import Speech2Text

    options = {} if decoding is None else read_mapping(decoding)
    options = {
        name: absolute(value, contents)
        for name, value in options.items()
        if name not in (*JOB_OPTIONS, *OUTPUT_OPTIONS)
    }
    files: dict[str, Any] = {
        CONFIG: model.train_config.absolute(),
        MODEL: model.model_file.absolute(),
    }
    archive, data = archive.absolute(), contents.locate(data).absolute()
    # Data lists may name files relative to the recipe's folder.
    with contextlib.chdir(contents.base if contents.base.is_dir() else Path.cwd()):
        original = Speech2Text(**files, **options)
        utterance, speech = first_utterance(data, original.asr_train_args)
        expected = original(speech)
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        packed = Speech2Text(**pretrained_arguments(archive, Path(empty) / "cache"))
        found = packed(speech)
    same = [result[2] for result in expected] == [result[2] for result in found]
    scores = [[result[3].score for result in results] for results in (expected, found)]
    if not same or any(abs(a - b) > TOLERANCE for a, b in zip(*scores, strict=True)):
        raise ValueError(
            f"the package does not give the model's result for utterance {utterance}: "
            f"{found[0][0]!r} ({scores[1][0]:.6f}) instead of {expected[0][0]!r} "
            f"({scores[0][0]:.6f}); it was not written. Please report this"
        )
    logging.info("verified with utterance %s: %r", utterance, found[0][0])


def absolute(value: Any, contents: Contents) -> Any:
    """An option of the search with absolute paths, in KIND:FILE:SCALE as well."""
    if isinstance(value, list):
        return [absolute(inner, contents) for inner in value]
    if not isinstance(value, str):
        return value
    paths = [(part, contents.locate(Path(part))) for part in value.split(":")]
    return ":".join(str(path.absolute()) if path.is_file() else part for part, path in paths)


def first_utterance(data: Path, train_args: argparse.Namespace) -> tuple[str, Any]:
    """Id and speech [L] or [T', F] of a data folder's first utterance, as training reads it.

    Raises:
        ValueError: the folder has neither wav.scp nor feats.scp.
    """
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    raw = (data / "wav.scp").is_file()
    scp, kind = data / ("wav.scp" if raw else "feats.scp"), "sound" if raw else "kaldi_ark"
    key = next(iter(read_table(scp)))
    with tempfile.NamedTemporaryFile("w", suffix=".scp") as keys:
        keys.write(f"{key}\n")
        keys.flush()
        loader = ProgressiveASRTask.build_streaming_iterator(
            [(str(scp), "speech", kind)],
            preprocess_fn=ProgressiveASRTask.build_preprocess_fn(train_args, False),
            collate_fn=ProgressiveASRTask.build_collate_fn(train_args, False),
            key_file=keys.name,
            dtype="float32",
            batch_size=1,
            num_workers=0,
            inference=True,
        )
        _, batch = next(iter(loader))
    return key, batch["speech"][0]


if __name__ == "__main__":
    sys.exit(main())
