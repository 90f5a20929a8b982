"""From clean synthetic speech to a recording: sampling rate, silence, noise, level, file."""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np


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


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return `samples` [T] at `new_rate`: its spectrum, cut off at half of the lower rate.

    The Fourier transform takes its input for periodic; zeros at the end keep the end of a sentence
    from ringing into its beginning, and make both lengths whole numbers of samples.
    """
    common = gcd(rate, new_rate)
    old_step, new_step = rate // common, new_rate // common
    blocks = -(-(len(samples) + rate // 10) // old_step)
    spectrum = np.fft.rfft(samples, blocks * old_step)
    kept = min(blocks * old_step, blocks * new_step) // 2
    spectrum[kept:] = 0.0
    new_length = -(-len(samples) * new_step // old_step)
    # irfft cuts or pads the spectrum to the new length; the values scale with the lengths' ratio.
    return np.fft.irfft(spectrum, blocks * new_step)[:new_length] * (new_step / old_step)


def quick_length(samples: int) -> int:
    """Return the next length, up to a seventh longer, whose Fourier transform is quick."""
    powers = [1 << bits for bits in range(samples.bit_length() + 1)]
    return min(
        odd * power for odd in (1, 3, 5, 7, 9, 15) for power in powers if odd * power >= samples
    )


def record(
    speech: np.ndarray, rate: int, new_rate: int, recording: Recording, quick: bool = False
) -> np.ndarray:
    """Return int16 samples [T'] at `new_rate` of `speech` [T] heard under the given conditions.

    Args:
        quick: make a little more noise than is needed, in a quarter of the time; it is other noise.
    """
    speech = resample(speech, rate, new_rate)
    power = np.mean(speech**2)
    padding = [round(seconds * new_rate) for seconds in (recording.lead, recording.tail)]
    signal = np.pad(speech, padding)
    rng = np.random.default_rng(recording.noise_seed)
    samples = quick_length(len(signal)) if quick else len(signal)
    noise = coloured_noise(samples, recording.noise_slope, rng)
    signal = signal + noise[: len(signal)] * np.sqrt(power / 10.0 ** (recording.snr_db / 10.0))
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
