"""Experiments used from another folder than the recipe's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from espnet_plugin.packages.elsewhere import reachable
from espnet_plugin.packages.sources import TrainedModel


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    stage = tmp_path / "recipe/exp/tag/full_sum"
    stage.mkdir(parents=True)
    (tmp_path / "recipe/exp/stats").mkdir()
    (tmp_path / "recipe/exp/stats/feats_stats.npz").touch()
    config = {
        "normalize_conf": {"stats_file": "exp/stats/feats_stats.npz"},
        "bpemodel": None,
        "token_list": ["<blank>", "exp/stats/feats_stats.npz"],
        "frontend_conf": {"fs": 16000},
    }
    (stage / "config.yaml").write_text(yaml.safe_dump(config))
    (stage / "valid.loss.ave.pth").write_bytes(b"weights")
    return TrainedModel(stage / "valid.loss.ave.pth", stage / "config.yaml")


def test_in_the_recipe_nothing_changes(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "recipe")
    assert reachable(model, tmp_path / "cache") is model
    assert not (tmp_path / "cache").exists()


def test_elsewhere_the_files_are_named_absolutely(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for _ in range(2):  # the second time over the first one's copy
        found = reachable(model, tmp_path / "cache")
        config = yaml.safe_load(found.train_config.read_text())
        stats = tmp_path / "recipe/exp/stats/feats_stats.npz"
        assert config["normalize_conf"]["stats_file"] == str(stats)
        assert config["token_list"][1] == "exp/stats/feats_stats.npz", "a label is no path"
        assert config["frontend_conf"] == {"fs": 16000} and config["bpemodel"] is None
        assert found.model_file.read_bytes() == b"weights"
        assert found.model_file.parent == found.train_config.parent


def test_a_file_that_is_nowhere(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe/exp/stats/feats_stats.npz").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="neither here nor in a folder above the experiment"):
        reachable(model, tmp_path / "cache")
