"""`slim` and the smaller model of the units that it leaves large."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host, Progress
from espnet_plugin.nn.accelerators.private_file import save
from espnet_plugin.nn.ticket import draw_ticket, has_settled, largest, mask_distances

SIZE, UNITS = 4, 8


class FeedForward(nn.Module):
    """As ESPnet's."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(SIZE, units), nn.Linear(units, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w_2(self.w_1(x).relu())


class Block(nn.Module):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.feed_forward, self.feed_forward_macaron = FeedForward(units), FeedForward(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.feed_forward_macaron(x)
        return x + self.feed_forward(x)


class Model(nn.Module):
    """Gives loss, statistics and weight, as ESPnet's models do."""

    def __init__(self, units: int = UNITS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.Sequential(Block(units), Block(units))

    def forward(self, x: torch.Tensor) -> Any:
        loss = (self.encoders(x) - 1.0).square().mean()
        return loss, {"loss": loss.detach()}, torch.tensor(float(len(x)))


def attached(model: Model, **options: Any) -> AttachedAccelerators:
    host = Host(model, list(model.encoders), "ctc", 1)
    return AttachedAccelerators({"slim": options}, host)


def steps(model: Model, count: int = 5) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    torch.manual_seed(1)
    for _ in range(count):
        optimizer.zero_grad()
        model(x=torch.randn(6, SIZE))[0].backward()
        optimizer.step()


def searched(l1: float = 0.1) -> tuple[Model, AttachedAccelerators]:
    model = Model()
    accelerators = attached(model, l1=l1)
    steps(model)
    return model, accelerators


def test_without_a_penalty_it_is_bitwise_plain() -> None:
    plain, model = Model(), Model()
    attached(model, l1=0.0)
    steps(plain), steps(model)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_the_penalty_is_the_sum_of_magnitudes() -> None:
    model, accelerators = searched(l1=0.25)
    (slim,) = accelerators._by_name.values()
    coefficients = torch.cat(list(slim._coefficients))
    with torch.no_grad():
        coefficients[3] *= -1.0  # of a copy
    loss, stats, _ = model.train()(x=torch.ones(2, SIZE))
    torch.testing.assert_close(stats["loss_slim"], 0.25 * coefficients.detach().abs().sum())
    torch.testing.assert_close(loss.detach(), stats["loss"] + stats["loss_slim"])


def test_files_hold_the_folded_weights_and_plain_ones_are_loaded() -> None:
    model, accelerators = searched()
    plain = Model()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(3, SIZE)
    torch.testing.assert_close(model.encoders(x), plain.encoders(x))
    again = Model()
    others = attached(again)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.encoders(x), plain.encoders(x))
    others.load_state_dict(copy.deepcopy(accelerators.state_dict()))  # a resume
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_pruned_units_of_coefficient_zero_do_not_change_the_output() -> None:
    model, accelerators = searched()
    private = accelerators.state_dict()["slim"]
    small = Model(5)
    states, kept = draw_ticket(model.state_dict(), private, 5)
    small.load_state_dict(states)
    (slim,) = accelerators._by_name.values()
    for units, coefficient in zip(kept.values(), slim._coefficients, strict=True):
        pruned = [unit for unit in range(UNITS) if unit not in units]
        assert units == sorted(units) and len(units) == 5
        assert coefficient[pruned].abs().max() <= coefficient[units].abs().min()
        coefficient.data[pruned] = 0.0
    x = torch.randn(3, SIZE)
    torch.testing.assert_close(small.encoders(x), model.encoders(x), rtol=1e-6, atol=1e-6)


def test_ranks() -> None:
    model, accelerators = searched()
    states, private = model.state_dict(), accelerators.state_dict()["slim"]
    _, by_norm = draw_ticket(states, private, 3, "norm")
    for name, units in by_norm.items():
        norms = states[f"{name}.w_2.weight"].square().sum(0)
        assert units == sorted(sorted(range(UNITS), key=lambda u: -float(norms[u]))[:3])
    _, drawn = draw_ticket(states, private, 3, "random", seed=4)
    assert drawn == draw_ticket(states, private, 3, "random", seed=4)[1]
    assert drawn != draw_ticket(states, private, 3, "random", seed=5)[1]
    with pytest.raises(ValueError, match=r"units 8: .* has 8 units; keep fewer"):
        draw_ticket(states, private, UNITS)
    with pytest.raises(ValueError, match="rank must be one of"):
        draw_ticket(states, private, 3, "best")


def test_distances_by_hand() -> None:
    assert largest(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [1, 2]
    notes = {
        0: [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])],
        1: [torch.tensor([4.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])],
        3: [torch.tensor([4.0, 1.0, 2.0, 3.0]), torch.tensor([9.0, 8.0, 3.0, 4.0])],
    }
    # of eight units, two change sides, then four
    assert mask_distances(notes, 2) == [0.25, 0.5]
    assert has_settled([0.5, *[0.09] * 5]) and not has_settled([0.09] * 4)
    assert not has_settled([*[0.09] * 4, 0.1])


def test_notes_are_made_evenly_over_the_stage() -> None:
    _, accelerators = searched()
    (slim,) = accelerators._by_name.values()
    slim._checks = 4
    for epoch in (1, 2):
        for iteration in range(6):
            accelerators.before_batch(Progress(epoch, iteration, 6, 2))
    assert list(slim.state_dict()["notes"]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"l1": -1.0}, "l1 must not be negative"), ({"checks": 0}, "number of times")],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"accelerators.slim: .*{message}"):
        attached(Model(), **options)


def test_sparse_weights_and_slim_do_not_go_together() -> None:
    model = Model()
    host = Host(model, list(model.encoders), "ctc", 1)
    with pytest.raises(ValueError, match=r"accelerators.slim does not go together with sparse"):
        AttachedAccelerators({"slim": {}, "sparse": {"sparsity": 0.5}}, host)


def test_the_start_is_a_file_that_comes_out_the_same_twice(tmp_path: Path) -> None:
    from espnet_plugin.pipeline.plan.init_from import Ticket
    from espnet_plugin.pipeline.plan.inputs import ticket_start

    model, accelerators = searched()
    source = tmp_path / "search" / "valid.loss.ave.pth"
    source.parent.mkdir()
    with pytest.raises(ValueError, match=r"accelerators.pth: no such file"):
        torch.save(model.state_dict(), source)
        ticket_start(source, Ticket(5), tmp_path / "viterbi.ticket.pth")
    save(source.parent, accelerators, 1)
    made = []
    for _ in range(2):
        target = ticket_start(source, Ticket(5), tmp_path / "viterbi.ticket.pth")
        made.append((target.read_bytes(), target.with_suffix(".json").read_text()))
    assert made[0] == made[1]
    told = json.loads(made[0][1])
    expected, kept = draw_ticket(model.state_dict(), accelerators.state_dict()["slim"], 5)
    assert told == {"kept": kept, "distances": [], "settled": False}
    found = torch.load(target, weights_only=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(ValueError, match=r"valid.loss.ave.pth: ticket.units 9"):
        ticket_start(source, Ticket(9), tmp_path / "other.pth")
