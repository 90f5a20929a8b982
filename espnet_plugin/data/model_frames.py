"""How many frames a model makes of an utterance, from its ESPnet configuration.

Without torch, so that the data check starts at once: its workers and its command need only numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Subsampling(NamedTuple):
    """T = floor((T' - offset) / factor), the rule of `espnet_plugin.nn.chunking.Subsampling`."""

    factor: int
    offset: int


# T = floor((T' - offset) / factor) of ESPnet's input layers without padding
INPUT_LAYERS = {
    "linear": Subsampling(1, 0),
    "conv2d1": Subsampling(1, 4),
    "conv2d2": Subsampling(2, 5),
    "conv2d": Subsampling(4, 3),
    "conv2d6": Subsampling(6, 5),
    "conv2d8": Subsampling(8, 7),
}
_OWN_FRONT_END = {"progressive_conformer": Subsampling(4, -3)}  # pads: T = ceil(T'/4)
_WITH_INPUT_LAYER = ("conformer", "transformer", "e_branchformer", "branchformer")


@dataclass(frozen=True)
class ModelFrames:
    """From speech to encoder frames.

    Attributes:
        fs: sampling rate in Hz the model expects; None if it is not known.
        hop: samples per feature frame; None for extracted features.
        subsampling: feature frames to encoder frames; None if it is not known.
        centred: Kaldi's count of frames, one around each multiple of the hop; else ESPnet's STFT.
    """

    fs: int | None = None
    hop: int | None = None
    subsampling: Subsampling | None = None
    centred: bool = False

    def feature_frames(self, length: int) -> int:
        """T' of `length` samples (or feature frames, without a hop)."""
        if self.hop is None:
            return length
        if self.centred:
            return max((length + self.hop // 2) // self.hop, 1)
        return length // self.hop + 1  # it pads by half a window at both ends

    def encoder_frames(self, length: int) -> int | None:
        """T of `length` samples (or feature frames, without a hop); None if it is not known."""
        if self.subsampling is None:
            return None
        frames = self.feature_frames(length)
        return max((frames - self.subsampling.offset) // self.subsampling.factor, 0)


def parse_rate(value: Any) -> int:
    """``16000`` or ``16k`` -> 16000.

    Raises:
        ValueError: anything else.
    """
    text = str(value).lower().removesuffix("hz").strip()
    try:
        rate = float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ValueError(f"{value!r} is not a sampling rate such as 16000 or 16k")
    return round(rate)


def parse_subsampling(value: str) -> Subsampling:
    """``4,3`` -> factor 4, offset 3.

    Raises:
        ValueError: anything else.
    """
    try:
        factor, offset = (int(part) for part in value.split(","))
    except ValueError:
        raise ValueError(f"{value!r} is not FACTOR,OFFSET such as 4,3") from None
    if factor < 1:
        raise ValueError(f"subsampling factor {factor} is below 1")
    return Subsampling(factor, offset)


def frames_from_config(config: Mapping[str, Any], feats_type: str) -> ModelFrames:
    """Read the rule off an ESPnet ASR configuration; unknown encoders give no subsampling."""
    encoder = str(config.get("encoder", "rnn"))
    layer = str((config.get("encoder_conf") or {}).get("input_layer", "conv2d"))
    subsampling = _OWN_FRONT_END.get(encoder)
    if encoder in _WITH_INPUT_LAYER:
        subsampling = INPUT_LAYERS.get(layer)
    if feats_type != "raw":
        return ModelFrames(subsampling=subsampling)
    front_end = config.get("frontend_conf") or {}
    fs = parse_rate(front_end.get("fs", 16000))
    centred = config.get("frontend") == "kaldi_fbank"
    hop = int(front_end.get("hop_length", 160 if centred else 128))
    return ModelFrames(fs, hop, subsampling, centred)
