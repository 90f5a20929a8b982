"""Numbers of batches against ESPnet's own samplers, and sizes of data that nobody has measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.planning.batches import epoch_batches
from espnet_plugin.planning.data_size import DataSize, assumed, measured


def random_data(count: int, dimension: int, vocabulary: int, seed: int) -> DataSize:
    generator = np.random.default_rng(seed)
    return DataSize(
        lengths=generator.integers(40, 3500, count),
        labels=generator.integers(1, 200, count),
        dimension=dimension,
        vocabulary=vocabulary,
        units_per_second=100.0,
        source="test",
    )


def espnets_batches(data: DataSize, options: dict[str, Any], smallest: int, folder: Path):
    from espnet2.samplers.build_batch_sampler import build_batch_sampler

    shapes = folder / "speech_shape", folder / "text_shape"
    keys = [f"utt{n:04d}" for n in range(len(data.lengths))]
    speech = "" if data.dimension == 1 else f",{data.dimension}"
    for path, values, more in zip(
        shapes, (data.lengths, data.labels), (speech, f",{data.vocabulary}"), strict=True
    ):
        path.write_text("".join(f"{k} {v}{more}\n" for k, v in zip(keys, values, strict=True)))
    sampler = build_batch_sampler(
        type=options["batch_type"],
        batch_size=options.get("batch_size", 20),
        batch_bins=options.get("batch_bins", 1000000),
        shape_files=[str(path) for path in shapes],
        fold_lengths=options.get("fold_length", [800, 150]),
        min_batch_size=smallest,
        sort_in_batch="descending",
    )
    length = dict(zip(keys, data.lengths.tolist(), strict=True))
    return [[length[key] for key in batch] for batch in sampler]


@pytest.mark.parametrize("count", [1, 7, 211])
@pytest.mark.parametrize("smallest", [1, 4])
@pytest.mark.parametrize(
    ("options", "dimension"),
    [
        ({"batch_type": "length", "batch_bins": 15000}, 1),
        ({"batch_type": "length", "batch_bins": 900}, 1),  # below most utterances
        ({"batch_type": "numel", "batch_bins": 150000}, 1),
        ({"batch_type": "numel", "batch_bins": 900000}, 26),
        ({"batch_type": "folded", "batch_size": 32}, 1),
        ({"batch_type": "folded", "batch_size": 3, "fold_length": [400, 20]}, 13),
        ({"batch_type": "sorted", "batch_size": 8}, 1),
    ],
)
def test_batches_are_espnets(
    count: int, smallest: int, options: dict[str, Any], dimension: int, tmp_path: Path
) -> None:
    if options["batch_type"] == "sorted" and smallest > 1:
        smallest = 1  # ESPnet's sorted batches know no smallest size
    data = random_data(count, dimension, 80, seed=count)
    theirs = espnets_batches(data, options, smallest, tmp_path)
    ours = epoch_batches(data, options, smallest)
    assert ours.count == len(theirs)
    if options["batch_type"] == "sorted":
        return
    padded = [len(batch) * max(batch) for batch in theirs]
    assert ours.largest_frames == max(padded)
    assert ours.mean_frames == pytest.approx(sum(padded) / len(padded))
    assert ours.most_utterances == max(map(len, theirs))


def test_the_length_of_an_epoch_may_be_given() -> None:
    data = random_data(50, 1, 80, seed=0)
    options = {"batch_type": "length", "batch_bins": 9000, "num_iters_per_epoch": 500}
    assert epoch_batches(data, options).count == 500


def test_an_unknown_batch_type_is_counted_as_length_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = random_data(50, 1, 80, seed=0)
    length, other = ({"batch_type": kind, "batch_bins": 9000} for kind in ("length", "catpow"))
    assert epoch_batches(data, other) == epoch_batches(data, length)
    assert "batch_type catpow: its batches are counted as those of length" in caplog.text


def options_for(folder: Path, feats_type: str = "raw", fs: int = 8000) -> RunOptions:
    return RunOptions(
        exp=folder / "exp",
        train_data=folder,
        valid_data=folder,
        stats_dir=folder,
        feats_type=feats_type,
        fs=fs,
        text_options={"token_type": "char"},
    )


def test_assumed_data_have_the_hours_and_lengths_asked_for(tmp_path: Path) -> None:
    data = assumed(300, 4.3, 9.0, 90, options_for(tmp_path))
    assert data.hours == pytest.approx(300, rel=1e-3)
    assert data.seconds_per_utterance == pytest.approx(4.3, rel=1e-3)
    assert data.labels_per_second == pytest.approx(9.0, rel=0.02)
    assert data.frames(8000) == 100  # samples of 8 kHz
    frames = assumed(1, 10, 5, 30, options_for(tmp_path, "extracted"), dimension=26)
    assert frames.frames(100) == 100 and frames.lengths.sum() == pytest.approx(360000, rel=0.01)
    with pytest.raises(ValueError, match="--hours must be positive"):
        assumed(0, 4.3, 9.0, 90, options_for(tmp_path))


def test_measured_data_come_from_the_statistics(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "speech_shape").write_text("a 16000\nb 8000\n")
    (folder / "text_shape.char").write_text("a 10,28\nb 2,28\n")
    data = measured(options_for(tmp_path), "train")
    assert data.hours * 3600 == pytest.approx(3.0) and data.vocabulary == 28
    assert data.labels_per_second == pytest.approx(4.0)
    (folder / "text_shape.char").write_text("a 10,28\n")
    with pytest.raises(ValueError, match="not the utterances of"):
        measured(options_for(tmp_path), "train")
    (folder / "speech_shape").write_text("a sixteen\n")
    with pytest.raises(ValueError, match="utterance a: not a shape: 'sixteen'"):
        measured(options_for(tmp_path), "train")
