"""Where somebody speaks: Silero VAD, whose model comes with its package (no download)."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import soxr
import torch

from espnet_plugin.transcription.spans import Span

_RATES = (8000, 16000)  # what the detector takes


@functools.cache
def _silero() -> tuple[Any, Any]:
    threads = torch.get_num_threads()
    try:
        import silero_vad
    except ImportError as error:
        raise ValueError(
            "--segmentation vad needs a package: pip install silero-vad; or take windows"
        ) from error
    torch.set_num_threads(threads)  # importing it sets them to one
    with warnings.catch_warnings():  # of what it calls, which is not ours to change
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return silero_vad.load_silero_vad(), silero_vad.get_speech_timestamps


def speech_regions(
    samples: np.ndarray, rate: int, longest: float, *, threshold: float = 0.5
) -> list[Span]:
    """Stretches of speech of at most `longest` seconds, cut at their longest pause where needed.

    Args:
        samples: float32 [L].
        rate: samples per second.
        longest: seconds.
        threshold: probability of speech from which on it counts as such.

    Raises:
        ValueError: silero-vad is not installed.
    """
    model, timestamps = _silero()
    if rate not in _RATES:
        samples, rate = soxr.resample(samples, rate, _RATES[-1]), _RATES[-1]
    found = timestamps(
        torch.from_numpy(np.ascontiguousarray(samples)),
        model,
        threshold=threshold,
        sampling_rate=rate,
        max_speech_duration_s=longest,
        min_silence_duration_ms=200,
        speech_pad_ms=0,
    )
    return [Span(region["start"] / rate, region["end"] / rate) for region in found]
