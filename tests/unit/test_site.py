"""The site's own code: links between docs/ and the repository, docstrings, pictures."""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from types import ModuleType

import griffe
import pytest
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from espnet_plugin.extend import HOMES

ROOT = Path(__file__).resolve().parents[2]
AN4 = (ROOT / "egs2/an4/asr1/RESULTS.md").read_text(encoding="utf-8")


def load(path: str) -> ModuleType:
    """A script that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load("tools/mkdocs_hooks.py")
RESULTS = load("docs/figures/results.py")


@pytest.fixture(scope="module")
def config() -> MkDocsConfig:
    config = MkDocsConfig()
    config.load_dict({"site_name": "test", "docs_dir": str(ROOT / "docs"), "site_dir": "unused"})
    assert config.validate() == ([], [])
    config.plugins._current_plugin = "test"  # which mkdocs sets around each hook
    return config


def turned(config: MkDocsConfig, page: str, markdown: str) -> str:
    """What the hook makes of a page's Markdown."""
    files = Files([])
    for name in ("index.md", "losses.md", "api/losses.md"):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / "docs" / name)))
    files = HOOKS.on_files(files, config)
    file = files.get_file_from_path(page)
    assert file is not None
    return HOOKS.on_page_markdown(markdown, Page(None, file, config), config, files)


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("losses.md", "[a](../benchmarks/RESULTS.md)", "[a](benchmarks/RESULTS.md)"),
        ("losses.md", "[a](../CONTRIBUTING.md#style)", "[a](CONTRIBUTING.md#style)"),
        ("losses.md", "[`a` b](index.md)", "[`a` b](index.md)"),
        ("api/losses.md", "[a](../losses.md)", "[a](../losses.md)"),
        ("egs2/swbd/asr1/README.md", "[a](../../../docs/losses.md)", "[a](../../../losses.md)"),
        ("benchmarks/RESULTS.md", "[a](loss.py)", "a"),
        ("losses.md", "[a](https://x.org/b.md)", "[a](https://x.org/b.md)"),
        ("losses.md", "`[a](none.md)`", "`[a](none.md)`"),
        ("losses.md", "```\n[a](none.md)\n```", "```\n[a](none.md)\n```"),
    ],
)
def test_links_lead_to_pages(
    config: MkDocsConfig, caplog: pytest.LogCaptureFixture, page: str, link: str, expected: str
) -> None:
    assert turned(config, page, link) == expected
    assert not caplog.records


def test_a_link_to_nothing_is_a_warning_which_strict_makes_an_error(
    config: MkDocsConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mkdocs.plugins"):
        turned(config, "losses.md", "see [a](../benchmarks/GONE.md)")
    (record,) = caplog.records
    assert record.getMessage() == (
        "docs/losses.md links to benchmarks/GONE.md, which does not exist"
    )


def test_roles_in_docstrings_become_plain_names() -> None:
    roles = load("tools/docstring_roles.py").DocstringRoles()
    text = "See :func:`beam_search`, :class:`~a.b.C` and ``x``."
    function = griffe.Function("f", docstring=griffe.Docstring(text))
    roles.on_object(obj=function)
    assert function.docstring is not None
    assert function.docstring.value == "See `beam_search`, `a.b.C` and ``x``."


def test_pictures_are_those_that_the_scripts_draw(tmp_path: Path) -> None:
    figures = ROOT / "docs/figures"
    drawn = load("docs/figures/pipeline.py").picture()
    assert drawn == (figures / "pipeline.svg").read_text(encoding="utf-8")
    RESULTS.draw(RESULTS.read_results(), tmp_path / "results.svg")
    again = (tmp_path / "results.svg").read_text(encoding="utf-8")
    assert again == (figures / "results.svg").read_text(encoding="utf-8")


def test_numbers_of_the_results_stand_in_an4s_results_and_in_the_readme() -> None:
    results = RESULTS.read_results()
    rows = re.findall(r"^\| \S.*? \| (.*?) \| (.*?) \|", AN4, re.M)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for run in (*results["runs"], results["baseline"]):
        assert {"command", "commit", "date", "seeds", "machine"} <= set(run)
        alone = run is results["baseline"]  # it has one stage
        dev, test = ([run[name]] if alone else run[name] for name in ("dev", "test"))
        assert all(len(seeds) == len(run["seeds"]) for seeds in (*dev, *test))
        for seeds in zip(dev, test, strict=True):
            assert tuple(" / ".join(map(str, values)) for values in seeds) in rows
        last = " | ".join(", ".join(map(str, values[-1])) for values in (dev, test))
        assert f"| {run['name']}, {run['date']} | {last} |" in readme


def test_the_page_on_extending_has_every_name_of_extend() -> None:
    page = (ROOT / "docs/api/extend.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)$", page, re.M)
    assert shown == [f"{module}.{name}" for name, module in HOMES.items()]
