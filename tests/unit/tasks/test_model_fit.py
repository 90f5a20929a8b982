"""A configuration and parameters of different models: refused before anything is built."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.tasks.model_fit import build_fitting_model
from espnet_plugin.tasks.progressive import ProgressiveASRTask

PACKED = Path(__file__).parents[2] / "fixtures/mini_tts.zip"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(PACKED) as file:
        file.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "model"


def build(model: Path, **encoder: Any) -> torch.nn.Module:
    config = yaml.safe_load((model / "config.yaml").read_text())
    config["encoder_conf"].update(encoder)
    (model / "changed.yaml").write_text(yaml.safe_dump(config))
    found, _ = build_fitting_model(
        ProgressiveASRTask, model / "changed.yaml", model / "model.pth", "cpu"
    )
    return found  # type: ignore[no-any-return]


def test_the_model_itself(model: Path) -> None:
    stored = torch.load(model / "model.pth", weights_only=True)
    state = torch.random.get_rng_state()
    expected, _ = ProgressiveASRTask.build_model_from_file(
        model / "config.yaml", model / "model.pth", "cpu"
    )
    drawn = torch.rand(1)
    torch.random.set_rng_state(state)
    found = build(model)
    assert torch.equal(torch.rand(1), drawn), "the look at the shapes draws random numbers"
    assert found.state_dict().keys() == expected.state_dict().keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in found.state_dict().items())
    assert not any(value.is_meta for value in found.state_dict().values())


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"output_size": 144_000}, "at least .* parameters; .*model.pth holds 145 and 760150"),
        ({"linear_units": 10**6}, "They do not belong together"),
        ({"num_blocks": 10**6}, "at least 791 tensors"),
        ({"linear_units": 100}, r"shape \(100, 96\); in .*model.pth it has \(384, 96\)"),
    ],
)
def test_another_model(model: Path, encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(model, **encoder)


@pytest.mark.parametrize("length", [0, 1000, 1_500_000, -1])
def test_a_file_cut_off(model: Path, length: int) -> None:
    content = (model / "model.pth").read_bytes()
    (model / "model.pth").write_bytes(content[:length])
    with pytest.raises(ValueError, match=r"model\.pth: not a readable model file"):
        build(model)


def test_the_format_of_old_torch(model: Path) -> None:
    states = torch.load(model / "model.pth", weights_only=True)
    torch.save(states, model / "model.pth", _use_new_zipfile_serialization=False)
    assert build(model).state_dict().keys() == states.keys()
