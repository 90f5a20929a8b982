"""A synthetic recognition task for the search benchmark: fast to learn, with errors left to make.

Random label sequences; each label is heard as its own random vector over a few frames, with noise
loud enough to leave errors. The "encoder output" is that signal, so that only prediction and joint
network are trained, within a minute. Timing a search on untrained networks would be misleading:
how many hypotheses survive depends on how sure a model is.

Shapes: B batch, T frames, S labels, D encoder size, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn import JointNetwork, LSTMPrediction


@dataclass(frozen=True)
class Task:
    """Utterances of ``frames`` frames with about a label per four frames."""

    vocab: int
    frames: int = 100
    size: int = 64
    noise: float = 1.5

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(encoder output [B, T, D], targets [B, S], target lengths [B])."""
        prototypes = torch.randn(self.vocab, self.size, generator=torch.Generator().manual_seed(99))
        symbols = self.frames // 4
        targets = torch.randint(1, self.vocab, (count, symbols), generator=generator)
        lengths = torch.randint(symbols // 2, symbols + 1, (count,), generator=generator)
        signal = torch.randn(count, self.frames, self.size, generator=generator) * self.noise
        for b in range(count):
            starts = torch.randperm(self.frames // 3 - 1, generator=generator)[: lengths[b]]
            for s, start in enumerate((starts.sort().values * 3).tolist()):
                signal[b, start : start + 3] += prototypes[targets[b, s]]
        return signal, targets, lengths


def train(
    task: Task, steps: int, *, hidden: int = 128, topology: str = "rnnt", seed: int = 0
) -> tuple[LSTMPrediction, JointNetwork, float]:
    """An LSTM transducer for the task and its last average loss per label."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    prediction = LSTMPrediction(task.vocab, hidden, hidden)
    with torch.no_grad():  # ESPnet's decoder has no embedding of blank: start from zero there too
        prediction.embedding.weight[0] = 0.0
    joint = JointNetwork(task.size, hidden, hidden, task.vocab)
    parameters = [*prediction.lstm.parameters(), *prediction.embedding.parameters()]
    optimizer = torch.optim.Adam([*parameters, *joint.parameters()], lr=2e-3)
    average = 0.0
    for step in range(steps):
        signal, targets, symbols = task.batch(8, generator)
        frames = torch.full((8,), task.frames)
        logits = joint(signal[:, :, None], prediction(targets)[:, None])
        loss = full_sum_loss(logits, targets, frames, symbols, topology=topology, reduction="sum")
        loss = loss / symbols.sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = prediction.embedding.weight.grad
        assert gradient is not None
        gradient[0] = 0.0
        torch.nn.utils.clip_grad_norm_([*parameters, *joint.parameters()], 5.0)
        optimizer.step()
        average = 0.95 * average + 0.05 * loss.item() if step else loss.item()
        if step % 50 == 0:
            print(f"step {step}: loss per label {average:.3f}", flush=True)
    return prediction.eval(), joint.eval(), average
