"""The front-end kaldi_fbank against kaldi-native-fbank, the runtime's own features."""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import pytest
import torch

from espnet_plugin.data.model_frames import frames_from_config
from espnet_plugin.models.kaldi_fbank import KaldiFbank


def native(samples: np.ndarray, rate: int, mels: int) -> np.ndarray:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = mels
    options.mel_opts.low_freq, options.mel_opts.high_freq = 20.0, -400.0
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(rate, samples.tolist())
    bank.input_finished()
    return np.array([bank.get_frame(n) for n in range(bank.num_frames_ready)])


@pytest.mark.parametrize(("rate", "mels"), [(16000, 80), (8000, 40)])
def test_numbers_are_kaldis_whatever_lies_beside_an_utterance(rate: int, mels: int) -> None:
    generator = np.random.default_rng(0)
    lengths = [rate, rate // 2 + 37, 777]
    speech = np.full((3, rate), 9.0, np.float32)  # padding that must not be heard
    for row, length in zip(speech, lengths, strict=True):
        row[:length] = 0.1 * generator.standard_normal(length)
    options = {"win_length": rate // 40, "hop_length": rate // 100}
    front_end = KaldiFbank(rate, mels, **options)
    found, frames = front_end(torch.from_numpy(speech), torch.tensor(lengths))
    assert front_end.output_size() == found.shape[2] == mels
    assert frames.tolist() == front_end.frames(torch.tensor(lengths)).tolist()
    for row, samples, length, count in zip(found, speech, lengths, frames.tolist(), strict=True):
        wanted = native(samples[:length], rate, mels)
        assert len(wanted) == count
        assert np.abs(row[:count].numpy() - wanted).max() < 1e-3


@pytest.mark.parametrize("length", [1, 79, 80, 399, 400])
def test_the_shortest_utterances_have_frames_too(length: int) -> None:
    front_end = KaldiFbank()
    found, frames = front_end(torch.zeros(1, length), torch.tensor([length]))
    assert found.shape[1] == int(frames) == max((length + 80) // 160, 1)
    assert bool(found.isfinite().all())


def test_the_data_check_counts_its_frames() -> None:
    config = {"frontend": "kaldi_fbank", "encoder": "progressive_conformer"}
    model = frames_from_config(config, "raw")
    assert (model.fs, model.hop) == (16000, 160)
    counts = KaldiFbank().frames(torch.tensor([100, 16000, 16079, 16080]))
    wanted = [-(-n // 4) for n in counts.tolist()]
    assert [model.encoder_frames(n) for n in (100, 16000, 16079, 16080)] == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_mels": 0}, "must be positive"),
        ({"high_freq": 9000.0}, "do not fit into half of the sampling rate, 8000 Hz"),
        ({"fs": "fast"}, "not a sampling rate"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KaldiFbank(**options)
