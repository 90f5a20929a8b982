"""The task imports what its command line, its YAML or a training's configuration names, and only
then makes its parser or its model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_plugin.inference.batch_job import load_model
from espnet_plugin.inference.search_options import search_settings
from espnet_plugin.jobs import check_config
from espnet_plugin.pipeline.plan import losses
from espnet_plugin.tasks.progressive import ProgressiveASRTask, named_imports
from tests.tiny_model import write_model

LAB = """
from espnet_plugin.extend import register_loss
from espnet_plugin.models.criteria import FullSumCriterion

class Contrast(FullSumCriterion):
    pass

register_loss("contrast", Contrast)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mylab.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process."""
    sys.modules.pop("mylab", None)
    losses._losses.pop("contrast", None)


@pytest.mark.parametrize("place", ["command line", "YAML"])
def test_the_parser_knows_what_was_imported(lab: Path, place: str) -> None:
    (lab / "stage.yaml").write_text("loss: contrast\nimports: [mylab]\n")
    (lab / "plain.yaml").write_text("loss: contrast\n")
    given = {
        "YAML": ["--config", str(lab / "stage.yaml")],
        "command line": ["--config", str(lab / "plain.yaml"), "--imports", "mylab"],
    }[place]
    args = ProgressiveASRTask.parse([*given, "--output_dir", "o"])
    assert args.imports == ["mylab"] and args.loss == "contrast"  # ESPnet writes config.yaml of it


def test_the_worker_of_another_gpu_imports_it(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a new process, which gets the arguments and has parsed nothing."""
    seen: list[Any] = []
    base = ProgressiveASRTask.__mro__[1]
    monkeypatch.setattr(
        base, "main_worker", classmethod(lambda cls, args: seen.append(sys.modules.get("mylab")))
    )
    data = dict.fromkeys(("train_data_path_and_name_and_type", "valid_data_path_and_name_and_type"))
    ProgressiveASRTask.main_worker(argparse.Namespace(imports=["mylab"], **data))
    assert seen[0] is not None


def test_a_model_is_built_where_its_import_can_be_made(lab: Path) -> None:
    losses.register_loss("contrast", type("Contrast", (losses.BUILT_IN["full_sum"].load(),), {}))
    config, weights = write_model(lab / "model", loss="contrast")
    recorded = {**yaml.safe_load(config.read_text()), "imports": ["mylab"]}
    config.write_text(yaml.safe_dump(recorded))
    forget()
    args = argparse.Namespace(train_config=config, model_file=weights, ngpu=0)
    model, _ = load_model(args)  # an experiment's own imports are made
    assert type(model.criterion).__module__ == "mylab"
    forget()
    config.write_text(yaml.safe_dump({**recorded, "imports": []}))  # as in a package
    with pytest.raises(ValueError, match="unknown loss 'contrast'"):
        load_model(args)
    model, _ = load_model(argparse.Namespace(**vars(args), imports=["mylab"]))
    assert type(model.criterion).__module__ == "mylab"
    forget()
    (lab / "mylab.py").unlink()
    config.write_text(yaml.safe_dump(recorded))
    with pytest.raises(ValueError, match="imports of the model's training: cannot import mylab"):
        load_model(args)


def test_the_check_of_configurations_imports_too(lab: Path) -> None:
    arguments = ["--output_dir", str(lab), "--loss", "nonsense", "--imports", "mylab"]
    (lab / "check.json").write_text(json.dumps({"mine": arguments}))
    assert check_config.main([str(lab / "check.json")]) == 2
    assert "mylab" in sys.modules


def test_names_come_from_the_command_line_before_the_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("imports: [one]\n")
    assert named_imports(["--config", str(path)]) == ("one",)
    assert named_imports(["--config", str(path), "--imports", "two", "three"]) == ("two", "three")
    assert named_imports(["--config", "nowhere.yaml", "--loss", "ctc"]) == ()
    path.write_text("imports: one\n")
    with pytest.raises(ValueError, match="must be a list"):
        named_imports(["--config", str(path)])


def test_a_search_does_not_remember_imports() -> None:
    settings = search_settings(argparse.Namespace(imports=["mylab"], beam_size=4, ngpu=1))
    assert settings == {"beam_size": 4}
