"""The report of finished, running and broken pipelines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.bin import report
from espnet_plugin.bin.main import main
from espnet_plugin.report.epoch_stats import EpochStats, read_epochs
from espnet_plugin.report.experiment import Alignment, Stage
from tests.disk_faults import full_disk

TOKENS = ["<blank>", "<unk>", "A", "B", "<space>", "<sos/eos>"]
PNG = b"\x89PNG\r\n\x1a\n"


def reporter(epochs: int, wer: float) -> dict[str, object]:
    """ESPnet's reporter state: WER falls by one per epoch."""
    stats = {
        n: {
            "train": {
                "loss": 10.0 - n,
                "optim0_lr0": 1e-3 / n,
                "time": {"__timedelta_seconds__": 2.0},
                "total_count": n,
            },
            "valid": {"loss": 11.0 - n, "wer": wer - n, "cer": float("nan"), "total_count": n},
        }
        for n in range(1, epochs + 1)
    }
    return {"epoch": epochs, "stats": stats}


def make_stage(exp: Path, name: str, epochs: int, wer: float) -> None:
    (exp / name).mkdir(parents=True)
    (exp / name / "config.yaml").write_text(yaml.safe_dump({"loss": name, "token_list": TOKENS}))
    torch.save({"reporter": reporter(epochs, wer)}, exp / name / "checkpoint.pth")


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two stages done, the third begun and without an epoch yet."""
    exp = tmp_path / "tag"
    make_stage(exp, "align", 3, 80.0)
    make_stage(exp, "viterbi", 2, 60.0)
    (exp / "full_sum").mkdir()
    (exp / "full_sum/train.log").write_text("nothing of interest\n")
    folder = exp / "alignment"
    folder.mkdir()
    (folder / "alignment").write_text("u1 0 2 0 3 0\nu2 2 4 3 0 0 0\nu3 0 0 0\n")
    (folder / "score").write_text("u1 -0.5\nu2 -0.25\nu3 -0.1\n")
    (folder / "quality.json").write_text(json.dumps({"labels": 5, "label_share": 5 / 14}))
    steps = {
        "train:align": {"status": "done", "seconds": 60.0, "folder": "align"},
        "job:alignment": {"status": "done", "seconds": 5.0, "folder": "alignment"},
        "train:viterbi": {"status": "done", "seconds": 7200.0, "folder": "viterbi"},
        "train:full_sum": {"status": "running", "seconds": 3.0, "folder": "full_sum"},
    }
    state = {"version": 1, "plan": list(steps), "steps": steps}
    (exp / "pipeline.json").write_text(json.dumps(state))
    return exp


def test_report_of_a_running_pipeline(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--exp", str(experiment)]) == 0
    assert capsys.readouterr().out.strip() == str(experiment / "report/report.md")
    text = (experiment / "report/report.md").read_text()
    assert "**Not finished:** train:full_sum (running)." in text
    assert "No test set has been scored yet." in text
    assert "|align|align|3|8.00|3|77.00|3|77.00|" in text
    assert "|viterbi|viterbi|2|9.00|2|58.00|2|58.00|" in text
    assert "|labels per frame|0.357|" in text
    assert "|train:viterbi|done|2|2:00:00|" in text
    for name in ("curves", "alignment", "times"):
        assert f"({name}.png)" in text
        assert (experiment / f"report/{name}.png").read_bytes().startswith(PNG)


def test_figures_of_the_lists(experiment: Path) -> None:
    for name, figures in (
        ("nbest", {"utterances": 6, "skipped": 1, "entries": 2.5, "expected_risk": 0.0123}),
        ("nbest_second", {"utterances": 5, "skipped": 2, "entries": 4.0, "first_share": 0.5}),
        ("nbest.stale.1", {"utterances": 9}),
    ):
        (experiment / name).mkdir()
        (experiment / name / "quality.json").write_text(json.dumps(figures))
    assert report.main(["--exp", str(experiment)]) == 0
    text = (experiment / "report/report.md").read_text()
    first, second = text.split("## N-best lists: nbest")[1:]
    assert "|distinct entries of a list|2.50|" in first and "|0.0123|" in first
    assert second.startswith("_second") and "|share with the reference first|0.500|" in second
    assert "stale" not in text


def test_error_rates_are_taken_from_the_results(experiment: Path) -> None:
    (experiment / "RESULTS.md").write_text(
        "# RESULTS\n## x\n### WER\n\n|dataset|Snt|\n|---|---|\n|mbr/test|7|\n"
        "\n### Training\n\n|s|\n"
    )
    assert report.main(["--exp", str(experiment)]) == 0
    text = (experiment / "report/report.md").read_text()
    assert "### WER\n\n|dataset|Snt|\n|---|---|\n|mbr/test|7|\n\nDetails" in text
    assert "### Training" not in text


def test_stages_without_a_pipeline(tmp_path: Path) -> None:
    make_stage(tmp_path / "tag", "full_sum", 1, 50.0)
    assert report.main(["--exp", str(tmp_path / "tag")]) == 0
    text = (tmp_path / "tag/report/report.md").read_text()
    assert "|full_sum|full_sum|1|" in text and "## Wall-clock" not in text


def test_a_pipeline_that_has_only_begun(tmp_path: Path) -> None:
    state = {"version": 1, "plan": ["train:align"], "steps": {"train:align": {"status": "running"}}}
    (tmp_path / "pipeline.json").write_text(json.dumps(state))
    assert report.main(["--exp", str(tmp_path)]) == 0
    assert "No epoch is finished yet." in (tmp_path / "report/report.md").read_text()


def test_a_half_written_alignment_is_left_out(
    experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (experiment / "alignment/alignment").write_text("u1 0 2 0\nu1 0 2 0\n")
    assert report.main(["--exp", str(experiment)]) == 0
    assert "## Alignment" not in (experiment / "report/report.md").read_text()
    assert "leaves out the alignment" in caplog.text


def test_bad_input(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert report.main(["--exp", str(tmp_path / "nothing")]) == 2
    assert "no such folder" in caplog.text
    assert report.main(["--exp", str(tmp_path)]) == 2
    assert "no train stage in it" in caplog.text


def test_statistics_from_the_log_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(
        "[host] 2026-11-22 10:00:00,1 (trainer:1) INFO: 1/40epoch started\n"
        "[host] 2026-11-22 10:00:00,1 (reporter:1) INFO: 1epoch results: [train] iter_time=1e-04, "
        "loss=165.2, optim0_lr0=1.000e-03, time=8.5 seconds, total_count=4, "
        "[valid] loss=nan, wer=100, time=1 minute and 2.3 seconds, total_count=1\n"
        "[host] 2026-11-22 10:00:00,1 (reporter:1) INFO: 2epoch results: [train] loss=3, "
        "time=8.5 seconds, total_count=8, [valid] wer=50.5, time=1 second, total_count=2, "
        "[att_plot] time=1 second, total_count=0\n"
    )
    first, second = read_epochs(tmp_path)
    assert first == EpochStats(
        1,
        {"iter_time": 1e-4, "loss": 165.2, "optim0_lr0": 1e-3, "total_count": 4},
        {"wer": 100, "total_count": 1},
    )
    assert (second.epoch, second.train["loss"], second.valid["wer"]) == (2, 3, 50.5)
    (tmp_path / "checkpoint.pth").write_bytes(b"cut off")  # then the log still counts
    assert len(read_epochs(tmp_path)) == 2


def test_curves_break_between_stages_and_count_epochs_through() -> None:
    from espnet_plugin.report.curves import training_curves

    def stage(name: str, losses: list[float]) -> Stage:
        epochs = [
            EpochStats(n, {"loss": x, "optim0_lr0": 1e-3}, {"loss": x + 1, "wer": 9.0})
            for n, x in enumerate(losses, 1)
        ]
        return Stage(name, {}, tuple(epochs))

    assert training_curves([Stage("align", {}, ())]) is None
    figure = training_curves([stage("align", [900.0, 5.0]), stage("mbr", [3.0]), stage("x", [])])
    assert figure is not None
    loss, errors, rate = figure.axes
    drawn = [line.get_xydata().tolist() for line in loss.lines]
    assert drawn == [[[1, 900], [2, 5]], [[3, 3]], [[1, 901], [2, 6]], [[3, 4]]]
    assert [text.get_text() for text in loss.texts] == ["align", "mbr"]
    assert loss.get_yscale() == "log" and errors.get_yscale() == rate.get_yscale() == "linear"
    assert loss.get_xlim() == (0.5, 3.5)


def test_settings_of_accelerators_have_a_panel() -> None:
    from espnet_plugin.report.curves import training_curves

    config = {"accelerators": {"layer_drop": {}, "precision": None}}
    settings = {"layer_drop_kept": 0.75, "precision_low": 1.0, "loss": 1.0}
    valid = {"wer": 9.0}
    stages = [
        Stage("align", config, (EpochStats(1, settings, valid), EpochStats(2, settings, valid))),
        Stage("viterbi", {}, (EpochStats(1, {"loss": 1.0}, valid),)),
    ]
    figure = training_curves(stages)
    assert figure is not None
    *_, strengths = figure.axes
    assert len(figure.axes) == 4
    assert [(line.get_label(), line.get_xydata().tolist()) for line in strengths.lines] == [
        ("layer_drop_kept", [[1, 0.75], [2, 0.75]])  # precision is switched off
    ]
    figure = training_curves(stages[1:])
    assert figure is not None and len(figure.axes) == 3


def test_alignment_plot_shows_good_and_bad_utterances() -> None:
    from espnet_plugin.report.alignment_plot import alignment_plot, choose

    labels = {f"u{n}": [0, 2, 4, 3] for n in range(9)} | {"empty": [0, 0], "long": [0] * 999 + [1]}
    alignment = Alignment(labels, {f"u{n}": -0.1 * n for n in range(9)}, {}, tuple(TOKENS))
    assert choose(alignment, 3) == ["u0", "u4", "u8"]
    figure = alignment_plot(alignment, 2)
    assert figure is not None and len(figure.axes) == 2
    names = [text.get_text() for text in figure.axes[0].texts]
    assert names == ["A", "␣", "B"]
    assert [text.xy[0] for text in figure.axes[0].texts] == [1, 2, 3]
    assert alignment_plot(Alignment({"empty": [0]}, {}, {}, ()), 3) is None


def test_a_full_disk_costs_no_report_that_was_there(
    experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert report.main(["--exp", str(experiment)]) == 0
    folder = experiment / "report"

    def pages() -> dict[str, bytes]:
        """All files, without the time of day that the page names."""
        return {p.name: re.sub(rb" \d\d:\d\d ", b" ", p.read_bytes()) for p in folder.iterdir()}

    before = pages()
    (folder / "report.md").write_text("an earlier report")
    for room in (0, 5000):  # of a page, and of a figure, which is larger
        with full_disk(room):
            assert main(["report", "--exp", str(experiment)]) == 2
        [message] = [record.getMessage() for record in caplog.records]
        caplog.clear()
        assert message.startswith(f"{folder}/") and "`ulimit -f`" in message
    assert (folder / "report.md").read_text() == "an earlier report"
    assert main(["report", "--exp", str(experiment)]) == 0
    assert pages() == before


def test_how_late_labels_come(experiment: Path) -> None:
    (experiment / "word_times").mkdir()
    (experiment / "word_times/lags").write_text("u1 0.100 -0.200 0.300 -0.400\nu2\nu3 0.2 -3\n")
    assert report.main(["--exp", str(experiment)]) == 0
    text = (experiment / "report/report.md").read_text()
    assert "Medians over 3 words: first label +200 ms (middle half +150 to +250)" in text
    assert "end of the last -400 ms" in text and "(lags.png)" in text
    assert (experiment / "report/lags.png").read_bytes().startswith(PNG)
