"""The pipeline with fake programs: alignments broken, external, made anew, with variants."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from espnet_plugin.bin import train
from tests.unit.pipeline.helpers import expected_value, final_value, two_stages


def test_skipped_utterance_leaves_training(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_stages(corpus)
    monkeypatch.setenv("FAKE_SKIP", "train2")
    assert train.main(arguments) == 0
    assert (corpus / "exp/t/alignment/skipped").read_text() == "train2 too short\n"
    shape = (corpus / "exp/t/alignment/shape/train/speech_shape").read_text()
    assert "train2" not in shape and "train3" in shape
    log = (corpus / "exp/t/viterbi/train.log").read_text()
    assert "alignment/shape/train/speech_shape" in log
    quality = json.loads((corpus / "exp/t/alignment/quality.json").read_text())
    assert quality["skipped"] == 1 and quality["utterances"] == 8


def test_broken_alignment_is_refused_and_can_be_forced(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = corpus / "pipeline.yaml"
    path.write_text(path.read_text().replace("-2.0", "-0.01"))
    assert train.main(arguments) == 2
    assert "score_per_frame -0.050 is below min_score_per_frame -0.01" in caplog.text
    assert "quality.md" in caplog.text
    assert not (corpus / "exp/t/viterbi").exists()
    assert train.main([*arguments, "--force_alignment", "true"]) == 0
    assert final_value(corpus) == expected_value()


def test_a_limit_that_is_no_number_is_seen_before_training(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = corpus / "pipeline.yaml"
    path.write_text(path.read_text().replace("-2.0", "-0,5"))
    assert train.main(arguments) == 2
    assert "alignment.min_score_per_frame: must be a number such as -0.5, got '-0,5'" in caplog.text
    assert not (corpus / "exp/t/align").exists()
    config = yaml.safe_load(path.read_text().replace("-0,5", "-2"))
    config["nbest"] = {**config.get("nbest", {}), "min_entries": "two"}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 2
    assert "nbest.min_entries: must be a number such as -0.5, got 'two'" in caplog.text


def test_external_alignment(corpus: Path, arguments: list[str]) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    del config["train_stages"]["align"]
    config["alignment"] = {"from_file": str(corpus / "mine")}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    keys = [*(f"train{n}" for n in range(5)), *(f"valid{n}" for n in range(3))]
    (corpus / "mine").write_text("".join(f"{k} 0 1 2\n" for k in keys))
    assert train.main([*arguments, "--stop_after", "train:viterbi"]) == 0
    assert "train5 not in" in (corpus / "exp/t/alignment/skipped").read_text()
    assert "train5" not in (corpus / "exp/t/alignment/shape/train/speech_shape").read_text()


def test_realignment_is_compared_with_the_first(corpus: Path, arguments: list[str]) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["alignment"]["realign"] = {"after": "full_sum", "batch_size": 3}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    train.main(arguments)
    log = (corpus / "exp/t/realignment/logdir/log.1").read_text()
    assert "--source transducer" in log and "--batch_size 3" in log and "prior_file" not in log


def test_chosen_pronunciations_are_what_later_stages_read(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["alignment"] |= {"variants": True}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.setenv("FAKE_SKIP", "train2")
    assert train.main(arguments) == 0
    exp = corpus / "exp/t"
    chosen, given = f"{exp / 'alignment/text'},text,text", f"{corpus / 'dump/train/text'},text,text"
    spec = json.loads((exp / "conf/check.json").read_text())
    assert given in spec["align"]  # before the choice
    for stage in ("viterbi", "full_sum", "mbr"):
        command = (exp / stage / "train.log").read_text().splitlines()[0]
        assert chosen in command and given not in command
        shapes = "nbest" if stage == "mbr" else "alignment"
        assert str(exp / shapes / "shape/train/speech_shape") in command
        assert "train2" not in (exp / shapes / "shape/train/speech_shape").read_text()
    assert str(exp / "alignment/shape/valid/speech_shape") in command  # mbr's, too
    assert chosen in (exp / "nbest/logdir/log.1").read_text()
    report = (exp / "alignment/variants.md").read_text()
    assert "16 words, 50.0 %" in report and "| A | 2: 8 |" in report
    (exp / "alignment/text").unlink()
    assert train.main(arguments) == 2  # a product that later stages need is gone


def test_the_prior_is_estimated_where_the_alignment_is_made(
    corpus: Path, arguments: list[str]
) -> None:
    """As on a cluster whose login node has neither a GPU nor time."""
    two_stages(corpus)
    backend = corpus / "queue.sh"
    backend.write_text(
        f"echo \"$1 $2\" >> '{corpus}/submitted'\n"
        "count=${1#JOB=1:}; shift; log=$1; shift\n"
        'for n in $(seq $count); do "${@//JOB/$n}" >> "${log/JOB/$n}" 2>&1 || exit 1; done\n'
    )
    cluster = ["--nj", "2", "--decode_cmd", f"bash {backend}"]
    assert train.main([*arguments, *cluster]) == 0
    logs = corpus / "exp/t/alignment/logdir"
    submitted = [f"JOB=1:2 {logs / name}" for name in ("log.prior.JOB", "log.JOB")]
    assert (corpus / "submitted").read_text().splitlines() == submitted
    # of two parts with 2 frames each
    prior = [float(line) for line in (corpus / "exp/t/alignment/prior").read_text().split()]
    assert prior == pytest.approx([math.log(0.5), math.log(0.25), math.log(0.25)])


def test_a_killed_prior_goes_on_with_the_parts_that_are_left(
    corpus: Path, arguments: list[str]
) -> None:
    two_stages(corpus)
    assert train.main([*arguments, "--nj", "3", "--stop_after", "train:align"]) == 0
    logs = corpus / "exp/t/alignment/logdir"
    (logs / "output.prior.1").mkdir(parents=True)
    (logs / "split.prior").write_text("2\n")
    (logs / "keys.prior.2").write_text("train0\n")
    (logs / "output.prior.1/prior_sums").write_text("6\n2.0\n2.5\n1.5\n")
    assert train.main([*arguments, "--nj", "3"]) == 0
    prior = [float(line) for line in (corpus / "exp/t/alignment/prior").read_text().split()]
    assert prior == pytest.approx([math.log(share / 8) for share in (3.0, 3.0, 2.0)])
    assert not (logs / "log.prior.1").exists() and (logs / "log.prior.2").exists()
