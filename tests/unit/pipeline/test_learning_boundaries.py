"""When word boundaries are learned again: for another model, and where a run was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.data.decode_files import BOUNDARIES, BOUNDARY_FOLDER
from espnet_plugin.pipeline import word_boundaries
from espnet_plugin.pipeline.plan.options import RunOptions


def test_a_killed_run_does_not_pass_for_one_that_learned_nothing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = corpus / "dump/train"
    options = RunOptions(corpus / "exp", data, data, corpus / "stats", feats_type="extracted")
    model = corpus / "model.pth"
    model.touch()
    target = corpus / "exp" / BOUNDARY_FOLDER / BOUNDARIES
    target.parent.mkdir(parents=True)
    runs: list[str] = []

    def learn(stage: str, killed: bool = False) -> Path | None:
        def run(*given: object) -> int:
            runs.append(stage)
            if killed:
                raise KeyboardInterrupt
            target.write_text(stage)
            return 0

        monkeypatch.setattr(word_boundaries, "_run", run)
        return word_boundaries.learn_boundaries(
            options, model, stage, lambda: None, lambda line: None
        )

    assert learn("viterbi") == target and learn("viterbi") == target
    with pytest.raises(KeyboardInterrupt):
        learn("full_sum", killed=True)
    assert learn("viterbi") == target and target.read_text() == "viterbi"
    assert runs == ["viterbi", "full_sum", "viterbi"]
