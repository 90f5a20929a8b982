"""A start from a model that does not fit is explained before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from espnet_plugin.tasks.initial_parameters import check_initial_parameters


class Model(nn.Module):
    def __init__(self, size: int, labels: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, size)
        self.joint_network = nn.Linear(size, labels)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save(Model(4, 7).state_dict(), path)
    return path


def test_what_fits(trained: Path) -> None:
    check_initial_parameters(str(trained), Model(4, 7))
    check_initial_parameters(f"{trained}:::specaug,joint_network.", Model(4, 9))
    check_initial_parameters(f"{trained}:encoder:encoder", Model(5, 9))  # left to ESPnet


def test_other_sizes(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"joint_network.weight \[7, 4\] instead of \[9, 4\]"):
        check_initial_parameters(f"{trained}:::specaug", Model(4, 9))
    with pytest.raises(
        ValueError, match=r"other sizes: encoder.weight \[4, 3\] instead of \[5, 3\]"
    ):
        check_initial_parameters(f"{trained}:::joint_network", Model(5, 7))


def test_parameters_of_another_model(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not in this model: joint_network.weight, .*take the"):
        check_initial_parameters(str(trained), nn.ModuleDict({"encoder": nn.Linear(3, 4)}))
    with pytest.raises(ValueError, match="nothing to start from is left, all of it is excluded"):
        check_initial_parameters(f"{trained}:::encoder,joint_network", Model(4, 7))
