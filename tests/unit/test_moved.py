"""Module names of 0.1.0, before the house was rearranged, still lead to the same things."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin.moved import NEW_NAMES

LIST = Path(__file__).parents[1] / "fixtures" / "modules_0_1_0.txt"
OLD = LIST.read_text(encoding="utf-8").split()
#: They import another program's package at once, which may be missing; finding them is enough.
OPTIONAL = ("triton", "warp_rnnt_backend")


@pytest.mark.parametrize("name", OLD)
def test_every_old_module_is_found(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("name", [n for n in OLD if n.removeprefix("espnet_plugin.") in NEW_NAMES])
def test_a_moved_module_is_the_new_one_and_no_copy(name: str) -> None:
    if any(part in name for part in OPTIONAL):
        pytest.skip("needs an optional package")
    new = "espnet_plugin." + NEW_NAMES[name.removeprefix("espnet_plugin.")]
    assert importlib.import_module(name) is importlib.import_module(new)
    assert importlib.import_module(new).__spec__.name == new


def test_names_that_were_modules_and_are_packages_keep_their_contents() -> None:
    from espnet_plugin.schedules import one_cycle_linear
    from espnet_plugin.schedules.curves import constant_linear_decay
    from espnet_plugin.stages import Pipeline, StageScheduler, register_stage_scheduler

    from espnet_plugin.data.check import CheckOptions, check_data_dir
    from espnet_plugin.search.beam import BeamSearch, beam_search

    found = [CheckOptions, check_data_dir, one_cycle_linear, constant_linear_decay, BeamSearch]
    assert all(map(callable, [*found, beam_search, Pipeline, StageScheduler]))
    assert callable(register_stage_scheduler)


def test_an_old_name_replaces_nothing_of_the_same_name() -> None:
    """In a process of its own, since imports happen once."""
    code = (
        "import espnet_plugin.search, espnet_plugin.pipeline.state.lock\n"
        "import espnet_plugin.search.lexicon_search, espnet_plugin.search.forced_align\n"
        "import espnet_plugin.stages.state, espnet_plugin.stages.plan\n"
        "from espnet_plugin import pipeline, search, stages\n"
        "assert stages is pipeline and callable(search.lexicon_search)\n"
        "assert callable(search.forced_align) and callable(search.alignment_quality)\n"
        "assert pipeline.state.__name__ == 'espnet_plugin.pipeline.state'\n"
        "assert pipeline.plan.__name__ == 'espnet_plugin.pipeline.plan'\n"
        "from espnet_plugin.stages import plan, state\n"
        "assert plan.TrainStage and state.PipelineState\n"
        "from espnet_plugin.stages.plan import PARTS, TrainStage\n"
        "assert TrainStage is plan.TrainStage and PARTS\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_stays_unknown() -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("espnet_plugin.bin.nothing")


@pytest.mark.parametrize(
    "arguments",
    [
        ["espnet_plugin.bin.make_tokens", "--help"],
        ["espnet_plugin.jobs.make_tokens", "--help"],
        ["espnet_plugin", "make-tokens", "--help"],
    ],
)
def test_programs_run_under_their_old_and_new_names(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and "--token_type" in done.stdout, done.stderr
