"""`sparse`: masks, their exploration, and what never leaves them."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host, Progress
from espnet_plugin.nn.accelerators.sparse import active_counts, explored
from tests.unit.nn.test_accelerators import Model as NoFeedForward
from tests.unit.nn.test_ticket import SIZE, Model

BATCHES = 6


def attached(model: nn.Module, **options: Any) -> AttachedAccelerators:
    host = Host(model, list(model.encoders), "full_sum", 1)
    return AttachedAccelerators({"sparse": {"sparsity": 0.75, **options}}, host)


class Training:
    """The first two of four epochs of six batches, with momentum and weight decay."""

    def __init__(self, accum_grad: int = 1, **options: Any) -> None:
        self.model = Model()
        self.accelerators = attached(self.model, **{"alpha": 0.9, **options})
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.05, weight_decay=0.1)
        self.accelerators.attach_optimizers([self.optimizer])
        self.accum_grad = accum_grad
        (self.sparse,) = self.accelerators._by_name.values()

    def run(self, epochs: range = range(1, 3), each: Any = lambda: None) -> None:
        for epoch in epochs:
            torch.manual_seed(epoch)
            self.optimizer.zero_grad()
            for number in range(BATCHES):
                self.accelerators.before_batch(Progress(epoch, number, BATCHES, 4, self.accum_grad))
                self.model(x=torch.randn(5, SIZE))[0].backward()
                if (number + 1) % self.accum_grad == 0:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    each()


def test_erdos_renyi_counts() -> None:
    counts = active_counts({"a": (10, 10), "b": (10, 40), "c": (2, 2)}, 0.25)
    assert sum(counts.values()) == 126 and counts["c"] == 4  # c is full
    # of the rest, 122 in proportion to 20 and 50
    assert counts == {"a": round(122 * 20 / 70), "b": round(122 * 50 / 70), "c": 4}
    assert active_counts({"a": (3, 5), "b": (7, 2)}, 1.0) == {"a": 15, "b": 14}


def test_an_exploration_by_hand() -> None:
    weight = torch.tensor([[5.0, -1.0, 0.0], [2.0, 0.0, 0.0]])
    mask = weight != 0
    gradient = torch.tensor([[9.0, 9.0, 0.5], [9.0, -3.0, 2.0]])
    new = explored(weight, mask, gradient, 1 / 3, None)
    assert new.tolist() == [[True, False, False], [True, True, False]]
    assert torch.equal(explored(weight, mask, gradient, 0.0, None), mask)
    everything = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(explored(weight, everything, gradient, 0.5, None), everything)


def test_a_subset_is_looked_at_and_its_largest_gradients_grow() -> None:
    torch.manual_seed(0)
    weight = torch.randn(40, 50)
    mask = torch.rand(40, 50) < 0.1
    weight, gradient = weight * mask, torch.randn(40, 50)
    new = explored(weight, mask, gradient, 0.2, torch.Generator().manual_seed(3))
    assert new.sum() == mask.sum()
    inactive = (~mask).flatten().nonzero().flatten()
    active = int(mask.sum())
    order = torch.randperm(len(inactive), generator=torch.Generator().manual_seed(3))[:active]
    ranked = sorted(inactive[order].tolist(), key=lambda i: -abs(float(gradient.flatten()[i])))
    assert set((new & ~mask).flatten().nonzero().flatten().tolist()) == set(
        ranked[: round(0.2 * active)]
    )


def test_masks_hold_weights_gradients_and_moments() -> None:
    training = Training(every=2, until=1.0)
    count = {n: int(m.sum()) for n, m in masks_after_first_batch(training).items()}
    seen = []

    def check() -> None:
        for name, weight in training.sparse._weights.items():
            mask = training.sparse._masks[name]
            assert int(mask.sum()) == count[name]
            assert not weight.detach()[~mask].any()
            for value in training.optimizer.state[weight].values():
                if value.shape == weight.shape:
                    assert not value[~mask].any()
        seen.append(copy.deepcopy(training.sparse._masks))

    training.run(each=check)
    changes = [
        any(not torch.equal(one[name], other[name]) for name in one)
        for one, other in itertools.pairwise(seen)
    ]
    assert changes == [number % 2 == 0 for number in range(11)]  # after updates 2, 4, ...
    total = sum(mask.numel() for mask in seen[0].values())
    assert sum(count.values()) == pytest.approx(0.25 * total, abs=4)
    assert training.sparse.strength()["density"] == sum(count.values()) / total


def masks_after_first_batch(training: Training) -> dict[str, torch.Tensor]:
    training.accelerators.before_batch(Progress(1, 0, BATCHES, 2))
    return dict(training.sparse._masks)


def test_grown_weights_begin_at_zero() -> None:
    training = Training(every=3, until=1.0)
    before: dict[str, torch.Tensor] = {}

    def check() -> None:
        for name, weight in training.sparse._weights.items():
            mask = training.sparse._masks[name]
            grown = mask & ~before.get(name, mask)
            assert not weight.detach()[grown].any()
            before[name] = mask

    training.run(each=check)


def test_alpha_falls_as_a_cosine() -> None:
    training = Training(alpha=0.3, until=0.5)
    for iteration, expected in ((0, 0.3), (3, 0.15), (6, 0.0)):
        training.accelerators.before_batch(Progress(1, iteration, 12, 1))
        assert training.sparse.alpha_now() == pytest.approx(expected)
    training.accelerators.before_batch(Progress(1, 2, 12, 1))
    assert training.sparse.alpha_now() == pytest.approx(0.15 * (1 + math.cos(math.pi / 3)))


def test_masks_stay_from_until_on() -> None:
    training, seen = Training(every=1, until=0.25), []
    training.run(each=lambda: seen.append(dict(training.sparse._masks)))
    for name in seen[0]:
        assert not torch.equal(seen[0][name], seen[5][name])
        assert all(torch.equal(seen[5][name], masks[name]) for masks in seen[6:])


def test_sparsity_zero_is_bitwise_plain() -> None:
    training, plain = Training(sparsity=0.0, every=1), Training(sparsity=0.0)
    plain.accelerators = AttachedAccelerators({}, Host(plain.model, [], "full_sum", 1))
    plain.model = Model()
    plain.optimizer = torch.optim.AdamW(plain.model.parameters(), 0.05, weight_decay=0.1)
    training.run(), plain.run()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, training.model.state_dict()[name])


@pytest.mark.parametrize("accum_grad", [1, 3])
def test_a_kill_right_after_growing_changes_nothing(accum_grad: int) -> None:
    options = {"every": 6 // accum_grad, "until": 1.0, "accum_grad": accum_grad}
    whole, begun, resumed = (Training(**options) for _ in "abc")
    whole.run()
    begun.run(range(1, 2))  # its last update explores: new weights are zero
    kept = copy.deepcopy(
        [begun.model.state_dict(), begun.accelerators.state_dict(), begun.optimizer.state_dict()]
    )
    resumed.model.load_state_dict(kept[0])
    resumed.accelerators.load_state_dict(kept[1])
    resumed.optimizer.load_state_dict(kept[2])
    resumed.run(range(2, 3))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    for name, mask in whole.sparse._masks.items():
        assert torch.equal(mask, resumed.sparse._masks[name])


def test_all_parts_of_an_update_are_explored_together() -> None:
    """An exploration sees the gradient that the update saw, of all weights."""
    training = Training(accum_grad=3, every=1, until=1.0)
    training.accelerators.before_batch(Progress(1, 0, BATCHES, 2, 3))
    expected = Training(sparsity=0.0)
    expected.model.load_state_dict(training.model.state_dict())
    for number in range(3):
        torch.manual_seed(number)
        x = torch.randn(5, SIZE)
        training.accelerators.before_batch(Progress(1, number, BATCHES, 2, 3))
        training.model(x=x)[0].backward()
        expected.model(x=x)[0].backward()
    for name, gradient in training.sparse._gradients.items():
        torch.testing.assert_close(gradient, dict(expected.model.named_parameters())[name].grad)


def test_a_sparse_stage_after_another_keeps_its_weights() -> None:
    first, second = Training(every=2), Training(explore="none")
    first.run()
    second.model.load_state_dict(first.model.state_dict())
    masks = masks_after_first_batch(second)
    for name, weight in first.sparse._weights.items():
        assert masks[name][weight.detach() != 0].all()
        assert int(masks[name].sum()) == int(first.sparse._masks[name].sum())


def test_a_dense_start_may_keep_its_largest_weights() -> None:
    training = Training(start="magnitude")
    plain = {n: w.detach().clone() for n, w in training.sparse._weights.items()}
    for name, mask in masks_after_first_batch(training).items():
        assert plain[name][mask].abs().min() >= plain[name][~mask].abs().max()


def test_an_average_takes_the_last_mask() -> None:
    training = Training(every=1, until=1.0, alpha=0.3)
    files = []
    training.run(each=lambda: files.append(copy.deepcopy(training.model.state_dict())))
    average = {name: sum(f[name] for f in files) / len(files) for name in files[0]}
    masks = training.sparse._masks
    dense = sum(int((average[name] != 0).sum()) for name in masks)
    assert dense > sum(int(mask.sum()) for mask in masks.values())
    training.accelerators.mend_average(average)
    for name, mask in masks.items():
        assert not average[name][~mask].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "below 1; got 1.0"),
        ({"sparsity": -0.1}, "at least 0"),
        ({"where": ["joint"]}, "where lists some of feed_forward, attention"),
        ({"where": "feed_forward"}, "where lists some of"),
        ({"explore": "guided"}, "explore is one of"),
        ({"start": "large"}, "start of random"),
        ({"every": 0}, "number of updates"),
        ({"alpha": 2.0}, "are shares"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"accelerators.sparse: .*{message}"):
        attached(Model(), **options)


def test_blocks_without_such_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="no linear layers in"):
        attached(NoFeedForward())
    with pytest.raises(ValueError, match="no linear layers in"):
        attached(Model(), where=["attention"])


def test_an_average_of_weights_does_not_go_together_with_masks() -> None:
    model = Model()
    host = Host(model, list(model.encoders), "full_sum", 1)
    with pytest.raises(ValueError, match=r"accelerators.sparse does not go together with ema"):
        AttachedAccelerators({"sparse": {"sparsity": 0.5}, "ema": {}}, host)


def test_sparsity_has_to_be_said() -> None:
    model = Model()
    host = Host(model, list(model.encoders), "full_sum", 1)
    with pytest.raises(ValueError, match=r"accelerators.sparse: .*sparsity"):
        AttachedAccelerators({"sparse": {}}, host)
