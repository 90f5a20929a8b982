"""Reading packages: whole ones from everywhere, and broken or unsafe ones refused."""

from __future__ import annotations

import importlib.metadata
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.packages.package import read_package
from espnet_plugin.packages.sources import find_model, is_source, open_package
from espnet_plugin.packages.view import loadable
from espnet_plugin.packages.weights import check_names, read_weights

ESPNET = importlib.metadata.version("espnet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESPNET_PROGRESSIVE_CACHE", str(tmp_path / "cache"))
    find_model.cache_clear()
    return tmp_path / "cache"


def make(root: Path, **meta: Any) -> Path:
    """A package without a real model."""
    (root / "model").mkdir(parents=True)
    (root / "decoding").mkdir()
    content = {
        "files": {"asr_model_file": "model/model.pth"},
        "yaml_files": {"asr_train_config": "model/config.yaml"},
        "espnet": ESPNET,
        "espnet_progressive": {"decoding": "decoding/decode.yaml", "stage": "mbr"},
        **meta,
    }
    (root / "meta.yaml").write_text(yaml.safe_dump(content))
    torch.save({"weight": torch.ones(2)}, root / "model/model.pth")
    config = {"normalize_conf": {"stats_file": "model/stats.npz"}, "token_list": ["<b>", "a/b"]}
    (root / "model/config.yaml").write_text(yaml.safe_dump(config))
    (root / "model/stats.npz").write_bytes(b"numbers")
    (root / "decoding/words.txt").write_text("A a\n")
    options = {"lexicon": "decoding/words.txt", "lm": ["word:decoding/words.txt:0.3"], "nbest": 2}
    (root / "decoding/decode.yaml").write_text(yaml.safe_dump(options))
    return root


def zipped(root: Path) -> Path:
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, path.relative_to(root))
    return target


def test_a_zip_file_and_its_folder_load_alike(tmp_path: Path, cache: Path) -> None:
    folder = make(tmp_path / "p")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for source in (folder, zipped(folder)):
        given = pretrained_arguments(source)
        config = yaml.safe_load(Path(given["asr_train_config"]).read_text())
        assert Path(config["normalize_conf"]["stats_file"]).read_bytes() == b"numbers"
        assert config["token_list"] == ["<b>", "a/b"]
        assert given["nbest"] == 2 and Path(given["lexicon"]).read_text() == "A a\n"
        kind, path, scale = given["lm"][0].split(":")
        assert (kind, scale) == ("word", "0.3") and Path(path).is_absolute()
        assert Path(given["asr_model_file"]).is_file()
    assert {path: path.read_bytes() for path in before} == before, "the package was touched"
    assert len(list((cache / "packages").iterdir())) == 1
    pretrained_arguments(tmp_path / "p.zip")
    assert len(list((cache / "packages").iterdir())) == 1
    (folder / "decoding/decode.yaml").write_text("nbest: 5\n")
    assert pretrained_arguments(folder)["nbest"] == 5, "an old view was used"


def test_a_package_that_cannot_be_written_to(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    folder.chmod(0o500)
    (folder / "model").chmod(0o500)
    assert pretrained_arguments(folder)["nbest"] == 2


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"files": {"asr_model_file": "model/other.pth"}}, "lacks model/other.pth, which its meta"),
        ({"files": {"asr_model_file": "../model.pth"}}, "does not stay inside the package"),
        ({"files": {"asr_model_file": "/etc/passwd"}}, "does not stay inside the package"),
        ({"files": {"st_model_file": "model/model.pth"}}, "names no asr_model_file; it is not"),
        ({"files": []}, "has no table 'files'"),
        ({"espnet": "209901"}, rf"packed with ESPnet 209901, installed is {ESPNET}"),
        ({"espnet_progressive": {"decoding": "../x.yaml"}}, "does not stay inside"),
    ],
)
def test_refused(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_package(zipped(make(tmp_path / "p", **meta)))


def test_another_release_can_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "p", espnet="209901")
    monkeypatch.setenv("ESPNET_PROGRESSIVE_ANY_ESPNET", "1")
    assert read_package(folder).espnet == "209901"


def test_yaml_is_data_only(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    (folder / "meta.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path}/owned']\n")
    with pytest.raises(ValueError, match="not plain YAML"):
        read_package(folder)
    folder = make(tmp_path / "q")
    (folder / "model/config.yaml").write_text(f"a: !!python/name:os.mkdir {tmp_path}\n")
    with pytest.raises(ValueError, match="not plain YAML"):
        pretrained_arguments(folder)
    assert not (tmp_path / "owned").exists()


def test_a_configuration_that_names_missing_or_foreign_files(tmp_path: Path) -> None:
    for number, value in enumerate(("model/none.npz", "/etc/passwd", "../../stats.npz")):
        folder = make(tmp_path / f"p{number}")
        config = {"normalize_conf": {"stats_file": value}}
        (folder / "model/config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(ValueError, match=f"stats_file names {value}, which the package lacks"):
            loadable(read_package(folder))


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code(tmp_path: Path) -> None:
    folder = make(tmp_path / "p")
    torch.save({"weight": Evil(tmp_path / "owned")}, folder / "model/model.pth")
    with pytest.raises(ValueError, match="refused: it holds more than tensors"):
        pretrained_arguments(zipped(folder))
    torch.save({"weight": "no tensor"}, folder / "model/model.pth")
    with pytest.raises(ValueError, match="not a table of tensors"):
        read_weights(folder / "model/model.pth")
    (folder / "model/model.pth").write_bytes(b"half a model")
    with pytest.raises(ValueError, match="not a readable model file"):
        read_weights(folder / "model/model.pth")
    assert not (tmp_path / "owned").exists()


def test_parameters_that_are_missing(tmp_path: Path) -> None:
    check_names(tmp_path, ["a", "b", "more"], ["a", "b"])
    with pytest.raises(ValueError, match=r"lacks parameters .*: encoder\.w; fetch"):
        check_names(tmp_path, ["b"], ["b", "encoder.w"])


def test_places_of_models(tmp_path: Path) -> None:
    stage = tmp_path / "exp/t/full_sum"
    stage.mkdir(parents=True)
    for name in ("valid.cer.ave.pth", "valid.loss.ave.pth"):
        (stage / name).write_bytes(b"")
    (stage / "config.yaml").write_text("best_model_criterion: [[valid, cer, min]]\n")
    assert find_model(str(stage)).model_file == stage / "valid.cer.ave.pth"
    assert find_model(str(stage / "valid.loss.ave.pth")).train_config == stage / "config.yaml"
    (stage / "config.yaml").write_text("best_model_criterion: [[valid, acc, max]]\n")
    find_model.cache_clear()
    with pytest.raises(ValueError, match=r"which model\? .*valid.cer.ave.pth, valid.loss.ave.pth"):
        find_model(str(stage))
    state = {
        "plan": ["train:full_sum", "job:nbest", "train:mbr"],
        "steps": {
            "train:full_sum": {"status": "done", "checkpoint": "valid.loss.ave.pth"},
            "train:mbr": {"status": "running"},
        },
    }
    (tmp_path / "exp/t/pipeline.json").write_text(yaml.safe_dump(state))
    assert find_model(str(tmp_path / "exp/t")).model_file == stage / "valid.loss.ave.pth"
    package = make(tmp_path / "p")
    found = find_model(str(package))
    assert found.model_file.resolve() == package / "model/model.pth"
    config = yaml.safe_load(found.train_config.read_text())
    assert Path(config["normalize_conf"]["stats_file"]).is_absolute()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such file or folder, and no Hub id"),
        ("./a/b/c", "no such file or folder"),
        ("model.tar.gz", "no such file or folder"),
        ("a/b.zip", "no such file or folder"),
    ],
)
def test_places_where_nothing_is(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_model(source)


def test_no_package(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"neither an experiment .* nor a packed model"):
        find_model(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"has no meta.yaml, so it is not a packed model"):
        open_package(tmp_path / "empty")
    (tmp_path / "model.tar.gz").write_bytes(b"x")
    with pytest.raises(ValueError, match="not a zip file; packages are made by"):
        open_package(tmp_path / "model.tar.gz")
    assert is_source("owner/name") and is_source("x.zip") and not is_source("full_sum")
