"""Rows of labels for a longer list of them."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.nn.vocabulary import ROWS, extend_vocabulary

OLD = ["<blank>", "<unk>", "a", "c", "<sos/eos>"]
NEW = ["<blank>", "<unk>", "a", "b", "c", "d", "<sos/eos>"]


def states() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "ctc.ctc_lo.weight": torch.randn(5, 3),
        "ctc.ctc_lo.bias": torch.randn(5),
        "intermediate_output.0.weight": torch.randn(5, 3),
        "joint_network.output.bias": torch.randn(5),
        "joint_network.encoder_proj.weight": torch.randn(5, 3),  # five by chance
        "decoder.prediction.embedding.weight": torch.randn(5, 2),
        "encoder.after_norm.bias": torch.randn(4),
    }


def test_the_same_labels_are_the_same_to_the_bit() -> None:
    given = states()
    found = extend_vocabulary(given, OLD, OLD)
    assert list(found) == list(given)
    assert all(torch.equal(found[name], value) for name, value in given.items())


def test_rows_go_with_their_labels() -> None:
    given = states()
    found = extend_vocabulary(given, OLD, NEW)
    for name, value in given.items():
        if not name.startswith(ROWS):
            assert found[name] is value
            continue
        assert len(found[name]) == len(NEW)
        for number, token in enumerate(OLD):
            assert torch.equal(found[name][NEW.index(token)], value[number])
        labels = value[1:4]  # <unk>, a, c
        for token in "bd":
            start = labels.min() if value.dim() == 1 else labels.mean(0)
            assert torch.equal(found[name][NEW.index(token)], start)
    assert {name for name in given if found[name] is not given[name]} == {
        *("ctc.ctc_lo.weight", "ctc.ctc_lo.bias", "intermediate_output.0.weight"),
        *("joint_network.output.bias", "decoder.prediction.embedding.weight"),
    }


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="lacks labels of the model: c"):
        extend_vocabulary(states(), OLD, [token for token in NEW if token != "c"])
    with pytest.raises(ValueError, match="has to begin with '<blank>'"):
        extend_vocabulary(states(), OLD, [*NEW[1:], NEW[0]])
    with pytest.raises(ValueError, match="5 rows for 4 tokens"):
        extend_vocabulary(states(), OLD[:4], NEW)
