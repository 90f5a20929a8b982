"""`plan` with the very options of `train`, on statistics that exist: what progressive.sh calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.bin import plan


def test_plan_takes_the_options_of_train(
    arguments: list[str], corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*arguments, "--viterbi_args", "--max_epoch 7", "--probe_steps", "0"]
    assert plan.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    # six utterances of 50 frames (conftest.py)
    assert lines[0].startswith("training data: 0.0 hours, 6 utterances of 0.5 s, 6.0 labels")
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert [rows[name][1] for name in ("align", "viterbi", "full_sum", "mbr")] == list("2731")
    assert rows["align"][2] == "1"  # one batch of six
    assert not (corpus / "exp/t/plan").exists()
