"""The share of clipped updates is logged, and more than half of them is worth a warning."""

from __future__ import annotations

import logging

import pytest
from espnet2.train.reporter import Reporter

from espnet_plugin.tasks.clip_report import report_clipping


@pytest.mark.parametrize(
    ("clipped", "level"), [(0, "INFO"), (5, "INFO"), (6, "WARNING"), (10, "WARNING")]
)
def test_more_than_half_is_a_warning(
    clipped: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reporter = Reporter()
    reporter.set_epoch(3)
    with reporter.observe("train") as epoch:
        for number in range(10):
            epoch.register({"clip": 100.0 if number < clipped else 0.0})
            epoch.next()
        share = report_clipping(epoch, 5.0)
    assert share == 10.0 * clipped
    (record,) = caplog.records
    assert record.levelname == level and record.message.startswith("3epoch: ")
    if level == "WARNING":
        assert "gradient norm of 5" in record.message and "normalization: frames" in record.message


def test_no_update_no_share() -> None:
    reporter = Reporter()
    reporter.set_epoch(1)
    with reporter.observe("train") as epoch:
        epoch.register({"loss": 1.0})
        epoch.next()
        assert report_clipping(epoch, 5.0) is None
