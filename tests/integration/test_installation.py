"""What pip makes of the project: source package, wheel, `pip install -e`, and a recipe outside."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.installation import ROOT, Environment, build, source_tree

pytestmark = pytest.mark.slow
HOOK = ("espnet_progressive.pth", "_espnet_progressive_startup.py")
STATE = """
import sys
import espnet_plugin
hooks = [f for f in sys.meta_path if type(f).__name__ == "WaitingFinder"]
print(len(hooks), espnet_plugin.__file__)
"""


def parts(name: str) -> set[str]:
    return set(Path(name).parts)


def test_a_wheel_of_the_source_package_holds_recipes_and_documents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {info.filename: info for info in archive.infolist()}
        for folder in ("egs2", "conf", "docs"):
            for path in (ROOT / folder).rglob("*"):
                name = path.relative_to(ROOT).as_posix()
                made = {"data", "dump", "exp", "downloads"} & parts(name)
                if path.is_dir() or "__pycache__" in parts(name) or made:
                    continue
                info = held[f"espnet_plugin/_recipes/{name}"]
                assert archive.read(info) == path.read_bytes(), name
                mode = info.external_attr >> 16
                assert stat.S_ISREG(mode) and bool(mode & 0o100) == bool(
                    path.stat().st_mode & 0o100
                )
        record = archive.read(next(name for name in held if name.endswith("RECORD"))).decode()
    assert not [name for name in held if parts(name) & {"left_over", "__pycache__", "tests"}]
    assert {name for name in held if "/" not in name} == set(HOOK)
    assert all(f"\n{name},sha256=" in f"\n{record}" for name in HOOK)


def test_an_editable_installation_has_the_hook_until_it_is_uninstalled(tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "tree")
    environment = Environment(tmp_path / "env")
    environment.install(build("build_editable", tree, tmp_path / "dist"))
    hooks, plugin = environment.run(environment.python, "-c", STATE).split()
    assert hooks == "1" and Path(plugin) == tree / "espnet_plugin/__init__.py"
    assert not (tree / "build").exists() and not (tree / "espnet_plugin/_recipes").exists()
    recipes = environment.run(environment.bin / "espnet-progressive", "clone", "--help")
    assert "librispeech/asr1" in recipes
    environment.pip("uninstall", "--yes", "espnet-progressive")
    assert not [path for path in environment.site.iterdir() if "espnet_progressive" in path.name]
    count = "import sys; print(sum(type(f).__name__ == 'WaitingFinder' for f in sys.meta_path))"
    assert environment.run(environment.python, "-c", count).strip() == "0"


def test_a_clone_of_mini_tts_runs_where_nothing_else_is(
    installed: Environment, tmp_path: Path
) -> None:
    """Steps 1 to 5, in a folder with a space, without the environment on PATH: path.sh names it."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path / "my recipe"
    said = installed.run(installed.bin / "espnet-progressive", "clone", "mini_tts/asr1", folder)
    assert said.endswith(f"Next: cd '{folder}' && ./run.sh\n")
    corpus = folder / "conf/corpus.yaml"  # the recipe is the user's: a smaller corpus
    settings = yaml.safe_load(corpus.read_text())
    settings["num_utterances"] = {"train": 24, "dev": 6, "test": 6}
    corpus.write_text(yaml.safe_dump(settings))
    bash = ["env", "-i", "PATH=/usr/bin:/bin", "OMP_NUM_THREADS=1", "bash"]
    output = installed.run(*bash, "./run.sh", "--stop_stage", "5", "--nj", "2", cwd=folder)
    assert "step 5: statistics" in output
    assert len((folder / "dump/raw/train/text").read_text().splitlines()) == 24
    (stats,) = folder.glob("exp/stats_*")
    assert (stats / "train/feats_stats.npz").is_file()
    where = "python3 -c 'import espnet_plugin; print(espnet_plugin.__file__)'"
    plugin = installed.run(*bash, "-c", f". ./path.sh; {where}", cwd=folder)
    assert Path(plugin).is_relative_to(installed.site)
