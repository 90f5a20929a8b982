"""progressive.sh where the preload server cannot start, or its folder starts no programs."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.disk_faults import heed_ctrl_c

TEMPLATE = Path(__file__).parents[2] / "egs2/TEMPLATE/asr1"
#: Stands for Python: notes its arguments; as the server it does what SERVER says with its folder.
STUB = """#!/bin/sh
case "$*" in
    "-m espnet_plugin preload "*) folder=$4; eval "$SERVER"; exit ;;
    -c*) exec $IMPORTS ;;
    *) printf "%s|" "$0" "$@" >>"$CALLS"; echo >>"$CALLS" ;;
esac
"""
NOT_EXECUTABLE = 'sed s/noted/served/ "$0" >"$folder/python"; exec sleep 60'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name in ("tr", "dev"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "wav.scp").write_text("u u.wav\n")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/train_progressive.yaml").write_text("train_stages: {}\n")
    shutil.copy(TEMPLATE / "progressive.sh", tmp_path)
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def call(
    recipe: Path, server: str, *more: str, imports: str = "true", tmp: Path | None = None
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Steps 5 and 6 with that server; the result and the programs called, with their names."""
    environment = {
        **os.environ,
        **{"SERVER": server, "IMPORTS": imports, "CALLS": str(recipe / "calls")},
        "TMPDIR": str(tmp or recipe / "tmp"),
    }
    options = ["--train_set", "tr", "--valid_set", "dev", "--stage", "5", "--stop_stage", "6"]
    result = subprocess.run(
        ["bash", "progressive.sh", *options, "--python", str(recipe / "python"), *more],
        cwd=recipe, capture_output=True, text=True, env=environment, timeout=50,
    )  # fmt: skip
    path = recipe / "calls"
    calls = path.read_text().splitlines() if path.exists() else []
    return result, [line.split("|")[:-1] for line in calls]


def programs(calls: list[list[str]]) -> list[str]:
    return [words[words.index("espnet_plugin") + 1] for words in calls]


ALL = ["doctor", "collect_stats", "plan", "train"]


def test_a_temporary_folder_mounted_noexec(recipe: Path) -> None:
    """The kernel refuses to start FOLDER/python there; the shell reads it all the same."""
    result, calls = call(recipe, NOT_EXECUTABLE)
    assert result.returncode == 0, result.stderr
    assert programs(calls) == ALL
    started = {words[0] for words in calls}
    assert len(started) == 1 and started.pop().startswith(str(recipe / "tmp"))
    given = calls[-1][calls[-1].index("--python") + 1]
    assert given.startswith(f"sh {recipe / 'tmp'}/") and given.endswith("/python")
    assert not list((recipe / "tmp").iterdir()), "the server's folder is left"


def test_a_server_that_says_nothing_is_waited_for_only_so_long(recipe: Path) -> None:
    result, calls = call(recipe, "exec sleep 60", "--preload_timeout", "1")
    assert result.returncode == 0, result.stderr
    assert "no preload: nothing from its server in 1 s" in result.stdout
    assert programs(calls) == ALL and {words[0] for words in calls} == {str(recipe / "python")}


def test_a_server_that_ends_says_why_and_the_recipe_goes_on(recipe: Path) -> None:
    result, calls = call(recipe, "echo 'OSError: no sockets here'; exit 1")
    assert result.returncode == 0, result.stderr
    assert "no preload: its server ended: OSError: no sockets here" in result.stdout
    assert programs(calls) == ALL


def test_only_a_python_without_the_package_is_called_one(recipe: Path) -> None:
    result, calls = call(recipe, "exit 1", imports="false")
    assert result.returncode == 2 and calls == []
    assert "cannot import espnet_plugin (see above); activate the environment" in result.stderr


def test_it_imports_beside_step_1(recipe: Path) -> None:
    (recipe / "local").mkdir()
    (recipe / "local/data.sh").write_text('touch "${TMPDIR}/made"\n')
    served = 'while [ ! -f "$TMPDIR/made" ]; do sleep 0.02; done; ' + NOT_EXECUTABLE
    result, calls = call(recipe, served, "--stage", "1")
    assert result.returncode == 0, result.stderr
    assert "no preload" not in result.stdout
    assert calls[0][0] == str(recipe / "python") and programs(calls)[0] == "doctor"
    assert all(words[0].startswith(str(recipe / "tmp")) for words in calls[1:])
    result, _ = call(recipe, "exit 1", "--stage", "1", imports="false")
    assert "no preload" not in result.stdout and "(see above)" in result.stderr


def test_without_any_temporary_folder(recipe: Path) -> None:
    result, calls = call(recipe, NOT_EXECUTABLE, tmp=recipe / "none")
    assert result.returncode == 0, result.stderr
    assert "no preload: no temporary folder could be made; set TMPDIR" in result.stdout
    assert programs(calls) == ALL


def test_a_temporary_folder_with_a_space_and_a_quote(recipe: Path) -> None:
    folder = recipe / "it's tmp ü"
    folder.mkdir()
    server = 'cp "$0" "$folder/python.new"; mv "$folder/python.new" "$folder/python"; exec sleep 60'
    result, calls = call(recipe, server, tmp=folder)
    assert result.returncode == 0, result.stderr
    assert programs(calls) == ALL
    [given] = shlex.split(calls[-1][calls[-1].index("--python") + 1])
    assert given == calls[-1][0] and given.startswith(str(folder))


def test_ctrl_c_ends_recipe_server_and_programs(recipe: Path) -> None:
    """Sent to the whole group, as a terminal does; the server is in a group of its own."""
    program = recipe / "program.py"
    program.write_text(
        "import sys, time\n"
        "try:\n    open('begun', 'w').close(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('interrupted', file=sys.stderr); sys.exit(130)\n"
    )
    python = shlex.quote(sys.executable)
    server = f'printf "#!/bin/sh\\nexec {python} program.py\\n" >"$folder/python"; '
    server += 'chmod +x "$folder/python"; exec setsid sleep 60'
    options = ["--train_set", "tr", "--valid_set", "dev", "--stage", "5", "--stop_stage", "6"]
    process = subprocess.Popen(
        ["bash", "progressive.sh", *options, "--python", str(recipe / "python")],
        cwd=recipe, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SERVER": server, "TMPDIR": str(recipe / "tmp"), "IMPORTS": "true"},
        start_new_session=True, preexec_fn=heed_ctrl_c,
    )  # fmt: skip
    end = time.monotonic() + 30
    while not (recipe / "begun").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and said.splitlines() == ["interrupted"]
    assert not list((recipe / "tmp").iterdir())
    left = [path for path in Path("/proc").glob("[0-9]*") if is_in(path, recipe)]
    assert left == []


def is_in(process: Path, folder: Path) -> bool:
    """Whether a living process has this current folder."""
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        return os.readlink(process / "cwd") == str(folder) and state != "Z"
    except OSError:
        return False
