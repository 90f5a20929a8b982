"""Jobs over many utterances (align, nbest, decode): options, batches, and output that resumes.

One job reads the utterances of its key file in fixed batches and appends one line per utterance to
each of its output files. Killed at any moment and started again, it drops what belongs to a
half-written batch and goes on from there; batches never depend on where it was killed, so the
result does not either.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.torch_utils.device_funcs import to_device
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.utils import config_argparse
from espnet2.utils.types import str2bool, str2triple_str

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.faults import naming
from espnet_plugin.corpora.strict_parser import make_strict
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lm_spec import named_files
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.packages.imports import import_modules
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.state.origin import Origin, origin_of, require_origin
from espnet_plugin.tasks.model_fit import build_fitting_model
from espnet_plugin.tasks.progressive import ProgressiveASRTask

SKIPPED = "skipped"
#: Options of a job that say where and how, not what.
_NOT_RESULTS = ("config", "output_dir", "key_file", "allow_variable_data_keys")


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """The options every job shares, named as ESPnet's inference commands name theirs."""
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--data_path_and_name_and_type", type=str2triple_str, action="append", required=True
    )
    parser.add_argument("--key_file", type=Path, required=True, help="utterances of this job")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances per batch")
    parser.add_argument("--ngpu", type=int, default=0, help="0: CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--log_level", default="INFO")
    parser.add_argument(
        "--imports", nargs="*", default=[], help="modules to import that register what it needs"
    )
    parser.add_argument("--allow_variable_data_keys", type=str2bool, default=False)


def make_parser(description: str, model_options: tuple[str, str]) -> argparse.ArgumentParser:
    """Parser with `--config FILE.yaml` as in ESPnet; `model_options` name config and checkpoint."""
    parser: argparse.ArgumentParser = config_argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    make_strict(parser)
    config, checkpoint = model_options
    parser.add_argument(f"--{config}", dest="train_config", type=Path, required=True)
    parser.add_argument(f"--{checkpoint}", dest="model_file", type=Path, required=True)
    add_job_arguments(parser)
    return parser


def load_model(args: argparse.Namespace) -> tuple[ProgressiveTransducerModel, argparse.Namespace]:
    """The trained model in evaluation mode, and its training arguments.

    Raises:
        ValueError: for a missing or damaged file, parameters that are not of this configuration,
            or a model that is not ours.
    """
    import_modules(getattr(args, "imports", ()), "--imports")
    for path in (args.train_config, args.model_file):
        if not path.is_file():
            raise ValueError(f"{path} does not exist; train that stage first")
    device = "cuda" if args.ngpu > 0 else "cpu"
    model, train_args = build_fitting_model(
        ProgressiveASRTask, args.train_config, args.model_file, device
    )
    if not isinstance(model, ProgressiveTransducerModel):
        raise ValueError(
            f"{args.train_config} describes a {type(model).__name__}, not a "
            "progressive_transducer; decode it with ESPnet's own command"
        )
    return model.eval(), train_args


def start_logging(args: argparse.Namespace) -> None:
    """ESPnet's log format and the seed."""
    logging.basicConfig(
        level=args.log_level,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    if args.ngpu > 1:
        raise ValueError(f"a job runs on one device, got --ngpu {args.ngpu}; use more jobs")
    set_all_random_seed(args.seed)


def read_keys(path: Path) -> list[str]:
    """First column of a key file.

    Raises:
        ValueError: if it holds nothing.
    """
    keys = list(read_table(path, allow_empty=True))
    if not keys:
        raise ValueError(f"{path} names no utterance")
    return keys


class ResumableTables:
    """Output files of one job, `utt value...` lines, with whole batches only.

    Args:
        folder: the job's output directory, made if missing.
        names: files that get one line per utterance.
        batches: the job's utterances, batch by batch.
    """

    def __init__(self, folder: Path, names: Sequence[str], batches: Sequence[Sequence[str]]):
        self.folder = folder
        self.names = list(names)
        tables = {name: self._read(name) for name in [*self.names, SKIPPED]}
        complete = set.intersection(*(set(tables[name]) for name in self.names))
        done = complete | set(tables[SKIPPED])
        kept: set[str] = set()
        self.finished = 0
        for batch in batches:
            if not done.issuperset(batch):
                break
            kept.update(batch)
            self.finished += 1
        self._files = {}
        for name, table in tables.items():
            path = folder / name
            write_atomically(path, "".join(v for k, v in table.items() if k in kept))
            self._files[name] = path.open("a", encoding="utf-8")

    def _read(self, name: str) -> dict[str, str]:
        path = self.folder / name
        if not path.exists():
            return {}
        # A kill may have cut the last line anywhere, within a character too; it is left out.
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            return {line.split(maxsplit=1)[0]: line for line in lines if line.endswith("\n")}

    def write(self, utt: str, *values: object) -> None:
        """One line in every file."""
        for name, value in zip(self.names, values, strict=True):
            self._files[name].write(f"{utt} {value}\n")

    def skip(self, utt: str, reason: str) -> None:
        """Names an utterance that has no result, and why."""
        logging.warning("%s: %s", utt, reason)
        self._files[SKIPPED].write(f"{utt} {reason}\n")

    def flush(self) -> None:
        """After each batch."""
        for name, file in self._files.items():
            with naming(self.folder / name):
                file.flush()

    def close(self) -> None:
        """At the end."""
        for name, file in self._files.items():
            with naming(self.folder / name):
                file.close()


def iterate_batches(
    args: argparse.Namespace,
    train_args: argparse.Namespace,
    batches: Sequence[Sequence[str]],
    skip: int = 0,
    inference: bool = False,
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """ESPnet's batches of the job from number `skip` on, moved to the device; logs progress."""
    todo = args.output_dir / "keys.todo"
    write_atomically(todo, "".join(f"{key}\n" for batch in batches[skip:] for key in batch))
    if skip:
        logging.info("%d of %d batches are done already", skip, len(batches))
    if skip == len(batches):
        return
    loader = ProgressiveASRTask.build_streaming_iterator(
        args.data_path_and_name_and_type,
        preprocess_fn=ProgressiveASRTask.build_preprocess_fn(train_args, False),
        collate_fn=ProgressiveASRTask.build_collate_fn(train_args, False),
        key_file=str(todo),
        dtype="float32",
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        ngpu=args.ngpu,
        inference=inference,
        allow_variable_data_keys=args.allow_variable_data_keys,
    )
    device = "cuda" if args.ngpu > 0 else "cpu"
    started = last = time.perf_counter()
    for number, (keys, batch) in enumerate(loader, skip):
        if list(keys) != list(batches[number]):
            raise ValueError(
                f"{args.key_file}: asked for {batches[number]}, the data gave {list(keys)}; are "
                "all of these utterances in every data file?"
            )
        yield list(keys), to_device(batch, device)
        now = time.perf_counter()
        if now - last > 10 or number + 1 == len(batches):
            last = now
            done = number + 1 - skip
            left = (now - started) / done * (len(batches) - number - 1)
            logging.info("batch %d/%d, %.0f s left", number + 1, len(batches), left)
    todo.unlink()


def job_origin(args: argparse.Namespace) -> Origin:
    """What the results of a job depend on, see `require_origin`.

    Raises:
        ValueError: a file is missing.
    """
    options = {k: v for k, v in vars(args).items() if k[0] != "_" and k not in _NOT_RESULTS}
    files = {name: options[name] for name in ("train_config", "model_file")}
    files |= {"utterances": args.key_file}
    if options.get("prior_file") is not None:
        files["prior_file"] = options["prior_file"]
    for path, name, _ in options.pop("data_path_and_name_and_type"):
        files[f"data {name}"] = Path(path)
    files |= {f"file {path.name}": path for path in named_files(options)}
    return origin_of(options, files)


def run_batches(
    args: argparse.Namespace,
    train_args: argparse.Namespace,
    names: Sequence[str],
    process: Callable[[list[str], dict[str, Any], ResumableTables], None],
    inference: bool = False,
) -> None:
    """A whole job: every batch that is not done yet goes through ``process``, which writes.

    Args:
        names: files that get one line per utterance.
        process: takes utterance ids, ESPnet's batch on the device, and the files to write to.
        inference: whether the data may lack what only training needs (the text).

    Raises:
        ValueError: bad data, or the output folder holds results of another model or other options.
    """
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    require_origin(args.output_dir, job_origin(args), [*names, SKIPPED])
    tables = ResumableTables(args.output_dir, names, batches)
    for keys, batch in iterate_batches(args, train_args, batches, tables.finished, inference):
        process(keys, batch, tables)
        tables.flush()
    tables.close()


def run_job(
    parser: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], None],
    cmd: Sequence[str] | None,
) -> int:
    """A job's command line; returns 0, or 2 after a user error, which is logged in one line."""
    args = parser.parse_args(cmd)

    def work() -> None:
        start_logging(args)
        with torch.no_grad():
            job(args)

    return report_user_errors(work)


def in_batches(keys: Sequence[str], size: int) -> list[list[str]]:
    """Consecutive groups of `size` keys.

    Raises:
        ValueError: for a size below 1.
    """
    if size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {size}")
    return [list(keys[i : i + size]) for i in range(0, len(keys), size)]


def encode(model: ProgressiveTransducerModel, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Encoder output [B, T, D] and lengths [B] of a batch."""
    return encode_with_features(model, batch)[:2]


def encode_with_features(
    model: ProgressiveTransducerModel, batch: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encoder output [B, T, D] and lengths, features [B, T', F] and lengths of a batch."""
    feats, lengths = model.features(batch["speech"], batch["speech_lengths"])
    output = model.encode_features(feats, lengths)
    return output.frames, output.lengths, feats, lengths


def integers(row: torch.Tensor, length: int) -> str:
    """A tensor row as text."""
    return " ".join(map(str, row[:length].tolist()))
