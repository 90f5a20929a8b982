"""The start-up hook as an installation has it: a .pth file and a copy, in a folder of packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import espnet_plugin.startup_hook

ROOT = Path(__file__).resolve().parents[2]
HOOK = "_espnet_progressive_startup"
SAYS = "espnet-progressive: its classes are not in ESPnet's tables"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages: the hook, and a small espnet2 with tasks but without our tables."""
    shutil.copy(espnet_plugin.startup_hook.__file__, tmp_path / f"{HOOK}.py")
    (tmp_path / "some.pth").write_text(f"import {HOOK}\n")
    (tmp_path / "espnet2/tasks").mkdir(parents=True)
    for name in ("", "tasks/"):
        (tmp_path / f"espnet2/{name}__init__.py").touch()
    (tmp_path / "espnet2/tasks/asr.py").write_text("ready = True\n")
    return tmp_path


def start(site: Path, code: str, *path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a Python that reads .pth files there, and has further folders on its path.

    Without any, it knows no other packages: this environment's may hold the plugin.
    """
    before = f"import site, sys; sys.path[:0] = {list(map(str, path))}; before = set(sys.modules)\n"
    return subprocess.run(
        [
            sys.executable,
            *(() if path else ("-S",)),
            "-c",
            f"{before}site.addsitedir({str(site)!r})\n{code}",
        ],
        cwd=site,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ASR = "import espnet2.tasks.asr as asr; print(asr.ready)"


def fake_plugin(site: Path, code: str) -> None:
    (site / "espnet_plugin").mkdir()
    (site / "espnet_plugin/__init__.py").write_text(code)
    (site / "espnet_plugin/import_hook.py").write_text("on_error = None\n")


def test_other_programs_load_the_hook_and_nothing_else(site: Path) -> None:
    fake_plugin(site, "print('loaded')\n")
    loaded = printed(start(site, "print(*(set(sys.modules) - before)); import json, espnet2"))
    assert loaded == HOOK


@pytest.mark.parametrize("module", ["espnet2.tasks.asr", "espnet2.tasks"])
def test_espnets_tasks_load_the_plugin_once(site: Path, module: str) -> None:
    fake_plugin(site, "print('loaded')\n")
    code = f"import {module}; import espnet2.tasks.asr as asr; print(asr.ready)"
    assert printed(start(site, code)).split() == ["loaded", "True"]


def test_it_can_be_switched_off(site: Path) -> None:
    fake_plugin(site, "print('loaded')\n")
    done = start(site, ASR, ESPNET_PROGRESSIVE_STARTUP="0")
    assert printed(done) == "True"


def test_a_plugin_that_fails_is_told_and_breaks_nothing(site: Path) -> None:
    fake_plugin(site, "raise RuntimeError('no such GPU')\n")
    done = start(site, ASR)
    assert printed(done) == "True"
    assert f"{SAYS}, everything else works: RuntimeError: no such GPU\n" == done.stderr


def test_a_lost_dependency_is_told_a_removed_plugin_is_not(site: Path) -> None:
    done = start(site, ASR)
    assert printed(done) == "True" and done.stderr == ""
    fake_plugin(site, "import no_such_dependency\n")
    done = start(site, ASR)
    assert printed(done) == "True" and "no_such_dependency" in done.stderr


def test_an_espnet_without_our_tables_still_works_unless_we_were_asked_for(site: Path) -> None:
    """Another release of ESPnet, say: this one has no `espnet2.tasks.abs_task`."""
    done = start(site, ASR, ROOT)
    assert printed(done) == "True"
    assert done.stderr.startswith(SAYS) and "abs_task" in done.stderr
    done = start(site, f"import espnet_plugin; {ASR}", ROOT)
    assert done.returncode != 0
    assert "ImportError" in done.stderr and SAYS not in done.stderr


def test_a_copy_of_another_finder_is_not_needed(site: Path) -> None:
    count = "sum(type(f).__name__ == 'WaitingFinder' for f in sys.meta_path)"
    again = f"import {HOOK}; {HOOK}.install(); import espnet_plugin.startup_hook; print({count})"
    assert printed(start(site, again, ROOT)) == "1"


def test_our_classes_are_in_espnets_tables_without_a_word(site: Path) -> None:
    pytest.importorskip("espnet2")
    shutil.rmtree(site / "espnet2")
    code = """
from espnet2.tasks import abs_task
from espnet2.tasks.asr import ASRTask
text = ASRTask.get_parser().format_help()
assert "progressive_transducer" in text and "onecyclelinear" in text and "nadam" in text
"""
    assert "espnet-progressive" not in start(site, f"{code}\nprint(1)", ROOT).stderr
    done = start(site, code, ROOT, ESPNET_PROGRESSIVE_STARTUP="0")
    assert "AssertionError" in done.stderr
