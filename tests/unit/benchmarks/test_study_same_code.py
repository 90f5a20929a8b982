"""Results of other training code that trains the same to the bit are not old."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.study import same_code
from benchmarks.study.configuration import equal_codes
from benchmarks.study.same_code import differences, shortest
from benchmarks.study.units import Study, Wanted, read_study, select
from tests.unit.benchmarks.fake_study import make_study


def test_equality_is_transitive_and_a_difference_does_not_count(tmp_path: Path) -> None:
    notes = tmp_path / "same_code.json"
    assert equal_codes("a", notes) == {"a"}  # nothing was compared yet
    rows = [
        {"codes": ["b", "c"], "difference": ""},
        {"codes": ["a", "b"], "difference": ""},
        {"codes": ["a", "d"], "difference": "an4/exp/x/align/1epoch.pth"},
    ]
    notes.write_text(json.dumps(rows))
    assert equal_codes("a", notes) == {"a", "b", "c"}
    assert equal_codes("d", notes) == {"d"}


def test_the_shortest_study_is_one_training(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    assert "advice" in study.raw
    assert "advice" not in shortest(study, tmp_path)  # older commits refuse it
    short = Study(study.path, shortest(study, tmp_path / "work"))
    (unit,) = select(short, Wanted())
    assert (unit.arm, unit.seed) == ("progressive", 1)
    assert short.results == tmp_path / "work" / "results"
    # whatever one epoch of the aligner gives is taken
    assert short.change(unit)["alignment"]["min_score_per_frame"] == -1e6


def leave(work: Path, weight: float, errors: int) -> None:
    """A study of one training."""
    stage = work / "an4/exp/an4-s1/align"
    stage.mkdir(parents=True)
    torch.save({"w": torch.tensor([1.0, weight])}, stage / "1epoch.pth")
    (work / "results").mkdir()
    words = {"align": {"dev": {"u": ["s", errors, 3]}}}
    result = {"words": words, "characters": {}, "failure": "", "seconds": weight}
    (work / "results/an4-s1.json").write_text(json.dumps(result))


def test_weights_errors_and_missing_files_differ(tmp_path: Path) -> None:
    one, same, weights, errors, nothing = (tmp_path / name for name in "abcde")
    leave(one, 0.5, 1)
    leave(same, 0.5, 1)
    leave(weights, 0.5 + 2**-24, 1)
    leave(errors, 0.5, 2)
    assert list(differences(one, same)) == []
    assert list(differences(one, weights)) == ["an4/exp/an4-s1/align/1epoch.pth"]
    assert list(differences(one, errors)) == ["results/an4-s1.json"]
    assert list(differences(one, nothing)) == ["weights: 1 and 0 files", "results: 1 and 0 files"]


def test_code_that_is_edited_meanwhile_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(make_study(tmp_path))
    hashes = iter(["a", "b", "c", "b"])
    monkeypatch.setattr(same_code, "_git", lambda *words: "")
    monkeypatch.setattr(same_code, "_train", lambda *args: None)
    monkeypatch.setattr(same_code, "training_code_hash", lambda *args: next(hashes))
    work = tmp_path / "compared"
    work.mkdir()
    with pytest.raises(ValueError, match="training code was edited meanwhile"):
        same_code.compare(study, "HEAD~1", [], work)
