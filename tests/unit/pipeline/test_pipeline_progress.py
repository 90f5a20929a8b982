"""Reading ESPnet's train.log, as it is while it grows."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from espnet_plugin.pipeline.state.progress import LogTail, clock, epoch_line

STARTED = "[vm] 2026-11-22 16:{minute:02d}:00,5{n:02d} (trainer:320) INFO: {n}/4epoch started{x}\n"
RESULTS = (
    "[vm] 2026-11-22 16:{minute:02d}:59,000 (trainer:380) INFO: {n}epoch results: [train] "
    "iter_time=1.2e-04, loss=1.250e+03, loss_ctc=nan, optim0_lr0=8.000e-05, train_time=0.5, "
    "time=1 minute and 2.5 seconds, total_count=50, [valid] loss=-0.125, wer=45.200, cer=9.000e-04,"
    " time=3 seconds, total_count=10, [att_plot] time=1 second, total_count=0\n"
)


def test_epochs_statistics_and_estimate(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    tail = LogTail(log)
    assert tail.read() == []
    line = "(abs_task:1) INFO: [train] mini-batch sizes summary: N-batch=63, mean=13.5, min=3\n"
    log.write_text(line + STARTED.format(n=1, minute=10, x=""))
    assert tail.read() == [] and tail.batches == 63 and (tail.epoch, tail.max_epoch) == (1, 4)
    assert tail.seconds_left() is None
    with log.open("a") as stream:
        stream.write(RESULTS.format(n=1, minute=11))
        stream.write(STARTED.format(n=2, minute=12, x=". Estimated time to finish: 1 minute"))
        stream.write("half a line of 2epoch res")
    (result,) = tail.read()
    assert result.train["loss"] == 1250 and result.train["optim0_lr0"] == pytest.approx(8e-5)
    assert result.valid == {
        "loss": -0.125,
        "wer": 45.2,
        "cer": pytest.approx(9e-4),
        "time": 3,
        "total_count": 10,
    }
    assert tail.seconds_per_epoch() == 120
    assert tail.seconds_left(datetime(2026, 11, 22, 16, 12, 30)) == 3 * 120 - 30
    text = epoch_line("viterbi", result, tail, 62)
    assert "epoch   1/4" in text and "wer 45.200" in text and "elapsed 1:02" in text


def test_a_gap_between_attempts_is_no_epoch(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(
        "".join(STARTED.format(n=n, minute=m, x="") for n, m in ((1, 0), (2, 1), (2, 30), (3, 31)))
    )
    tail = LogTail(log)
    tail.read()
    assert tail.seconds_per_epoch() == 60


@pytest.mark.parametrize(("moved", "count"), [(True, 1), (True, 7), (False, 1)])
def test_a_log_that_begins_anew(tmp_path: Path, moved: bool, count: int) -> None:
    """ESPnet's launcher moves it away at every start; a batch system may write it anew."""
    log = tmp_path / "train.log"
    earlier = STARTED.format(n=1, minute=10, x="")
    log.write_text(earlier + RESULTS.format(n=1, minute=11) * 3)
    at_end, reading = LogTail.at_end(log), LogTail(log)
    assert at_end.read() == [] and len(reading.read()) == 3
    if moved:
        log.rename(tmp_path / "train.1.log")
        assert at_end.read() == [] and reading.read() == []
    log.write_text(STARTED.format(n=2, minute=12, x="") + RESULTS.format(n=2, minute=13) * count)
    for tail in (at_end, reading):
        assert [result.epoch for result in tail.read()] == [2] * count
        assert tail.epoch == 2 and tail.read() == []


def test_what_a_log_has_of_earlier_runs_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(RESULTS.format(n=1, minute=11))
    tail = LogTail.at_end(log)
    with log.open("a") as stream:
        stream.write(RESULTS.format(n=2, minute=13))
    assert [result.epoch for result in tail.read()] == [2]


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3600, 36061)] == [
        "0:00", "1:00", "1:01", "1:00:00", "10:01:01",
    ]  # fmt: skip
