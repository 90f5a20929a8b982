"""`clone`: folders that need nothing of the source tree, whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin.bin import clone
from espnet_plugin.pipeline.plan.config import PipelineConfig, load_pipeline_config, read_yaml

ROOT = Path(__file__).resolve().parents[3]
RECIPES = clone.recipe_names(ROOT)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.fixture(scope="module", params=RECIPES)
def cloned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A recipe in the source tree and its clone."""
    folder = tmp_path_factory.mktemp("work") / "new" / "recipe"
    clone.clone(request.param, folder)
    return ROOT / "egs2" / request.param, folder


def pipelines(folder: Path) -> dict[str, PipelineConfig]:
    """Every pipeline YAML of a recipe, merged with those it extends."""
    return {
        path.relative_to(folder).as_posix(): load_pipeline_config(path)
        for path in (folder / "conf").rglob("train_*.yaml")
        if {"train_stages", "extends"} & set(read_yaml(path))
    }


def test_recipes_are_those_with_a_run_sh() -> None:
    assert {"an4/asr1", "librispeech/asr1", "mini_tts/asr1", "swbd/asr1"} <= set(RECIPES)
    assert "TEMPLATE/asr1" not in RECIPES


def test_everything_is_there_and_nothing_points_elsewhere(cloned: tuple[Path, Path]) -> None:
    recipe, folder = cloned
    for path in recipe.rglob("*"):
        name = path.relative_to(recipe)
        if path.is_file() and not {*clone._MADE, "__pycache__"} & set(name.parts):
            assert (folder / name).is_file(), name
            assert os.access(folder / name, os.X_OK) == os.access(path, os.X_OK), name
    found = list(folder.rglob("*"))
    assert not [path for path in found if path.is_symlink() or path.name.startswith(".")]


def test_yamls_mean_the_same_without_the_source_tree(
    cloned: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = cloned
    monkeypatch.chdir(recipe)
    wanted = pipelines(recipe)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    monkeypatch.chdir(moved)
    got = pipelines(moved)
    assert wanted and set(got) == set(wanted)
    for name, config in got.items():
        assert config.train_stages == wanted[name].train_stages, name
        assert (config.alignment, config.nbest) == (wanted[name].alignment, wanted[name].nbest)
    for path in (moved / "conf").rglob("*.yaml"):
        assert "../../.." not in path.read_text(), path


def test_links_of_documents_lead_to_files_of_the_folder(cloned: tuple[Path, Path]) -> None:
    _, folder = cloned
    checked = 0
    for page in folder.rglob("*.md"):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            assert target.exists() and target.is_relative_to(folder.resolve()), f"{page}: {link}"
            checked += 1
    assert checked


def test_links_out_of_the_folder_become_names(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/data.md").touch()

    def changed(text: str, page: str = "egs2/x/asr1/README.md") -> str:
        return clone._links_inside(text, page, tmp_path, "x/asr1")

    assert changed("[a](../../../docs/data.md#b)") == "[a](docs/data.md#b)"
    assert changed("[a](docs.md), [RESULTS.md](../../../benchmarks/RESULTS.md)") == (
        "a: `egs2/x/asr1/docs.md` of the source tree, `benchmarks/RESULTS.md` of the source tree"
    )
    assert changed("[a](data.md)", "docs/b.md") == "[a](data.md)"
    assert changed("[a](https://b.c/d), [e](#f)") == "[a](https://b.c/d), [e](#f)"


def test_path_sh_finds_this_environment(cloned: tuple[Path, Path], tmp_path: Path) -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("not in a virtual environment: path.sh names none")
    _, folder = cloned
    found = subprocess.run(
        ["bash", "-euc", ". ./path.sh; command -v python3; echo ${PYTHONPATH-none}"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    python, path = found.stdout.splitlines()
    assert Path(python).parent == Path(sys.executable).parent
    assert path == "none"  # the source tree's package is only for its own recipes


def test_what_running_left_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("egs2", "docs", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    for name in ("data/train/text", "exp/a/b", "local/__pycache__/c.pyc", "local/data/kept"):
        path = tmp_path / "egs2/an4/asr1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(clone, "recipes_root", lambda: tmp_path)
    clone.clone("an4/asr1", tmp_path / "new")
    assert not {"data", "exp"} & {path.name for path in (tmp_path / "new").iterdir()}
    assert (tmp_path / "new/local/data/kept").exists()
    assert not (tmp_path / "new/local/__pycache__").exists()


@pytest.mark.parametrize(
    ("recipe", "place", "message"),
    [
        ("librispech/asr1", "new", "no recipe 'librispech/asr1'; there are an4/asr1, librispeech"),
        ("TEMPLATE/asr1", "new", "no recipe 'TEMPLATE/asr1'; there are an4/asr1"),
        ("../egs2/an4/asr1", "new", "no recipe"),
        ("an4/asr1", "used", "used: not empty; name a folder that does not exist yet"),
        ("an4/asr1", "used/file", "used/file: a file; name a folder"),
        ("an4/asr1", "used/file/new", "Not a directory"),
    ],
)
def test_errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recipe: str, place: str, message: str
) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    assert clone.main([recipe, str(tmp_path / place)]) == 2
    assert message in caplog.text
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "used", tmp_path / "used/file"]


def test_an_installation_without_recipes_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clone, "_PACKAGE", tmp_path / "site-packages/espnet_plugin")
    assert clone.main(["an4/asr1", str(tmp_path / "new")]) == 2
    assert "no recipes came with this installation" in caplog.text


def test_a_copy_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clone, "_name_environment", full)
    assert clone.main(["an4/asr1", str(folder)]) == 2
    assert "No space left on device" in caplog.text
    assert list(folder.iterdir()) == []
