"""Time and memory of a few training steps on a random batch of a train stage's size.

Shape legend: B batch, T' feature frames, T encoder frames, S labels, N hypotheses.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from espnet_plugin.models.nbest_data import pack_nbest
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.models.variants import pack_variants
from espnet_plugin.nn.accelerators import Progress
from espnet_plugin.planning.probe_result import StageProbe
from espnet_plugin.tasks.progressive import ProgressiveASRTask

_NBEST = 4  # hypotheses an utterance, as the paper's lists have


class _ProbeTask(ProgressiveASRTask):
    """The task without data, of which there may be none yet."""

    @classmethod
    def training_labels(cls, args: argparse.Namespace) -> Iterator[Sequence[int]]:
        """Any: what a loss counts in them does not change its speed."""
        yield [len(args.token_list) // 2]


@dataclass(frozen=True)
class ProbeBatch:
    """The batch to make up.

    Attributes:
        utterances: B.
        length: of each utterance, in the data loader's unit (samples or feature frames).
        labels: S of each.
        frames: feature frames of 10 ms in all, for reports.
    """

    utterances: int
    length: int
    labels: int
    frames: float


def probe_stage(
    arguments: Sequence[str], batch: ProbeBatch, steps: int, device: torch.device
) -> StageProbe:
    """Build a stage's model as training does, and train it on one made-up batch.

    Args:
        arguments: of `asr_train`.
        steps: that are timed, after one that warms up and counts.
    """
    args = _ProbeTask.parse(arguments)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(args.use_tf32)
    model = _ProbeTask.build_model(args).to(device)
    optimizer = _ProbeTask.build_optimizers(args, model)[0]
    if model.accelerators:
        model.accelerators.before_batch(Progress(1, 1, 2, 1))  # as in the middle of the stage
    parameters = sum(p.numel() for p in model.parameters())
    try:
        data = random_batch(model, args, batch, device)
        return _measure(model, optimizer, args, data, batch, steps, device)
    except torch.OutOfMemoryError:
        return StageProbe(parameters=parameters, frames=batch.frames, error="out of memory")


def random_batch(
    model: Any, args: argparse.Namespace, batch: ProbeBatch, device: torch.device
) -> dict[str, Any]:
    """What the data loader would bring, alignment and N-best lists included."""
    count, vocabulary = batch.utterances, len(model.token_list)
    shape: tuple[int, ...] = (count, batch.length)
    if args.input_size is not None:
        shape = (*shape, args.input_size)
    text = torch.randint(1, vocabulary, (count, batch.labels))  # [B, S]
    data = {
        "speech": 0.1 * torch.randn(shape),
        "speech_lengths": torch.full((count,), batch.length),
        "text": text,
        "text_lengths": torch.full((count,), batch.labels),
    }
    needs = getattr(getattr(model, "criterion", None), "needs", ())
    if "alignment" in needs:
        assert isinstance(model, ProgressiveTransducerModel)
        data |= _alignment(model, data, device)
    if "variants" in needs:
        rows = [pack_variants([[[label]] for label in row]) for row in text.tolist()]
        data["variants"] = torch.tensor(rows)
        data["variants_lengths"] = torch.full((len(rows),), len(rows[0]))
    if "nbest" in needs:
        data |= _nbest_lists(text, vocabulary)
    return {key: value.to(device) for key, value in data.items()} | {
        "utt_id": [f"probe{n}" for n in range(count)]
    }


def _alignment(
    model: ProgressiveTransducerModel, data: dict[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Labels at even distances; as many as there are frames for."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        one = data["speech"][:1].to(device), data["speech_lengths"][:1].to(device)
        feats, lengths = model.features(*one)
        frames = int(model.encode_features(feats, lengths).lengths[0])  # T
    if model.criterion.chunking is not None:
        model.subsampling()  # once a training, no part of a step
    model.train(was_training)
    labels = min(frames, data["text"].size(1))
    data["text"] = data["text"][:, :labels]
    data["text_lengths"] = torch.full_like(data["text_lengths"], labels)
    alignment = torch.zeros(len(data["text"]), frames, dtype=torch.long)  # [B, T]
    alignment[:, torch.arange(labels) * frames // labels] = data["text"]
    return {
        "alignment": alignment,
        "alignment_lengths": torch.full((len(alignment),), frames),
    }


def _nbest_lists(text: Tensor, vocabulary: int) -> dict[str, Tensor]:
    """The reference and neighbours of it that differ in one label."""
    rows = []
    for reference in text.tolist():
        others = [list(reference) for _ in range(_NBEST)]
        for rank, other in enumerate(others[1:], 1):
            other[rank % len(other)] = 1 + (other[rank % len(other)] + rank) % (vocabulary - 1)
        rows.append(pack_nbest(others))
    flat = torch.tensor(rows)  # [B, L]
    scores = -torch.arange(_NBEST, dtype=torch.float).expand(len(rows), -1)
    return {
        "nbest": flat,
        "nbest_lengths": torch.full((len(rows),), flat.size(1)),
        "nbest_lm": scores,
        "nbest_lm_lengths": torch.full((len(rows),), _NBEST),
        "nbest_risk": -scores,
        "nbest_risk_lengths": torch.full((len(rows),), _NBEST),
    }


def _measure(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    args: argparse.Namespace,
    data: dict[str, Any],
    batch: ProbeBatch,
    steps: int,
    device: torch.device,
) -> StageProbe:
    cuda = device.type == "cuda"
    model.train()

    def forward() -> Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=cuda and bool(args.use_amp)):
            loss: Tensor = model(**data)[0]
        return loss.sum()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    flops, launches, activations = _count(model, forward)
    update()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    passes, updates = [], []
    for _ in range(max(1, steps)):
        passes.append(_timed(lambda: forward().backward(), device))
        updates.append(_timed(update, device))
    return StageProbe(
        parameters=sum(p.numel() for p in model.parameters()),
        frames=batch.frames,
        seconds=statistics.median(passes),
        optimizer_seconds=statistics.median(updates),
        flops=flops,
        launches=launches,
        state_bytes=_state_bytes(model, optimizer),
        activation_bytes=activations,
        peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
    )


class _Launches(TorchDispatchMode):
    """Counts what torch dispatches, but for views, which launch nothing."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def _count(model: nn.Module, forward: Callable[[], Tensor]) -> tuple[float, int, int]:
    """One step: operations of its products, dispatches, and bytes kept for the backward pass."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with _Launches() as launches, flop_counter() as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = forward()
        loss.backward()
    return float(counter.get_total_flops()), launches.count, sum(kept.values())


def flop_counter() -> FlopCounterMode:
    """torch's counter of operations, mended for the backward pass of grouped convolutions.

    torch 2.14 counts the weight's gradient of a depthwise convolution as if it had no groups.
    """
    mended = {torch.ops.aten.convolution_backward: _convolution_backward}
    return FlopCounterMode(display=False, custom_mapping=mended)


def _convolution_backward(
    grad_out: Sequence[int],
    inputs: Sequence[int],
    weight: Sequence[int],
    *rest: Any,
    **kwargs: Any,
) -> int:
    """Operations of input's and weight's gradient: each as many as the convolution itself has.

    Args:
        grad_out, inputs, weight: shapes.
        rest: bias, stride, padding, dilation, transposed, output padding, groups, and which
            gradients of input, weight and bias are wanted.
    """
    transposed, wanted = rest[4], rest[7]
    places = math.prod(inputs[2:] if transposed else grad_out[2:])
    return 2 * inputs[0] * places * math.prod(weight) * (bool(wanted[0]) + bool(wanted[1]))


def _timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds; on a CPU the processor time of this thread, so that other programs do not count."""
    if device.type != "cuda":
        begun = time.thread_time()
        action()
        return time.thread_time() - begun
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    action()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Parameters, buffers, gradients and what the optimizer remembers of each."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def product_rate(device: torch.device, size: int | None = None) -> float:
    """Floating-point operations per second of a float32 matrix product on this device."""
    size = size or (8192 if device.type == "cuda" else 1024)
    one = torch.randn(size, size, device=device)
    seconds = min(_timed(lambda: torch.mm(one, one), device) for _ in range(6))
    return 2.0 * size**3 / max(seconds, 1e-9)
