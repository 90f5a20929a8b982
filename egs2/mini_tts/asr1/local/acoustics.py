"""From clean synthetic speech to a recording: sampling rate, silence, noise, level, file."""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly


@dataclass(frozen=True)
class Recording:
    """Conditions of one recording; `peak` is relative to full scale, silences are in seconds."""

    lead: float
    tail: float
    snr_db: float
    noise_slope: float
    peak: float
    noise_seed: int


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise [T] of unit power whose power spectrum falls as 1/f^slope."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    bins = np.arange(len(spectrum))
    bins[0] = 1  # the constant part must not divide by zero
    noise = np.fft.irfft(spectrum * bins ** (-slope / 2.0), samples)
    return noise / np.sqrt(np.mean(noise**2))


def record(speech: np.ndarray, rate: int, new_rate: int, recording: Recording) -> np.ndarray:
    """Return int16 samples [T'] at `new_rate` of `speech` [T] heard under the given conditions."""
    common = gcd(rate, new_rate)
    # The polyphase filter removes what lies above half the new rate.
    speech = resample_poly(speech, new_rate // common, rate // common)
    power = np.mean(speech**2)
    padding = [round(seconds * new_rate) for seconds in (recording.lead, recording.tail)]
    signal = np.pad(speech, padding)
    rng = np.random.default_rng(recording.noise_seed)
    noise = coloured_noise(len(signal), recording.noise_slope, rng)
    signal = signal + noise * np.sqrt(power / 10.0 ** (recording.snr_db / 10.0))
    signal *= recording.peak / np.abs(signal).max()
    return np.round(signal * 32767.0).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write int16 samples [T] as a mono file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    os.replace(partial, path)
