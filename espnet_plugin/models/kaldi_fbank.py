"""`--frontend kaldi_fbank`: Kaldi's log-mel filterbanks, as runtimes outside Python compute them.

Shape legend: B batch, L samples, T' feature frames, F mel channels.
"""

from __future__ import annotations

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor
from torchaudio.compliance import kaldi

from espnet_plugin.data.model_frames import parse_rate


class KaldiFbank(AbsFrontend):
    """Filterbanks by torchaudio's Kaldi compliance, whose numbers are Kaldi's.

    sherpa-onnx, and other runtimes over kaldi-native-fbank, compute the same from audio: a model
    trained with it can be exported (docs/export.md). No dither, Povey window, frames centred on
    multiples of the hop with mirrored edges (``snip_edges`` false), samples in [-1, 1].

    Args:
        fs: sampling rate, such as 16000 or "16k".
        n_mels: F.
        win_length, hop_length: samples.
        low_freq, high_freq: ends of the filters in Hz; a value of 0 or below counts from half of
            the sampling rate.

    Raises:
        ValueError: sizes below 1, or filters outside of half the sampling rate.
    """

    def __init__(
        self,
        fs: int | str = 16000,
        n_mels: int = 80,
        win_length: int = 400,
        hop_length: int = 160,
        low_freq: float = 20.0,
        high_freq: float = -400.0,
    ) -> None:
        super().__init__()
        rate = parse_rate(fs)
        if min(n_mels, win_length, hop_length) < 1:
            raise ValueError(
                f"frontend_conf of kaldi_fbank: {n_mels=} {win_length=} {hop_length=} must be "
                "positive"
            )
        top = high_freq if high_freq > 0 else rate / 2 + high_freq
        if not 0 <= low_freq < top <= rate / 2:
            raise ValueError(
                f"frontend_conf of kaldi_fbank: filters from {low_freq:g} to {top:g} Hz do not fit "
                f"into half of the sampling rate, {rate / 2:g} Hz"
            )
        self.fs, self.hop_length, self.win_length = rate, hop_length, win_length
        self.n_mels, self.low_freq, self.high_freq = n_mels, low_freq, high_freq

    def output_size(self) -> int:
        """F."""
        return self.n_mels

    def frames(self, samples: Tensor) -> Tensor:
        """Samples of each utterance [B] -> feature frames [B], at least 1."""
        return ((samples + self.hop_length // 2) // self.hop_length).clamp(min=1)

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples [B, L] and their lengths [B] -> [B, T', F] and lengths [B].

        Utterance by utterance, since each is mirrored at its own end.
        """
        options = {
            "sample_frequency": float(self.fs),
            "frame_length": 1000.0 * self.win_length / self.fs,
            "frame_shift": 1000.0 * self.hop_length / self.fs,
            "num_mel_bins": self.n_mels,
            "low_freq": self.low_freq,
            "high_freq": self.high_freq,
            "snip_edges": False,
            "dither": 0.0,
        }
        sizes = zip(input_lengths.tolist(), self.frames(input_lengths).tolist(), strict=True)
        rows = []
        for samples, (length, count) in zip(input.float(), sizes, strict=True):
            # less than a window cannot be mirrored; it is filled with silence
            missing = max(self.win_length - length, 0)
            samples = torch.nn.functional.pad(samples[:length], (0, missing))
            rows.append(kaldi.fbank(samples[None], **options)[:count])
        lengths = input_lengths.new_tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths
