"""Do a front-end's values, which count samples, fit the sampling rate?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from espnet_plugin.data.model_frames import parse_rate

#: ESPnet's values, meant for 16 kHz; ``win_length`` is ``n_fft`` unless it is given.
DEFAULTS = {"n_fft": 512, "hop_length": 128}
#: Lengths that speech recognisers use, in ms, both ends included.
WINDOW, HOP = (15.0, 49.0), (5.0, 16.0)


def check_front_end(options: Mapping[str, Any], fs: int, where: str) -> None:
    """Hold ESPnet's log-mel front-end against the rate of the audio.

    Values that fit no recogniser are only warned of where ``frontend_conf`` names the rate itself.

    Args:
        options: of a train stage.
        fs: rate of the audio, Hz.
        where: the stage, for the message.

    Raises:
        ValueError: values of another rate, with what they should be.
    """
    kind = options.get("frontend", "default")
    conf = options.get("frontend_conf") or {}
    if kind is None:
        return
    named = parse_rate(conf["fs"]) if conf.get("fs") is not None else None
    wrong = [] if named in (None, fs) else [f"fs {named}"]
    unusual = _unusual(conf, fs) if kind == "default" else []
    if wrong or (unusual and named is None):
        window, hop = round(0.025 * fs), round(0.010 * fs)
        size = 1 << (window - 1).bit_length()
        raise ValueError(
            f"{where}: frontend_conf does not fit --fs {fs}: {'; '.join(wrong + unusual)}. For "
            f"this rate: {{n_fft: {size}, win_length: {window}, hop_length: {hop}}} (25 and 10 ms)"
            f". If the values are meant, name their rate in it: {{fs: {fs}}}"
        )
    for value in unusual:
        logging.warning("%s: frontend_conf: %s", where, value)


def _unusual(conf: Mapping[str, Any], fs: int) -> list[str]:
    size = conf.get("n_fft", DEFAULTS["n_fft"])
    window = conf.get("win_length") or size
    name = "win_length" if conf.get("win_length") else "n_fft"
    hop = conf.get("hop_length", DEFAULTS["hop_length"])
    found = []
    for key, samples, (least, most) in ((name, window, WINDOW), ("hop_length", hop, HOP)):
        length = 1000.0 * samples / fs
        if not least <= length <= most:
            origin = "" if key in conf else ", ESPnet's default for 16000 Hz,"
            found.append(
                f"{key} {samples}{origin} is {length:.3g} ms, where {least:g} to {most:g} are usual"
            )
    if conf.get("fmax") is not None and conf["fmax"] > fs / 2:
        found.append(f"fmax {conf['fmax']} Hz is above {fs / 2:g} Hz, half of the rate")
    return found
