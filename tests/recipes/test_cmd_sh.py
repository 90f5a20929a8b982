"""cmd.sh, ours and ESPnet's: which command starts what, and that nothing stays here silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.recipes.stub_recipe import SETS, TEMPLATE, call, option

STEPS = ["--stage", "5", "--stop_stage", "8"]
NAMES = ("--train_cmd", "--cuda_cmd", "--decode_cmd")

# What ESPnet's cmd.sh sets for a batch system.
ESPNET = """
cmd_backend='slurm'
if [ "${cmd_backend}" = slurm ]; then
    export train_cmd="slurm.pl"
    export cuda_cmd="slurm.pl --mem 16G"
    export decode_cmd="slurm.pl"
fi
"""


def commands(found: list[str]) -> list[str]:
    return [option(found, name) for name in NAMES]


@pytest.mark.parametrize(
    ("backend", "script"),
    [
        ("local", "local"),
        ("stdout", "stdout.pl"),
        ("sge", "queue.pl"),
        ("slurm", "slurm.pl"),
        ("ssh", "ssh.pl"),
    ],
)
def test_every_back_end_starts_all_three(recipe: Path, backend: str, script: str) -> None:
    shutil.copy(TEMPLATE / "cmd.sh", recipe)
    result, calls = call(recipe, *SETS, *STEPS, cmd_backend=backend)
    assert result.returncode == 0, result.stderr
    assert [c[0] for c in calls] == ["collect_stats", "train", "decode_stages"]
    assert all(commands(found) == [script] * 3 for found in calls)
    assert ("processes start through" in result.stdout) == (backend != "local")


def test_an_unknown_back_end_is_an_error(recipe: Path) -> None:
    shutil.copy(TEMPLATE / "cmd.sh", recipe)
    result, calls = call(recipe, *SETS, *STEPS, everything=True, cmd_backend="slurmm")
    assert result.returncode == 2 and not calls
    assert "unknown cmd_backend=slurmm; known: local, stdout, sge, slurm, ssh" in result.stderr


def test_espnets_file_decodes_where_it_says(recipe: Path) -> None:
    (recipe / "cmd.sh").write_text(ESPNET)
    (recipe / "conf/lm.yaml").write_text("")
    models = ["--use_lm", "true", "--lm_config", "conf/lm.yaml", "--num_nodes", "2"]
    result, calls = call(recipe, *SETS, *STEPS, *models, "--decode_cmd", "ssh.pl")
    text = result.stdout
    assert "--train_cmd slurm.pl --cuda_cmd slurm.pl --mem 16G --decode_cmd ssh.pl" in text
    assert [c[0] for c in calls] == ["collect_stats", "train", "train_lm", "decode_stages"]
    assert all(option(found, "--decode_cmd") == "ssh.pl" for found in calls)
    assert option(calls[2], "--cuda_cmd") == "slurm.pl" and option(calls[2], "--num_nodes") == "2"
    model = ["--download_model", "an4.zip", "--stage", "8", "--stop_stage", "8"]
    _, (evaluate,) = call(recipe, *SETS, *model)
    assert option(evaluate, "--decode_cmd") == "slurm.pl"


def test_run_pl_is_this_machine(recipe: Path) -> None:
    (recipe / "cmd.sh").write_text(ESPNET.replace("slurm.pl --mem 16G", "run.pl"))
    _, calls = call(recipe, *SETS, *STEPS)
    assert commands(calls[0]) == ["slurm.pl", "local", "slurm.pl"]


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("export cmd=slurm.pl", [], "cmd.sh sets cmd=slurm.pl: the names are train_cmd"),
        ("export train_cmd=slurm.pl", [], "cuda_cmd is not set, others are"),
        (ESPNET, ["--cmd", "slurm.pl"], "--cmd: the names are ESPnet's"),
    ],
)
def test_half_a_set_of_names_is_an_error(
    recipe: Path, script: str, options: list[str], message: str
) -> None:
    (recipe / "cmd.sh").write_text(script)
    result, calls = call(recipe, *SETS, *STEPS, *options, everything=True)
    assert result.returncode == 2 and not calls
    assert message in result.stderr
