"""A study of a recipe that trains nothing: its run.sh writes what a training would leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from benchmarks.study.run import main
from benchmarks.study.units import Study, read_study

ROOT = Path(__file__).resolve().parents[3]
RUN_SH = (
    f"#!{sys.executable}\n"
    + """
import json, os, sys, time
from pathlib import Path
import yaml

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open("calls", "a") as calls:
    calls.write(options.get("--asr_exp", "preparation") + "\\n")
if "--asr_exp" not in options:
    for name, count in (("dev", 4), ("test", 6)):
        folder = Path("data") / name
        folder.mkdir(parents=True, exist_ok=True)
        keys = [f"s{n % 2}-{name}{n}" for n in range(count)]
        folder.joinpath("text").write_text("".join(f"{k} one two three four\\n" for k in keys))
        folder.joinpath("utt2spk").write_text("".join(f"{k} {k[:2]}\\n" for k in keys))
    sys.exit(0)
exp = Path(options["--asr_exp"])
config = yaml.safe_load(Path(options["--asr_config"]).read_text())
time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
if os.environ.get("FAKE_FAILS", "nothing") in exp.name:
    print("the aligner has not learned anything")
    sys.exit(1)
exp.mkdir(parents=True, exist_ok=True)
steps = {}
for name, stage in config["train_stages"].items():
    span = {"host": "h", "seconds": 61.0 * stage["max_epoch"], "reference_step_seconds": 0.122}
    steps[f"train:{name}"] = {"status": "done", "seconds": span["seconds"], "spans": [span]}
    for part in ("dev", "test"):
        # full_sum_only makes an error in every sentence, others in each of the first speaker's
        everywhere = "full_sum_only" in exp.name
        keys = [line.split()[0] for line in open(f"data/{part}/text")]
        wrong = [k for k in keys if everywhere or k.startswith("s0")]
        lines = [f"{k} one two three{'' if k in wrong else ' four'}\\n" for k in keys]
        folder = exp / "decode" / f"{name}_default" / part
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("text").write_text("".join(lines))
state = {"version": 1, "steps": steps, "plan": list(steps)}
(exp / "pipeline.json").write_text(json.dumps(state))
"""
)
STAGES = {"align": 4, "viterbi": 2, "full_sum": 8, "mbr": 2}


ARMS = {
    "progressive": {"config": "conf/progressive.yaml"},
    "progressive_without_mbr": {"part_of": "progressive", "until": "full_sum"},
    "full_sum_only": {"config": "conf/full_sum_only.yaml"},
    "from_aligner": {
        "config": "conf/full_sum_only.yaml",
        "start": {"arm": "progressive", "stage": "align", "parts": ["encoder"]},
    },
}
GRID = [
    {
        "corpora": ["fake"],
        "labels": ["char"],
        "sizes": ["small"],
        "budgets": [0.5],
        "arms": ["progressive", "progressive_without_mbr", "full_sum_only"],
    }
]


def make_study(root: Path, **change: Any) -> Path:
    """A study.yaml, a recipe and some training code, all below ``root``."""
    recipe = root / "recipe"
    (recipe / "conf").mkdir(parents=True)
    (recipe / "run.sh").write_text(RUN_SH)
    (recipe / "run.sh").chmod(0o755)
    for name, stages in (("progressive", STAGES), ("full_sum_only", {"full_sum": 20})):
        text = {"base": {"encoder_conf": {"output_size": 8}}, "stage_scheduler": name}
        text["train_stages"] = {k: {"loss": k, "max_epoch": v} for k, v in stages.items()}
        (recipe / "conf" / f"{name}.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    (root / "corpus").mkdir()
    (root / "code.py").write_text('"""Doc."""\nrate = 0.1  # comment\n')
    raw = {
        "work": str(root / "work"),
        "seeds": [1, 2],
        "page": str(root / "page.md"),
        "figure": str(root / "figures" / "study"),
        "training_code": ["espnet_plugin/losses/consistency.py"],
        "corpora": {
            "fake": {
                "recipe": str(recipe),
                "option": "--corpus",
                "variable": "FAKE_CORPUS",
                "dev": "dev",
                "test": "test",
                "unit": "speakers",
                "labels": {"char": {"options": ["--token_type", "char"], "minutes": 0.5}},
                "epochs": {"from_aligner": {"full_sum": 16}},
            }
        },
        "sizes": {"small": {}, "large": {"change": {"base": {"encoder_conf": {"a": 1}}}}},
        "arms": ARMS,
        "grid": GRID,
        "advice": "Take the one\nwith fewer errors.\n",
        **change,
    }
    path = root / "study.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def study_of(path: Path) -> Study:
    """The study with its corpus found."""
    study = read_study(path)
    return Study(path, study.raw, {"fake": path.parent / "corpus"})


def command(path: Path, *options: str) -> list[str]:
    """The driver's command line."""
    corpus = f"fake={path.parent / 'corpus'}"
    return [
        *(sys.executable, str(ROOT / "benchmarks/study/run.py"), "--config", str(path)),
        *("--corpus", corpus, "--cores", "2", *options),
    ]


@dataclass(frozen=True)
class Done:
    """A driver that has ended."""

    returncode: int
    stdout: str
    stderr: str


def drive(path: Path, *options: str, **environment: str) -> Done:
    """Run the driver to its end, in this process."""
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch("benchmarks.study.work_queue.Queue.poll", 0.01),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main(command(path, *options)[2:])
    return Done(code, out.getvalue(), err.getvalue())


def calls(path: Path) -> list[str]:
    """What the fake recipe was started for, in order."""
    file = path.parent / "work/fake/calls"
    return file.read_text().split() if file.is_file() else []


def result(path: Path, name: str) -> dict[str, Any]:
    """A result as it lies on the disk."""
    found: dict[str, Any] = json.loads((path.parent / f"work/results/{name}.json").read_text())
    return found
