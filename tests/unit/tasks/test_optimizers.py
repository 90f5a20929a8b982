"""Lion against its equations, one number at a time."""

from __future__ import annotations

import copy

import pytest
import torch

from espnet_plugin.tasks.optimizers import Lion

RATE, FIRST, SECOND, DECAY = 0.01, 0.9, 0.99, 0.1


def test_fifty_steps_of_a_scalar_loop() -> None:
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    optimizer = Lion([weights], RATE, (FIRST, SECOND), DECAY)
    expected, momenta = weights.tolist(), [0.0] * 5
    for step in range(50):
        gradients = torch.randn(5, dtype=torch.float64)
        gradients[0] = 0.0  # its momentum stays 0, and so does the sign
        weights.grad = gradients.clone()
        optimizer.step()
        if step == 20:  # a resume
            again = Lion([weights], 1.0)
            again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer = again
        for n, g in enumerate(gradients.tolist()):
            interpolated = FIRST * momenta[n] + (1 - FIRST) * g
            sign = (interpolated > 0) - (interpolated < 0)
            expected[n] -= RATE * (sign + DECAY * expected[n])
            momenta[n] = SECOND * momenta[n] + (1 - SECOND) * g
    torch.testing.assert_close(weights.tolist(), expected, rtol=1e-12, atol=1e-12)


def test_weights_without_gradient_stay_as_they_are() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    Lion([weights], RATE, weight_decay=DECAY).step()
    assert weights.tolist() == [1.0, 1.0]


def test_a_closure_is_evaluated_with_gradients() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = Lion([weights], RATE)

    def closure() -> torch.Tensor:
        loss = weights.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    torch.testing.assert_close(weights.tolist(), [1.0 - RATE] * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "must not be negative"),
        ({"weight_decay": -0.1}, "must not be negative"),
        ({"betas": (0.9, 1.0)}, r"in \[0, 1\)"),
        ({"betas": (0.9,)}, "two numbers"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"lion: .*{message}"):
        Lion([torch.nn.Parameter(torch.ones(1))], **options)  # type: ignore[arg-type]
