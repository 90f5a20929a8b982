"""benchmarks/study on a tiny Mboshi: arms that start from another one or learn its codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.study.results import read_results
from benchmarks.study.run import main
from benchmarks.study.step_cost import main as measure_steps
from benchmarks.study.step_table import read_costs
from benchmarks.study.units import Wanted, read_study, select
from tests.recipes.mboshi_corpus import DEV, make_tar_folder
from tests.recipes.tiny_recipe import pipeline

pytestmark = pytest.mark.slow
pytest.importorskip("soundfile")

TINY = pipeline(
    {
        "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 20},
        "batch_bins": 160000,
    },
    epochs={"align": 1, "viterbi": 1, "full_sum": 1, "mbr": 1},
    nbest={"nbest": 2, "beam_size": 4},
)
#: Noise teaches nothing: any alignment is good enough.
LIMITS = {"min_score_per_frame": -100.0, "max_label_share": 1.0}
REPA = {"block": 1, "hidden": 8}


def taught(config: str, stage: str, **more: bool) -> dict[str, Any]:
    """An aligner that learns the codes of a stage."""
    return {
        "config": config,
        "codes": {"arm": "progressive", "stage": stage, "books": 4, "codes": 8, **more},
        "stages": ["align"],
        "change": {"train_stages": {"align": {"accelerators": {"repa": REPA}}}},
    }


def write_study(root: Path) -> Path:
    (root / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "alignment": LIMITS}))
    start = {"arm": "progressive", "stage": "align"}
    corpus = {
        "recipe": "egs2/mboshi/asr1",
        "option": "--mboshi",
        "options": ["--local_data_opts", f"--allow_subset --dev_sessions {DEV}"],
        "variable": "MBOSHI",
        "dev": "dev",
        "test": "test",
        "unit": "sessions",
        "labels": {"char": {}},
    }
    stages = ["align", "viterbi", "full_sum"]
    study = {
        "work": str(root / "work"),
        "seeds": [1],
        "page": str(root / "page.md"),
        "figure": str(root / "figure"),
        "training_code": ["espnet_plugin/losses/**/*.py"],
        "corpora": {"mboshi": corpus},
        "sizes": {"tiny": {}},
        "arms": {
            "progressive": {"config": str(root / "tiny.yaml"), "stages": stages},
            "no_boost": {
                "config": str(root / "tiny.yaml"),
                "start": start,
                "stages": stages[1:],
                "change": {"train_stages": {"viterbi": {"loss_conf": {"boost": 0.0}}}},
            },
            "taught": taught(str(root / "tiny.yaml"), "full_sum"),
            "taught_nothing": taught(str(root / "tiny.yaml"), "align", random=True),
        },
        "grid": [
            {
                "corpora": ["mboshi"],
                "labels": ["char"],
                "sizes": ["tiny"],
                "budgets": [1.0],
                "arms": ["progressive", "no_boost", "taught", "taught_nothing"],
            }
        ],
    }
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    return root / "study.yaml"


def test_arms_from_the_corpus_to_the_page(tmp_path: Path) -> None:
    make_tar_folder(tmp_path / "corpus")
    path = write_study(tmp_path)
    corpus = f"mboshi={tmp_path / 'corpus'}"
    code = main(["--config", str(path), "--corpus", corpus, "--cores", "1"])
    logs = "".join(log.read_text()[-3000:] for log in (tmp_path / "work/log").glob("*.log"))
    assert code == 0, logs
    study = read_study(path)
    units = [path.stem for path in sorted((tmp_path / "work/results").glob("*.json"))]
    arms = ["no_boost", "progressive", "taught", "taught_nothing"]
    assert units == [f"mboshi-char-tiny-1-{arm}-s1" for arm in arms]
    found = read_results(study, select(study, Wanted()))
    ablation, whole, *students = sorted(found.values(), key=lambda result: result.unit.arm)
    learned = ["(align)", "(alignment)", "(viterbi)", "(full_sum)", "(codes)", "align"]
    names = [[step.name.replace("job:", "") for step in result.steps] for result in students]
    assert names == [learned, ["(codes)", "align"]]
    for result in students:
        assert all(step.reference_seconds for step in result.steps)
        log = tmp_path / f"work/mboshi/exp/{result.unit.name}/align/train.log"
        assert "loss_repa=" in log.read_text()
    names = [step.name for step in ablation.steps]
    assert names[0] == "(align)" and names[-2:] == ["viterbi", "full_sum"]
    assert all(step.reference_seconds for step in (*ablation.steps, *whole.steps))
    assert set(whole.words) == {"align", "viterbi", "full_sum"}
    assert len(whole.words["full_sum"]["dev"]) == 2 and len(whole.words["full_sum"]["test"]) == 2
    config = yaml.safe_load(
        (tmp_path / f"work/mboshi/exp/{units[0]}/viterbi/config.yaml").read_text()
    )
    assert config["loss_conf"]["boost"] == 0.0 and config["seed"] == 1
    page = (tmp_path / "page.md").read_text()
    assert "Nothing is known yet" in page  # there is no full_sum_only
    assert "## Changes to progressive\n" in page


def test_a_step_of_every_stage_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    options = ["--vocabulary", "12", "--labels", "3", "--frames", "80", "--repeats", "1"]
    options += ["--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "cost.json")]
    monkeypatch.setattr("sys.argv", ["step_cost.py", *options])  # ESPnet would read it as its own
    assert measure_steps(options) == 0
    (entry,) = read_costs(tmp_path / "cost.json")
    assert list(entry["seconds"]) == ["align", "viterbi", "full_sum", "mbr"]
    assert all(seconds > 0 for seconds in entry["seconds"].values())
    assert (entry["vocabulary"], entry["labels"]) == (12, 3)
