"""`distill`: a model that goes on learning keeps to what it said before (IncCTR, arXiv 2009.02147).

L = L_stage + weight / n * sum over frames t of KL(q_t || p_t)

q_t is what the trained model says of its own best path at frame t: over blank and its labels, after
the labels that it has emitted before t. p_t is what the training model says there of these labels
alone, whatever new ones it has; n is what the stage's own loss is divided by. Both see the same
features, with SpecAugment's masks. Only the T cells of the path are computed, no grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host
from espnet_plugin.nn.vocabulary import places_of


class Distill(Accelerator):
    """A term of the loss that compares the joint network's outputs with a trained model's.

    Args:
        model: the trained model: a packed one, an experiment's folder or a model file.
        weight: of the term; 0 leaves it out.

    Raises:
        ValueError: a negative weight.
    """

    losses = ("viterbi", "full_sum")

    def __init__(self, model: str, weight: float = 0.5) -> None:
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}")
        self._source, self._weight = str(model), float(weight)
        self._teacher: Any = None
        self._model: Any = None
        self._rows = torch.zeros(0, dtype=torch.long)
        self._seen: tuple[Tensor, Tensor, Any] | None = None

    def attach(self, host: Host) -> None:
        """Loads the trained model and listens to the encoder."""
        if not self._weight:
            return
        if host.load_model is None:
            raise ValueError("nobody here can load a trained model")
        model: Any = host.model
        teacher: Any = host.load_model(self._source)
        _check_same_frames(model, teacher, self._source)
        device = next(model.parameters()).device
        try:
            self._rows = places_of(teacher.token_list, model.token_list).to(device)
        except ValueError as error:
            raise ValueError(f"{self._source}: {error}") from error
        self._model, self._teacher = model, teacher.to(device).eval().requires_grad_(False)
        plain = self._model.encode_features

        def encode_features(feats: Tensor, lengths: Tensor) -> Any:
            output = plain(feats, lengths)
            if self._model.training and torch.is_grad_enabled():
                self._seen = feats.detach(), lengths, output
            return output

        self._model.encode_features = encode_features

    def loss_term(self, batch: Mapping[str, Any], weight: Tensor) -> Tensor | None:
        """See the module's equation."""
        if not self._weight:
            return None
        assert self._seen is not None
        (feats, lengths, output), self._seen = self._seen, None
        with torch.no_grad():
            theirs = self._teacher.encode_features(feats.float(), lengths)
            paths = self._teacher.transducer_greedy(theirs.frames, theirs.lengths)
            labels, states = path_states(paths, theirs.frames.size(1), feats.device)
            said = cell_logits(self._teacher, theirs.frames, labels, states)  # [B, T, V_old]
        ours = cell_logits(self._model, output.frames.float(), self._rows[labels], states)
        valid = torch.arange(said.size(1), device=feats.device) < theirs.lengths[:, None]  # [B, T]
        total = divergence(ours[valid][:, self._rows], said[valid]).sum()
        return self._weight * total / weight


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(q || p) of each row: both [N, V] unnormalised, in float32 at least -> [N]."""
    double = torch.float64 in (logits.dtype, teacher.dtype)
    dtype = torch.float64 if double else torch.float32
    ours, theirs = logits.to(dtype).log_softmax(-1), teacher.to(dtype).log_softmax(-1)
    return nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)


def path_states(paths: Sequence[Any], frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Labels [B, S] of best paths, padded with 0, and how many come before each frame, [B, T].

    Args:
        paths: with `tokens` and the `frames` that they are on, of each utterance.
    """
    most = max((len(path.tokens) for path in paths), default=0)
    labels = torch.zeros(len(paths), most, dtype=torch.long)
    counts = torch.zeros(len(paths), frames + 1, dtype=torch.long)
    for row, path in enumerate(paths):
        labels[row, : len(path.tokens)] = torch.tensor(path.tokens, dtype=torch.long)
        for frame in path.frames:
            counts[row, frame + 1] += 1
    return labels.to(device), counts.cumsum(1)[:, :frames].to(device)


def cell_logits(model: Any, frames: Tensor, labels: Tensor, states: Tensor) -> Tensor:
    """The joint network at one of the states of each frame: [B, T, D], [B, T] -> [B, T, V]."""
    prediction = model.prediction(labels)  # [B, S+1, P]
    rows = torch.arange(len(states), device=states.device)[:, None]
    logits: Tensor = model.joint_network(frames, prediction[rows, states])
    return logits


def _check_same_frames(own: Any, teacher: Any, source: str) -> None:
    if getattr(own, "subsampling", None) is None or getattr(teacher, "subsampling", None) is None:
        raise ValueError(f"{source}: it works with model progressive_transducer alone")
    if getattr(own.criterion, "chunking", None) is not None:
        raise ValueError(
            "it follows paths from an utterance's beginning; set loss_conf: {chunk_size: 0} in "
            "this stage, or leave it out here"
        )
    for what, of in (
        ("features a frame", lambda m: m.feature_size()),
        ("subsampling", lambda m: tuple(vars(m.subsampling()).values())),
        ("topology", lambda m: m.topology),
    ):
        if of(own) != of(teacher):
            raise ValueError(
                f"{source}: has {what} {of(teacher)}, this model {of(own)}; distil from the model "
                "that this one starts from"
            )
