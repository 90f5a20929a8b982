"""Training a neural language model over a transducer's labels with ESPnet's LM task.

The folder is an ordinary experiment of ESPnet, so that its own tools work on it; the text in the
model's units and ESPnet's statistics lie in ``<folder>/text`` and ``<folder>/stats``.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.lm_text import make_units, write_units
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.pipeline.launch.commands import launched, submitted
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.budget import options_from_arguments
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.pipeline.state.fingerprint import (
    fingerprint,
    relevant_arguments,
    relevant_options,
)
from espnet_plugin.pipeline.state.lock import RunLock
from espnet_plugin.pipeline.state.products import damage, products_of
from espnet_plugin.pipeline.state.progress import LogTail, epoch_line

#: What ESPnet leaves of a finished training: its average of the best epochs.
PRODUCT = "valid.loss.ave.pth"


@dataclass(frozen=True)
class LmTraining:
    """One language model to be trained.

    Attributes:
        config: YAML of ESPnet's ``lm_train``.
        folder: of the experiment.
        texts: Kaldi texts to train on, and to validate with.
        token_type, token_list, bpemodel, lexicon: of the transducer.
        symbols: file of non-linguistic ones, for characters.
        cleaner: ESPnet's, for the texts (not of phonemes, which are written out before).
        arguments: further ones of ESPnet's ``lm_train``.
        fold_length: of batches of type ``folded``, where the YAML names none.
        ngpu, num_nodes: graphics cards and machines.
        train_cmd, cuda_cmd: how statistics and training start, see `RunOptions`.
        python: program to run ESPnet with.
    """

    config: Path
    folder: Path
    texts: tuple[Path, Path]
    token_type: str
    token_list: Path
    bpemodel: Path | None = None
    lexicon: Path | None = None
    symbols: Path | None = None
    cleaner: str | None = None
    arguments: tuple[str, ...] = ()
    fold_length: int = 150
    ngpu: int = 0
    num_nodes: int = 1
    train_cmd: str = "local"
    cuda_cmd: str = "local"
    python: str = "python3"

    @property
    def fingerprint(self) -> str:
        """Of all that the model depends on.

        Raises:
            ValueError: a file is missing.
        """
        files = [*self.texts, self.token_list, self.bpemodel, self.lexicon, self.symbols]
        settings: dict[str, object] = {
            "options": relevant_options(read_yaml(self.config)),
            "token_type": self.token_type,
        }
        if self.cleaner:
            settings["cleaner"] = self.cleaner
        if arguments := relevant_arguments(self.arguments):
            settings["arguments"] = arguments
        if self._folds and self.fold_length != LmTraining.fold_length:
            settings["fold_length"] = self.fold_length  # earlier versions' default stays as it was
        return fingerprint(settings, [path for path in files if path is not None], [])

    @property
    def _folds(self) -> bool:
        """Whether `fold_length` makes the batches."""
        given = {**read_yaml(self.config), **options_from_arguments(self.arguments)}
        return given.get("batch_type", "folded") == "folded" and "fold_length" not in given


def train_lm(training: LmTraining, show: Callable[[str], None]) -> bool:
    """Train, or go on with, the model; returns whether anything was done.

    Raises:
        ValueError: bad files, or the folder holds a model of other text or options.
        ChildFailed: ESPnet ended with an error.
    """
    folder, mark = training.folder, training.fingerprint
    note = folder / "lm.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    if known and known["made_from"] != mark:
        raise ValueError(
            f"{folder}: holds a language model of other text, tokens or options; move it away, or "
            "give another folder with --lm_exp"
        )
    if known.get("done"):
        wrong = damage(folder, (PRODUCT,), known.get("products", {}))
        if not wrong:
            show(f"{folder}: trained before")
            return False
        show(f"{folder}: trained before, and now {wrong[0]}: averaged once more")
    with RunLock(folder):
        write_atomically(note, json.dumps({"made_from": mark}) + "\n")
        _write_texts(training)
        if not (folder / "stats" / "done").is_file():
            _collect_stats(training)
        _train(training, show)
        done = {"made_from": mark, "done": True, "products": products_of(folder, (PRODUCT,))}
        write_atomically(note, json.dumps(done) + "\n")
    return True


def _write_texts(training: LmTraining) -> None:
    """Phonemes are written out; characters and sentencepiece units are ESPnet's business."""
    units = training.token_type if training.token_type == "phn" else "word"
    convert = make_units(units, lexicon=training.lexicon)
    for name, source in zip(("train", "valid"), training.texts, strict=True):
        target = training.folder / "text" / name
        if not target.is_file():
            write_units(source, target, convert, ids=True)


def _command(training: LmTraining, output: Path, shapes: dict[str, Path]) -> list[str]:
    token_type = "word" if training.token_type == "phn" else training.token_type
    command = [*shlex.split(training.python), "-m", "espnet_plugin.jobs.lm_train"]
    command += ["--config", str(training.config), "--output_dir", str(output)]
    command += ["--use_preprocessor", "true", "--token_type", token_type]
    command += ["--token_list", str(training.token_list), "--ngpu", str(training.ngpu)]
    if training.bpemodel is not None:
        command += ["--bpemodel", str(training.bpemodel)]
    if training.symbols is not None:
        command += ["--non_linguistic_symbols", str(training.symbols)]
    if training.cleaner and training.token_type != "phn":
        command += ["--cleaner", training.cleaner]
    if "fold_length" not in read_yaml(training.config):
        command += ["--fold_length", str(training.fold_length)]
    for part, shape in shapes.items():
        text = training.folder / "text" / part
        command += [f"--{part}_data_path_and_name_and_type", f"{text},text,text"]
        command += [f"--{part}_shape_file", str(shape)]
    return [*command, *training.arguments]


def _collect_stats(training: LmTraining) -> None:
    """Lengths of all sentences, in ESPnet's shape files."""
    stats = training.folder / "stats"
    texts = {part: training.folder / "text" / part for part in ("train", "valid")}
    command = [*_command(training, stats, texts), "--collect_stats", "true", "--ngpu", "0"]
    log = stats / "collect_stats.log"
    command, console = submitted(command, training.train_cmd, log)
    status = wait_all([start(command, console)], lambda: None)[0]
    if status != 0:
        failed = log if log.exists() else console
        raise ChildFailed("statistics of the language model's text", status, failed)
    size = len(read_token_list(training.token_list))
    for part in texts:
        lines = read_lines(stats / part / "text_shape")
        shape = "".join(f"{line},{size}\n" for line in lines)  # for batches by elements
        write_atomically(stats / part / "text_shape.size", shape)
    (stats / "done").touch()


def _train(training: LmTraining, show: Callable[[str], None]) -> None:
    folder, log = training.folder, training.folder / "train.log"
    shapes = {part: folder / "stats" / part / "text_shape.size" for part in ("train", "valid")}
    command = [*_command(training, folder, shapes), "--resume", "true"]
    if training.ngpu > 1 or training.num_nodes > 1:
        command += ["--multiprocessing_distributed", "true"]
    command = launched(command, training, log)
    tail = LogTail.at_end(log)
    begun = time.monotonic()

    def on_tick() -> None:
        for result in tail.read():
            show(epoch_line("lm", result, tail, time.monotonic() - begun))

    console = log if training.cuda_cmd == "local" else log.with_name("launch.log")
    status = wait_all([start(command, console)], on_tick)[0]
    if status != 0:
        failed = log if log.exists() else console
        raise ChildFailed("training of the language model", status, failed)
    if not (folder / PRODUCT).is_file():
        raise ValueError(
            f"{folder}: training ended without {PRODUCT}; the YAML needs best_model_criterion: "
            "[[valid, loss, min]]"
        )
