"""Alignments on arrival: those that the alignment job makes of stored data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.data.stream.options import AlignOptions
from tests.tiny_model import TOKENS, write_model

Utterances = list[tuple[str, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("aligner"))[1]


@pytest.fixture
def utterances() -> Utterances:
    rng = np.random.default_rng(1)
    return [
        (
            f"u{n}",
            {
                "speech": rng.standard_normal((48 - 8 * n, 8)).astype(np.float32),
                "text": rng.integers(2, 5, 4),
            },
        )
        for n in range(3)
    ]


def load(options: AlignOptions) -> Any:
    from espnet2.train.collate_fn import CommonCollateFn

    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from espnet_plugin.tasks.stream_align import load_aligner

    return load_aligner(
        ProgressiveASRTask, options, CommonCollateFn(float_pad_value=0.0, int_pad_value=-1), "cpu"
    )


@pytest.mark.parametrize("scale", [0.0, 0.7])
def test_they_are_the_jobs(
    scale: float, model: Path, utterances: Utterances, tmp_path: Path
) -> None:
    from espnet2.train.collate_fn import CommonCollateFn

    from espnet_plugin.inference.batch_job import load_model
    from espnet_plugin.jobs.align import align_batch

    prior = torch.tensor([0.9, 0.02, 0.02, 0.02, 0.02, 0.02]).log()
    (tmp_path / "prior").write_text("".join(f"{value:.8f}\n" for value in prior.tolist()))
    aligner = load(AlignOptions(str(model), str(tmp_path / "prior"), scale))
    names, batch = aligner(utterances)
    assert names == ["u0", "u1", "u2"]
    args = argparse.Namespace(
        train_config=model.parent / "config.yaml", model_file=model, ngpu=0, source="encoder",
        prior_scale=scale, variants=False,
    )  # fmt: skip
    collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1)
    with torch.no_grad():
        paths, _, lengths = align_batch(
            load_model(args)[0], collate(utterances)[1], args, prior if scale else None
        )
    assert batch["alignment_lengths"].tolist() == lengths.tolist()
    for row, path, length in zip(batch["alignment"], paths, lengths.tolist(), strict=True):
        assert torch.equal(row[:length], path[:length])
        assert (path[:length] > 0).sum() == 4
    assert torch.equal(batch["text"], collate(utterances)[1]["text"])


def test_what_does_not_fit_is_left_out_by_name(
    model: Path, utterances: Utterances, caplog: pytest.LogCaptureFixture
) -> None:
    utterances[1][1]["text"] = np.full(30, 3)
    aligner = load(AlignOptions(str(model)))
    names, batch = aligner(utterances)
    assert names == ["u0", "u2"]
    assert len(batch["alignment"]) == 2
    assert "left out: ['u1']" in caplog.text
    with pytest.raises(ValueError, match="no utterance of a batch can be aligned, of u1 and 0 oth"):
        aligner(utterances[1:2])


def test_a_prior_of_other_labels_and_a_model_that_is_not_there(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prior").write_text("-1.0\n")
    with pytest.raises(ValueError, match=rf"has 1 numbers for {len(TOKENS)} tokens"):
        load(AlignOptions(str(model), str(tmp_path / "prior"), 0.3))
    with pytest.raises((ValueError, FileNotFoundError), match=r"nowhere\.pth|No such file"):
        load(AlignOptions(str(tmp_path / "nowhere.pth")))
