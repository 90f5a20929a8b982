"""Sentencepiece models without the paths of the machine that trained them."""

from __future__ import annotations

from pathlib import Path


def portable_subwords(path: Path) -> bytes | None:
    """A sentencepiece model without its training files' paths; None if it is no such model.

    The pieces and their scores, all that segmentation depends on, stay as they are.
    """
    if path.suffix != ".model":
        return None
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError:
        return None
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception:  # protobuf's DecodeError: a file that is called .model and is something else
        return None
    if not model.pieces:
        return None
    for name in ("input", "model_prefix"):
        model.trainer_spec.ClearField(name)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
