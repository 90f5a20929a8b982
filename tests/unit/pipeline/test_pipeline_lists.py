"""N-best lists in the pipeline: their figures, the gate, limits, one job for each mbr stage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from espnet_plugin.bin import train
from espnet_plugin.pipeline.state.nbest_quality import assess_nbest
from tests.unit.pipeline.helpers import change, expected_value, final_value


def write(folder: Path, **tables: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        (folder / name).write_text("".join(f"{utt} {row}\n" for utt, row in rows.items()))
    return folder


TABLES = {
    # a: reference 1 2 found first; b: reference 3 forced in last, the search found 4 and 5 6
    "nbest": {"a": "2 2 1 1 2 1", "b": "3 1 2 1 4 5 6 3"},
    "nbest_lm": {"a": "-1 -2", "b": "0 0 0"},
    "nbest_risk": {"a": "0 1", "b": "1 2 0"},
    "nbest_am": {"a": "-3 -3", "b": "-1 -2 -4"},
    "nbest_rank": {"a": "1", "b": "0"},
    "skipped": {"c": "too long", "d": "too long"},
}


def test_figures_by_hand(tmp_path: Path) -> None:
    figures = assess_nbest(write(tmp_path / "lists", **TABLES), 2.0)
    assert (figures["utterances"], figures["skipped"], figures["labels"]) == (2, 2, 3)
    assert (figures["entries"], figures["longest"], figures["full_share"]) == (2.5, 3, 0.5)
    assert (figures["skipped_share"], figures["first_share"]) == (0.5, 0.5)
    assert figures["forced_share"] == 0.5
    assert figures["oracle_risk"] == pytest.approx((0 + 1) / 3)
    first = math.exp(-2.0 * 1.0) / (1 + math.exp(-2.0 * 1.0))  # scores -4 and -5
    weights = [1.0, math.exp(-2.0), math.exp(-6.0)]
    second = (weights[0] + 2 * weights[1]) / sum(weights)
    assert figures["expected_risk"] == pytest.approx((first + second) / 3)
    report = (tmp_path / "lists/quality.md").read_text()
    assert "| reference forced in | 50.0 % |" in report and "scale 2" in report


def test_a_reference_found_beyond_the_list_is_forced_in(tmp_path: Path) -> None:
    tables = TABLES | {"nbest_rank": {"a": "1", "b": "7"}}
    figures = assess_nbest(write(tmp_path / "lists", **tables), 2.0)
    assert figures["forced_share"] == 0.5 and figures["oracle_risk"] == pytest.approx(1 / 3)


def test_lists_of_an_earlier_version_have_fewer_figures(tmp_path: Path) -> None:
    tables = {k: v for k, v in TABLES.items() if k not in ("nbest_am", "nbest_rank")}
    figures = assess_nbest(write(tmp_path / "lists", **tables), 2.5)
    assert figures["entries"] == 2.5 and "expected_risk" not in figures


def test_damaged_tables_name_the_utterance(tmp_path: Path) -> None:
    tables = TABLES | {"nbest_risk": {"a": "0 1", "b": "1 2"}}
    with pytest.raises(ValueError, match="utterance b has 2 values for 3 hypotheses"):
        assess_nbest(write(tmp_path / "lists", **tables), 2.5)


def nbest_section(corpus: Path, **values: object) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["nbest"] = values
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def test_lists_of_which_nothing_is_learned_are_refused(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nbest_section(corpus, max_first_share=0.9, beam_size=4)
    assert train.main(arguments) == 2
    assert "first_share 1.000 is above max_first_share 0.9" in caplog.text
    assert "quality.md" in caplog.text and not (corpus / "exp/t/mbr").exists()
    log = (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert "--beam_size 4" in log and "max_first_share" not in log
    assert train.main([*arguments, "--force_nbest", "true"]) == 0
    assert final_value(corpus) == expected_value()
    caplog.clear()
    assert train.main(arguments) == 2  # a limit holds for finished lists as well
    nbest_section(corpus, beam_size=4, min_entries=2)
    assert train.main(arguments) == 0  # and a changed one makes no list stale
    figures = json.loads((corpus / "exp/t/nbest/quality.json").read_text())
    assert figures["scale"] == 2.5 and figures["entries"] == 2.0


def test_the_limit_of_the_stage_is_that_of_its_lists(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    change(corpus, "mbr", loss_conf={"max_frames": 300, "scale": 1.0})
    assert train.main(arguments) == 0
    log = (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert "--max_frames 300" in log
    assert json.loads((corpus / "exp/t/nbest/quality.json").read_text())["scale"] == 1.0
    change(corpus, "mbr", loss_conf={"max_frames": 200, "scale": 1.0})
    assert train.main(arguments) == 2
    assert "job:nbest" in caplog.text  # stale: lists were made under another limit
    caplog.clear()
    change(corpus, "mbr", loss_conf={"max_frames": 300, "scale": 1.0})
    by_hand = ["--mbr_args", "--loss_conf max_frames=250 --loss_conf scale=0.5"]
    assert train.main([*arguments, *by_hand]) == 2 and "job:nbest" in caplog.text
    assert train.main([*arguments, *by_hand, "--rerun_stale", "true"]) == 0
    assert "--max_frames 250" in (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert json.loads((corpus / "exp/t/nbest/quality.json").read_text())["scale"] == 0.5
    nbest_section(corpus, max_frames=100)
    assert train.main([*arguments, "--rerun_stale", "true"]) == 0
    log = (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert "--max_frames 100" in log and "--max_frames 200" not in log


def test_lists_for_a_second_mbr_stage(corpus: Path, arguments: list[str]) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["train_stages"]["second"] = {"loss": "mbr", "max_epoch": 1}
    names = ["align", "viterbi", "full_sum", "mbr", "second"]
    config["stage_scheduler_conf"] = {"stages": names}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 0
    exp = corpus / "exp/t"
    log = (exp / "nbest_second/logdir/log.1").read_text()
    assert f"--model_file {exp / 'mbr/valid.loss.ave.pth'}" in log
    command = (exp / "second/train.log").read_text().splitlines()[0]
    assert f"{exp / 'nbest_second/nbest'},nbest,text_int" in command
    assert str(exp / "nbest_second/shape/train/speech_shape") in command


def test_a_second_realignment_is_compared_with_the_one_before(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ALIGNMENT", "0 2 0 3 0 0")
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["train_stages"] |= {"again": {"loss": "viterbi", "max_epoch": 1}}
    config["stage_scheduler_conf"] = {"stages": ["align", "viterbi", "again"]}
    entries = [{"after": "viterbi", "batch_size": 3}, {"after": "again", "batch_size": 2}]
    config["alignment"]["realign"] = entries
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 0
    exp = corpus / "exp/t"
    for folder, size, before in (
        ("realignment", 3, "alignment"),
        ("realignment_again", 2, "realignment"),
    ):
        assert f"--batch_size {size}" in (exp / folder / "logdir/log.1").read_text()
        figures = json.loads((exp / folder / "quality.json").read_text())
        assert (figures["against"], figures["mean_shift"]) == (str(exp / before), 0.0)
