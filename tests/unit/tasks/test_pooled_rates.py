"""Validation error rates are those of the whole set, whatever the batches' weights."""

from __future__ import annotations

import pytest
import torch
from espnet2.train.reporter import Reporter

from espnet_plugin.models.error_rates import ErrorRates
from espnet_plugin.tasks.pooled_rates import pool_error_rates
from tests.unit.models.test_progressive import build, data


def test_rates_of_a_set_are_errors_over_references():
    reporter = Reporter()
    reporter.set_epoch(1)
    # (errors, references, weight): 11 errors in 110 labels; the average by weights is 15.45
    with reporter.observe("valid") as sub:
        for errors, references, weight in ((10, 50, 3.0), (1, 60, 4.0), (0, 0, 1e-6)):
            rates = {"cer": 100.0 * errors / max(references, 1)}
            rates |= {"cer_errors": errors / weight, "cer_references": references / weight}
            sub.register({"loss": 1.0, **rates}, weight)
            sub.next()
        pool_error_rates(sub)
    assert reporter.get_value("valid", "cer") == pytest.approx(10.0, rel=1e-6)
    assert reporter.get_value("valid", "loss") == pytest.approx(1.0)
    assert reporter.get_keys2("valid") == ("loss", "cer")


def test_two_processes_give_the_rate_of_one():
    """What ESPnet's recursive_average makes of two processes' parts of a batch."""
    parts = [(4, 20, 2.0), (3, 50, 8.0)]
    weight = sum(w for _, _, w in parts)
    errors, references = (
        sum(part[k] / part[2] * part[2] for part in parts) / weight for k in (0, 1)
    )
    reporter = Reporter()
    reporter.set_epoch(1)
    with reporter.observe("valid") as sub:
        sub.register({"wer": 1.0, "wer_errors": errors, "wer_references": references}, weight)
        sub.next()
        pool_error_rates(sub)
    assert reporter.get_value("valid", "wer") == pytest.approx(10.0)


def test_the_model_reports_counts_by_its_weight(monkeypatch):
    model = build(loss="full_sum", loss_conf={"normalization": "frames"}).eval()
    monkeypatch.setattr(model, "greedy", lambda frames, lengths: [[3, 4, 2, 4], []])
    _, stats, weight = model(**data())
    assert weight.item() == 12 + 9  # encoder frames
    # references "a b c" with spaces: 4 and 2 labels; one substitution and two deletions
    assert stats["cer_errors"].item() * weight.item() == pytest.approx(3)
    assert stats["cer_references"].item() * weight.item() == pytest.approx(6)
    assert stats["cer"].item() == pytest.approx(50.0)


def test_error_rates_count():
    rates = ErrorRates(["<blank>", "<unk>", "<space>", "a", "b"])
    counts = rates([[3, 2, 4], [4]], torch.tensor([[3, 2, 3], [4, 4, 0]]), torch.tensor([3, 2]))
    assert counts == {"cer": (2, 5), "wer": (2, 3)}
