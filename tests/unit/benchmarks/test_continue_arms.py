"""benchmarks/continue_arms.py: its data, its commands, its table; nothing trains."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import benchmarks.continue_arms as benchmark
from benchmarks.continue_arms import ARMS, CONTINUED, Run, commands
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.jobs.reuse import interpolate
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from tests.unit.jobs.test_continue import CONFIG

CONTINUE = importlib.import_module("espnet_plugin.jobs.reuse.continue")
TEXTS = {
    "u1": "ONE TWO", "u2": "CALL NINE", "u3": "GO LEFT ONE", "u4": "STOP", "u5": "YES NO",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "seed3", 3, new=2)
    for part in ("train", "dev", "test"):
        run.data(part).mkdir(parents=True)
        kinds = {"wav.scp": "a.wav", "utt2spk": "spk"}
        tables = {name: dict.fromkeys(TEXTS, value) for name, value in kinds.items()}
        for name, table in {"text": TEXTS, **tables}.items():
            text = "".join(f"{key} {value}\n" for key, value in table.items())
            (run.data(part) / name).write_text(text)
        benchmark.split(run, part)
    return run


def test_sentences_are_split_by_their_words(run: Run) -> None:
    parts = {
        kind: list(read_table(run.data(f"train_{kind}") / "text")) for kind in ("old", "new", "all")
    }
    assert parts == {"old": ["u1", "u2"], "new": ["u3", "u4"], "all": ["u1", "u2", "u3", "u4"]}
    assert list(read_table(run.data("test_new") / "wav.scp")) == ["u3", "u4", "u5"]


def test_every_arm_has_its_data(run: Run) -> None:
    benchmark.prepare(run)  # twice, as after a kill
    benchmark.prepare(run)
    for arm in ARMS:
        folder = run.root / arm
        assert (folder / "progressive.sh").is_file() and (folder / "conf/model.yaml").is_file()
        for name in ("dev_old", "dev_all", "test_old", "test_new"):
            assert (folder / "data" / name / "text").is_file()
        assert (folder / "data/train").exists() == (arm not in CONTINUED)
    assert (run.root / "old/data/train").resolve() == run.data("train_old")


@pytest.mark.parametrize("arm", ARMS)
def test_the_recipe_knows_its_options(arm: str, run: Run) -> None:
    *_, recipe = commands(run, arm)
    script = (benchmark.RECIPE / "progressive.sh").read_text(encoding="utf-8")
    names = [word for word in recipe if word.startswith("--") and " " not in word]
    assert len(names) > 10
    for name in names:
        assert re.search(rf"^ [^$]*{name}\b", script, re.M), name  # a line of its help
    config = recipe[recipe.index("--asr_config") + 1] if "--asr_config" in recipe else None
    assert (config is None) == (arm == "average")
    if arm in ("old", "scratch"):
        assert (benchmark.RECIPE / str(config)).is_file()


@pytest.mark.parametrize("arm", CONTINUED)
def test_continue_accepts_its_arms(arm: str, run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save({"ctc.ctc_lo.bias": torch.zeros(4)}, model / "valid.pth")
    (continued, _) = commands(run, arm)
    given = continued[4:]
    given[given.index("--model") + 1] = str(model / "valid.pth")
    given[given.index("--output_data") + 1] = str(tmp_path / "train")
    (run.root / arm).mkdir(exist_ok=True)
    assert CONTINUE.main(given) == 0
    (stage,) = make_plan(load_pipeline_config(run.root / arm / "train.yaml"))
    assert stage.options["max_epoch"] == 5
    assert ("distill" in (stage.options.get("accelerators") or {})) == (arm == "replay_distill")
    assert set(read_table(tmp_path / "train/text")) >= {"u3", "u4"}


def test_what_runs_in_which_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []

    def note(command: list[str], cwd: Path, **others: Any) -> None:
        done.append((Path(cwd).name, command[0] if command[0][0] == "." else command[3]))
        if "continue" in command:
            (Path(cwd) / "train.yaml").touch()

    monkeypatch.setattr(subprocess, "run", note)
    benchmark.make(run)
    trained = [
        ("old", "./progressive.sh"),
        *((arm, word) for arm in CONTINUED for word in ("continue", "./progressive.sh")),
        ("average", "interpolate"),
        ("average", "./progressive.sh"),
        ("scratch", "./progressive.sh"),
    ]
    assert done == trained
    done.clear()
    benchmark.make(run)  # the YAML and data that a killed training began with stay
    assert done == [pair for pair in trained if pair[1] != "continue"]
    between, _ = commands(run, "average")
    given = interpolate.get_parser().parse_args(between[4:])
    assert Path(given.new) == run.exp("replay") and Path(given.old) == run.exp("old")


def test_the_table_says_what_is_not_there(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.prepare(run)
    output = ["--output", str(run.root.parent), "--seed", "3", "--table"]
    assert benchmark.main(output) == 0
    assert capsys.readouterr().out.count("not yet") == len(ARMS)
    for name, wrong in (("test_old", "u1 ONE ONE\nu2 CALL NINE\n"), ("test_new", "")):
        folder = run.exp("old") / "decode/mbr_default" / name
        folder.mkdir(parents=True)
        truth = read_table(run.data(name) / "text")
        text = "".join(f"{key} {value}\n" for key, value in truth.items())
        (folder / "text").write_text(wrong if name == "test_old" else text)
    span = {"host": "h", "seconds": 61.0, "reference_step_seconds": 0.122}
    steps = {"train:mbr": {"status": "done", "seconds": 61.0, "spans": [span]}}
    (run.exp("old") / "pipeline.json").write_text(json.dumps({"version": 1, "steps": steps}))
    assert benchmark.main(output) == 0
    assert "| old | 25.0 | 0.0 | 1.0 |" in capsys.readouterr().out
    assert benchmark.main([*output[:4], "--dry_run"]) == 0
    assert capsys.readouterr().out.count("./progressive.sh") == len(ARMS)
