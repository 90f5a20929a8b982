"""Modules of other packages: named by who trains, remembered by packages, imported by nobody else's
word."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_plugin.packages.imports import import_modules, module_names
from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.packages.package import read_package
from tests.unit.packages.test_package import cache, make  # noqa: F401  (a fixture)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for modules, on the path."""
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


@pytest.mark.parametrize("value", ["mylab", [1], ["my lab"], ["../lab"], ["a..b"], {"a": 1}, [""]])
def test_what_is_no_list_of_modules(value: Any) -> None:
    with pytest.raises(ValueError, match=r"p\.yaml: imports must be a list of modules"):
        module_names(value, "p.yaml")


def test_names_in_their_order_once() -> None:
    assert module_names(["b.c", "a", "b.c"], "p") == ("b.c", "a")
    assert module_names(None, "p") == ()


def test_importing_says_who_asked_and_what_lacks(lab: Path) -> None:
    (lab / "mylab.py").write_text("import no_such_dependency\n")
    with pytest.raises(ValueError, match=r"p\.yaml: cannot import mylab: .*no_such_dependency"):
        import_modules(["mylab"], "p.yaml")
    (lab / "mylab.py").write_text("found = 1\n")
    import_modules(["mylab"], "p.yaml")
    assert sys.modules["mylab"].found == 1


def test_a_package_imports_nothing_by_itself(tmp_path: Path, lab: Path) -> None:
    folder = make(tmp_path / "p", espnet_progressive={"imports": ["mylab"]})
    config = folder / "model/config.yaml"
    config.write_text(yaml.safe_dump({"imports": ["mylab"], "token_list": ["a"]}))
    with pytest.raises(ValueError, match=r"needs the Python module mylab .* not installed here"):
        pretrained_arguments(folder)
    (lab / "mylab.py").write_text("")
    with pytest.raises(ValueError, match=r"needs the Python module mylab .*--imports mylab"):
        pretrained_arguments(folder)
    assert "mylab" not in sys.modules
    import_modules(["mylab"], "--imports")
    given = pretrained_arguments(folder)
    # whoever builds from this configuration imports nothing that the package names
    assert yaml.safe_load(Path(given["asr_train_config"]).read_text())["imports"] == []


def test_a_package_with_odd_names_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", espnet_progressive={"imports": "os; evil"})
    with pytest.raises(ValueError, match=r"meta\.yaml: imports must be a list of modules"):
        read_package(folder)
