"""Joint network and full-sum loss without the grid of logits.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank.

The grid [B, T, S+1, V] is what makes transducers run out of memory. Here the logits live in
chunks of a few megabytes: the forward pass keeps two numbers a cell, the backward pass computes
the logits again (docs/maths.md, section 4).
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.arguments import FullSumArguments, FullSumKeywords
from espnet_plugin.losses.backends import resolve_backend
from espnet_plugin.losses.engines.engine import (
    Engine,
    torch_engine,
    triton_engine,
    triton_fused_engine,
)
from espnet_plugin.losses.engines.fused_function import FusedFullSum, FusedOptions
from espnet_plugin.losses.engines.joint_inputs import Activation
from espnet_plugin.losses.full_sum import check_full_sum_inputs, full_sum_loss
from espnet_plugin.losses.reduction import reduce_path_losses
from espnet_plugin.nn import JointNetwork

_ENGINES = {"torch": torch_engine, "triton": triton_engine, "triton_fused": triton_fused_engine}


def fused_full_sum_loss(
    encoder_out: Tensor,
    prediction_out: Tensor,
    joint: JointNetwork,
    targets: Tensor,
    encoder_lengths: Tensor,
    target_lengths: Tensor,
    *,
    memory_budget: int | None = None,
    negligible: float | None = None,
    **keywords: Unpack[FullSumKeywords],
) -> Tensor:
    """Joint network and full-sum loss in one call, with O(chunk * V + T * S) extra memory.

    Args:
        encoder_out: [B, T, D_enc].
        prediction_out: [B, S+1, D_pred].
        joint: the joint network; its dropout is applied while it is training.
        targets: labels, [B, S]; padding may hold anything.
        encoder_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        memory_budget: bytes for the temporaries of one chunk (default: by device). On a CPU
            each of torch's threads, up to 16, has a chunk of its own in hand.
        negligible: see :class:`FusedOptions`; the default is the dtype's rounding, 0 computes
            the gradient of every cell that has any occupancy.
        keywords: as for :func:`full_sum_loss`, see `FullSumArguments`. Of a ``restriction``, cells
            outside are not computed at all; the backends ``torchaudio`` and ``warp_rnnt`` know no
            fused loss and build the whole grid.

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
        ImportError: the backend's package is not installed.
    """
    arguments = FullSumArguments(**keywords)
    options = arguments.options()
    grid = (encoder_out, prediction_out, joint)
    _check(*grid, targets, encoder_lengths, target_lengths, arguments)
    if options.restriction is not None:
        options.restriction.check(len(encoder_out), encoder_out.shape[1], prediction_out.shape[1])
    backend = resolve_backend(arguments.backend, encoder_out.device, options)
    if backend not in _ENGINES:
        logits = joint(encoder_out[:, :, None], prediction_out[:, None])  # [B, T, S+1, V]
        return full_sum_loss(logits, targets, encoder_lengths, target_lengths, **keywords)
    encoder_out = inputs.without_padding(encoder_out, encoder_lengths)
    prediction_out = inputs.without_padding(prediction_out, target_lengths.long() + 1)
    encoder = joint.project_encoder(encoder_out)  # [B, T, J]
    prediction = joint.project_prediction(prediction_out)  # [B, S+1, J]
    reduction = (arguments.reduction, arguments.infeasible)
    if encoder.shape[0] == 0:
        return reduce_path_losses(encoder.sum((1, 2)), *reduction)
    labels = inputs.clean_targets(targets, target_lengths, arguments.blank)
    labels = torch.nn.functional.pad(labels, (0, 1), value=arguments.blank)  # [B, S+1]
    fused = fused_options(joint, _ENGINES[backend](), memory_budget, negligible)
    output = (joint.output.weight, joint.output.bias)
    lengths = (encoder_lengths, target_lengths)
    with torch.autocast(encoder.device.type, enabled=False):
        losses: Tensor = FusedFullSum.apply(
            encoder, prediction, *output, labels, *lengths, options, fused
        )
        return reduce_path_losses(losses, *reduction)


def fused_options(
    joint: JointNetwork, engine: Engine, memory_budget: int | None, negligible: float | None
) -> FusedOptions:
    """What the joint network's mode, dtype and autocast say for the defaults."""
    weight = joint.output.weight
    kind = weight.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    activation: Activation | None = joint.activation
    if negligible is None:
        negligible = torch.finfo(weight.dtype).eps / 2 if weight.dtype == torch.float64 else 2**-24
    return FusedOptions(
        None if activation is torch.tanh else activation,
        joint.dropout.p if joint.training else 0.0,
        dtype,
        memory_budget,
        negligible,
        engine,
    )


def _check(
    encoder_out: Tensor,
    prediction_out: Tensor,
    joint: JointNetwork,
    targets: Tensor,
    encoder_lengths: Tensor,
    target_lengths: Tensor,
    arguments: FullSumArguments,
) -> None:
    inputs.check_floating("encoder_out", encoder_out, 3)
    inputs.check_floating("prediction_out", prediction_out, 3)
    if len(encoder_out) != len(prediction_out):
        raise ValueError(
            f"encoder_out has {len(encoder_out)} sequences, prediction_out {len(prediction_out)}"
        )
    inputs.check_same_device(
        encoder_out=encoder_out, prediction_out=prediction_out, joint=joint.output.weight
    )
    grid = (encoder_out.shape[1], prediction_out.shape[1], joint.output.out_features)
    check_full_sum_inputs(
        *(encoder_out, targets, encoder_lengths, target_lengths),
        *(grid, arguments.blank, arguments.check),
    )
    if arguments.check:
        inputs.check_finite("prediction_out", prediction_out)
