"""A folder that sherpa-onnx's offline or online transducer loads: three networks, tokens.txt."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_plugin import __version__
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.export.onnx_files import (
    OLDEST_OPSET,
    Network,
    require,
    write_int8,
    write_network,
)
from espnet_plugin.export.parts import (
    EncoderPart,
    JointPart,
    OnlineEncoderPart,
    PredictionPart,
)
from espnet_plugin.models.kaldi_fbank import KaldiFbank
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.nn.encoder_stream import FACTOR
from espnet_plugin.nn.prediction import FeedForwardPrediction

#: sherpa-onnx turns it into a space.
WORD_BOUNDARY = "▁"
FILES = ("encoder.onnx", "decoder.onnx", "joiner.onnx", "tokens.txt", "export.json")
#: What sherpa-onnx's feature extractor does and cannot be told to do otherwise.
_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.010


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        opset: version of ONNX's operators.
        int8: also files with int8 weights.
        any_features: export although the runtime computes other features than the model's; who
            calls the encoder has to compute them.
        chunk: encoder frames of a chunk: the encoder of a stream, with states. None: offline.

    Raises:
        ValueError: an opset older than our operators.
    """

    opset: int = 17
    int8: bool = True
    any_features: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.opset < OLDEST_OPSET:
            raise ValueError(f"opset {self.opset} is too old; at least {OLDEST_OPSET} is needed")


def export_onnx(
    model: ProgressiveTransducerModel,
    arguments: argparse.Namespace,
    folder: Path,
    options: ExportOptions | None = None,
) -> list[Path]:
    """Write the folder.

    Args:
        model: in evaluation mode, on the CPU.
        arguments: of its training.
        folder: made if it is not there.
        options: the defaults.

    Returns:
        The files.

    Raises:
        ValueError: the model has a part that the runtime cannot run; names it.
        ImportError: onnx or onnxruntime are missing.
    """
    options = options or ExportOptions()
    require("onnx", "onnxruntime")
    context = _check_model(model)
    features = _check_features(model, options)
    folder.mkdir(parents=True, exist_ok=True)
    encoder, special = _encoder(model.eval(), features, options.chunk)
    networks = (encoder, *_label_networks(model, context))
    meta = {
        "model_author": "espnet-progressive",
        "version": __version__,
        "model_type": "conformer",
        "comment": f"{model.topology} transducer",
        "vocab_size": model.vocab_size,
        "context_size": context,
        "joiner_dim": model.joint_network.output.in_features,
        **special,
    }
    written = [write_network(network, folder, options.opset, meta) for network in networks]
    if options.int8:
        written += [write_int8(path) for path in list(written)]
    write_atomically(folder / "tokens.txt", _tokens(model, arguments))
    facts = _facts(model, features, options)
    write_atomically(folder / "export.json", json.dumps({**facts, **meta}, indent=1) + "\n")
    return [*written, folder / "tokens.txt", folder / "export.json"]


def _check_model(model: ProgressiveTransducerModel) -> int:
    """The context of the prediction network; raises ValueError for what cannot be run."""
    network = model.prediction
    if not isinstance(network, FeedForwardPrediction):
        raise ValueError(
            f"decoder {type(network).__name__}: sherpa-onnx calls a prediction network with the "
            "last labels alone, this one has a state; only feedforward_prediction is exported"
        )
    if model.criterion.searches_encoder:
        raise ValueError(
            "this model is an aligner: its transducer is not trained yet; export a later stage"
        )
    if model.topology != "monotonic":
        logging.warning(
            "topology %s: sherpa-onnx emits at most one label a frame, this model was trained to "
            "emit several; expect words to be missed in fast speech",
            model.topology,
        )
    return network.context


def _check_features(model: ProgressiveTransducerModel, options: ExportOptions) -> int:
    """Their number; raises ValueError where the runtime's own are others."""
    front_end: Any = model.frontend
    if not isinstance(front_end, KaldiFbank):
        if options.any_features:
            return model.feature_size()
        what = "extracted features" if front_end is None else type(front_end).__name__
        raise ValueError(
            f"the model was trained on {what}; sherpa-onnx computes Kaldi's filterbanks from "
            "audio: train with frontend: kaldi_fbank, or export with --any_features and compute "
            "the encoder's input yourself"
        )
    window = round(_WINDOW_SECONDS * front_end.fs), round(_HOP_SECONDS * front_end.fs)
    edges = (front_end.low_freq, front_end.high_freq)
    others = (front_end.win_length, front_end.hop_length) != window or edges != (20.0, -400.0)
    if others and not options.any_features:
        raise ValueError(
            "sherpa-onnx's filterbanks have windows of 25 ms every 10 ms from 20 Hz to 400 Hz "
            f"below half of the rate; the model's frontend_conf has win_length "
            f"{front_end.win_length}, hop_length {front_end.hop_length}, low_freq {edges[0]:g}, "
            f"high_freq {edges[1]:g}: train with its defaults, or export with --any_features"
        )
    return front_end.n_mels


def _encoder(
    model: ProgressiveTransducerModel, features: int, chunk: int | None
) -> tuple[Network, Mapping[str, Any]]:
    """The encoder, and metadata that belong to it."""
    if chunk is not None:
        return _online_encoder(model, features, chunk)
    batch, frames = {0: "N"}, {0: "N", 1: "T"}
    network = Network(
        "encoder",
        EncoderPart(model).eval(),
        (torch.randn(2, 131, features), torch.tensor([131, 97])),
        ("x", "x_lens"),
        ("encoder_out", "encoder_out_lens"),
        {"x": frames, "x_lens": batch, "encoder_out": frames, "encoder_out_lens": batch},
        padded=True,
    )
    return network, {}


def _online_encoder(
    model: ProgressiveTransducerModel, features: int, chunk: int
) -> tuple[Network, Mapping[str, Any]]:
    """sherpa-onnx knows few encoders by name; as an LSTM it carries any two states along."""
    part, frames = OnlineEncoderPart(model).eval(), FACTOR * chunk
    size, left = part.state_size, float(model.encoder.chunks_left())
    states = torch.randn(1, 2, size), torch.tensor([[[0.0], [left]]])
    batch, second = {0: "N"}, {1: "N"}
    network = Network(
        "encoder",
        part,
        (torch.randn(2, frames, features), *states),
        ("x", "states", "frames"),
        ("encoder_out", "next_states", "next_frames"),
        {"x": batch, "encoder_out": batch}
        | dict.fromkeys(("states", "frames", "next_states", "next_frames"), second),
    )
    meta = {"model_type": "lstm", "num_encoder_layers": 1, "d_model": size, "rnn_hidden_size": 1}
    return network, {**meta, "T": frames, "decode_chunk_len": frames}


def _label_networks(model: ProgressiveTransducerModel, context: int) -> tuple[Network, Network]:
    joint, batch = model.joint_network.output.in_features, {0: "N"}
    return (
        Network(
            "decoder",
            PredictionPart(model).eval(),
            (torch.tensor([[-1] * (context - 1) + [0], [1] * context]),),
            ("y",),
            ("decoder_out",),
            {"y": batch, "decoder_out": batch},
        ),
        Network(
            "joiner",
            JointPart(model).eval(),
            (torch.randn(2, joint), torch.randn(2, joint)),
            ("encoder_out", "decoder_out"),
            ("logit",),
            {"encoder_out": batch, "decoder_out": batch, "logit": batch},
        ),
    )


def _tokens(model: ProgressiveTransducerModel, arguments: argparse.Namespace) -> str:
    """tokens.txt: a token and its number a line; raises ValueError for tokens with blanks."""
    if getattr(arguments, "token_type", None) == "phn":
        logging.warning(
            "the labels are phonemes: sherpa-onnx will print them; words need the lexicon search "
            "of espnet-progressive decode"
        )
    space = getattr(arguments, "space_symbol", None) or "<space>"
    lines = []
    for number, token in enumerate(model.token_list):
        written = {"<blank>": "<blk>", space: WORD_BOUNDARY}.get(token, token)
        if len(written.split()) != 1:
            raise ValueError(f"token {number} is {token!r}: tokens.txt has no place for blanks")
        lines.append(f"{written} {number}\n")
    return "".join(lines)


def _facts(
    model: ProgressiveTransducerModel, features: int, options: ExportOptions
) -> Mapping[str, Any]:
    front_end: Any = model.frontend
    return {
        "feature_dim": features,
        "sample_rate": getattr(front_end, "fs", None),
        "runtime_computes_features": isinstance(front_end, KaldiFbank),
        "topology": model.topology,
        "opset": options.opset,
        "chunk": options.chunk,
    }
