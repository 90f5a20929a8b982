"""Arms of `continue`: a model of spoken digits goes on with commands, their words and letters.

    python benchmarks/continue_arms.py --output DIR [--seed 1]     # hours of one core
    python benchmarks/continue_arms.py --output DIR --table        # from what is done
    python benchmarks/continue_arms.py --output DIR --dry_run      # the commands

The demo's corpus, larger, is split by its words: sentences of digits alone (and "call", before
them) are old, a few of the others new. WER of both test sets, and reference-system time: of the old
model, of going on with new data alone, with a tenth of the old, with distillation too, of weights
between the old and the new model, and of training on everything anew. Every command passes over
what is done, so the same call goes on after a kill.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.filtered import write_filtered
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.report.training_table import reference_times
from espnet_plugin.scoring.decode_dirs import find_decodings, read_transcripts
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.score_set import score_units

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2" / "mini_tts" / "asr1"
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
OLD_WORDS = frozenset([*DIGITS, "CALL"])
TESTS = ("test_old", "test_new")
#: Arm -> options of `continue`.
CONTINUED: Mapping[str, Sequence[str]] = {
    "new_only": ("--replay", "0"),
    "replay": ("--replay", "0.1"),
    "replay_distill": ("--replay", "0.1", "--distill", "0.5"),
}
#: Arm -> the model that lies between it and the old one.
BETWEEN = {"average": "replay"}
ARMS = ("old", *CONTINUED, *BETWEEN, "scratch")


@dataclass(frozen=True)
class Run:
    """Where everything is, and how much of it.

    Attributes:
        root: takes a folder for the data and one for each arm.
        seed: of all trainings.
        utterances: of the corpus.
        new: utterances that are new.
        epochs: of going on.
    """

    root: Path
    seed: int
    utterances: int = 4000
    new: int = 300
    epochs: int = 5

    def exp(self, arm: str) -> Path:
        """An arm's experiment."""
        return self.root / arm / "exp" / arm

    def data(self, name: str) -> Path:
        """A data folder that arms share."""
        return self.root / "corpus" / "data" / name


def commands(run: Run, arm: str) -> list[list[str]]:
    """What makes an arm, in its folder."""
    if arm in BETWEEN:
        between = run.root / arm / "between"
        exps = ["--old", str(run.exp("old")), "--new", str(run.exp(BETWEEN[arm]))]
        interpolate = [*_program("interpolate"), *exps, "--output_dir", str(between)]
        model = ["--download_model", str(between / "model.pth"), "--stage", "2"]
        return [interpolate, [*_recipe(run, arm, "dev_all"), *model]]
    config, first = "conf/train_progressive.yaml", []
    if arm in CONTINUED:
        config = str(run.root / arm / "train.yaml")
        data = ["--new_data", str(run.data("train_new")), "--old_data", str(run.data("train_old"))]
        made = ["--output_data", "data/train", "--config", config]
        more = [*CONTINUED[arm], "--seed", str(run.seed), "--max_epoch", str(run.epochs)]
        first = [[*_program("continue"), "--model", str(run.exp("old")), *data, *made, *more]]
    valid = "dev_old" if arm == "old" else "dev_all"
    train = ["--stage", "2", "--stop_stage", "9", "--asr_config", config]
    return [*first, [*_recipe(run, arm, valid), *train, "--asr_args", f"--seed {run.seed}"]]


def _program(name: str) -> list[str]:
    return [sys.executable, "-m", "espnet_plugin", name]


def _recipe(run: Run, arm: str, valid: str) -> list[str]:
    return [
        *("./progressive.sh", "--corpus", "mini_tts", "--train_set", "train", "--valid_set", valid),
        *("--test_sets", " ".join(TESTS), "--fs", "16000", "--token_type", "char", "--nj", "1"),
        *("--train_threads", "1", "--asr_exp", f"exp/{arm}", "--python", sys.executable),
        *("--inference_config", "conf/decode.yaml"),
    ]


def prepare(run: Run) -> None:
    """Make the corpus and its parts."""
    corpus = lay_out(run.root / "corpus")
    if not run.data("train_new").is_dir():
        counts = ["--num_train", str(run.utterances), "--num_dev", "200", "--num_test", "400"]
        subprocess.run(["bash", "local/data.sh", *counts], cwd=corpus, check=True)
        for part in ("train", "dev", "test"):
            split(run, part)
    for arm in ARMS:
        folder = lay_out(run.root / arm) / "data"
        folder.mkdir(exist_ok=True)
        sets = [f"dev_{kind}" for kind in ("old", "all")] + list(TESTS)
        links = {name: run.data(name) for name in sets}
        if arm not in CONTINUED:  # `continue` writes it
            links["train"] = run.data("train_old" if arm == "old" else "train_all")
        for name, source in links.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(source)


def lay_out(folder: Path) -> Path:
    """A folder that stands for the recipe's."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in RECIPE.iterdir():
        link = folder / path.name
        if path.name not in ("data", "dump", "exp", "downloads") and not link.is_symlink():
            link.symlink_to(path.resolve())
    return folder


def split(run: Run, part: str) -> None:
    """Write the old, the new and all utterances of a set; of training, few new ones."""
    source = run.data(part)
    kinds = {key: _kind(text) for key, text in read_table(source / "text").items()}
    new = [key for key, kind in kinds.items() if kind == "new"]
    spare = set(new[run.new :]) if part == "train" else set()
    for kind in ("old", "all", "new"):
        unwanted = {key: f"not of {kind}" for key, own in kinds.items() if kind not in (own, "all")}
        write_filtered(source, run.data(f"{part}_{kind}"), unwanted | dict.fromkeys(spare, "spare"))


def _kind(text: str) -> str:
    return "old" if set(fields(text)) <= OLD_WORDS else "new"


def measured(run: Run, arm: str) -> tuple[list[float], float | None]:
    """WER in per cent of each test set, and reference-system minutes of training (None: unknown).

    Raises:
        ValueError: it is not decoded yet.
    """
    exp, folder = run.exp(arm), run.root / arm / "data"
    latest = {name: decoding for decoding, name in find_decodings(exp, TESTS)}
    rates = []
    for name in TESTS:
        if name not in latest:
            raise ValueError(f"{exp}: {name} is not decoded yet")
        pair = read_transcripts(
            folder / name / "text", exp / "decode" / latest[name] / name / "text"
        )
        total = sum(score_units(pair, fields).values(), Counts())
        rates.append(100 * total.errors / max(total.tokens, 1))
    if not (exp / "pipeline.json").is_file():
        return rates, None
    times = reference_times(list(PipelineState.load(exp / "pipeline.json").steps.values()))
    known = [time for time in times if time is not None]
    return rates, sum(known) / 60 if known and len(known) == len(times) else None


def table(run: Run) -> Iterator[str]:
    """A Markdown table; of an arm that is not trained it says so."""
    yield f"| arm, seed {run.seed} | WER old | WER new | reference minutes |"
    yield "| --- | --- | --- | --- |"
    for arm in ARMS:
        title = f"| {arm.replace('_', ' ')} "
        try:
            rates, minutes = measured(run, arm)
        except ValueError:
            yield f"{title}| not yet | | |"
            continue
        time = "" if minutes is None else f"{minutes:.1f}"
        yield f"{title}| {rates[0]:.1f} | {rates[1]:.1f} | {time} |"


def make(run: Run) -> None:
    """Train and decode whatever is not done.

    Raises:
        CalledProcessError: a command failed; it has said why.
    """
    prepare(run)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for arm in ARMS:
        for command in commands(run, arm):
            if "continue" in command and (run.root / arm / "train.yaml").is_file():
                continue
            print(f"{arm}: {shlex.join(command)}", flush=True)
            subprocess.run(command, cwd=run.root / arm, env=environment, check=True)


def main(cmd: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = StrictParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of everything")
    parser.add_argument("--seed", type=int, default=1, help="of trainings and replay (1)")
    parser.add_argument("--utterances", type=int, default=4000, help="of the corpus (4000)")
    parser.add_argument("--new", type=int, default=300, help="utterances that are new (300)")
    parser.add_argument("--table", action="store_true", help="only show what is done")
    parser.add_argument("--dry_run", action="store_true", help="only show the commands")
    args = parser.parse_args(cmd)
    run = Run((args.output / f"seed{args.seed}").resolve(), args.seed, args.utterances, args.new)
    if args.dry_run:
        for arm in ARMS:
            print("\n".join(f"{arm}: {shlex.join(command)}" for command in commands(run, arm)))
        return 0
    if not args.table:
        make(run)
    print("\n".join(table(run)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
