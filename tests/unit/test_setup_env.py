"""tools/setup_env.sh with interpreters and uv that only note down how they were called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TOOLS = (
    "bash", "env", "cat", "cksum", "cp", "date", "dirname", "flock", "grep", "mkdir", "mv", "rm",
    "sleep", "touch",
)  # fmt: skip

COMPILER = "-m espnet_plugin.search.beam.compile_ahead"

# Stands for python3.12: makes "environments" that hold copies of itself, and a uv on demand.
PYTHON = r"""#!/usr/bin/env bash
echo "$0 $*" >> "${CALLS}"
case "$*" in
    "-c import sys"*) exit 0 ;;
    -V) echo "Python 3.12.9" ;;
    "-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    "-m pip install -q uv=="*)
        [ -z "${UV_IS_UNAVAILABLE:-}" ] || exit 1
        cp "${UV_STUB}" "${0%/*}/uv" ;;
    "-m pip install"*) exit "${INSTALL_STATUS:-0}" ;;
    *compile_ahead) exit "${COMPILER_STATUS:-0}" ;;
esac
"""

UV = r"""#!/usr/bin/env bash
echo "uv $*" >> "${CALLS}"
case "$1" in
    venv) mkdir -p "${@: -1}/bin" && cp "${5}" "${@: -1}/bin/python" ;;
    pip) sleep "${INSTALL_SECONDS:-0}"; exit "${INSTALL_STATUS:-0}" ;;
esac
"""

# On PATH but of another version, or a pyenv shim of a version that is not active.
UNUSABLE = "#!/usr/bin/env bash\nexit 1\n"


class Machine:
    """An empty machine: a copy of the repository's set-up files, a PATH and a home of its own."""

    def __init__(self, root: Path) -> None:
        self.repo, self.bin, self.home = root / "repo", root / "bin", root / "home"
        (self.repo / "tools").mkdir(parents=True)
        self.bin.mkdir()
        self.home.mkdir()
        for name in ("setup.py", "pyproject.toml", "constraints.txt", "tools/setup_env.sh"):
            shutil.copy(REPO / name, self.repo / name)
        for name in TOOLS:
            found = shutil.which(name)
            if found:
                (self.bin / name).symlink_to(found)
        self.log = root / "calls"
        stub = self.script(root / "uv_stub", UV)
        self.env = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "CALLS": str(self.log),
            "UV_STUB": str(stub),
        }

    def script(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, name: str, text: str = PYTHON) -> Path:
        return self.script(self.bin / name, text)

    def start(self, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.repo / "tools" / "setup_env.sh")],
            env={**self.env, **extra},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def setup(self, **extra: str) -> tuple[int, str]:
        process = self.start(**extra)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def calls(self) -> list[str]:
        """What was called since the last look, but version checks and the search's compiler."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        lines = text.splitlines()
        self.compiled = any(line.endswith(COMPILER) for line in lines)
        return [line for line in lines if not (" -c import sys" in line or line.endswith(COMPILER))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_installs_with_uv_and_the_pinned_constraints(machine: Machine) -> None:
    python = machine.python("python3.12")
    status, errors = machine.setup()
    assert status == 0, errors
    assert f"using {python} (Python 3.12.9)" in errors
    repo = machine.repo
    assert machine.calls()[-1] == (
        f"uv pip install --quiet --python {repo}/.venv/bin/python "
        f"-c {repo}/constraints.txt -e {repo}[test,demo,plots,docs] pip"
    )
    assert (repo / ".uv" / "bin" / "uv").exists()


@pytest.mark.parametrize("status", ["0", "1"])
def test_the_search_is_compiled_and_nothing_depends_on_it(machine: Machine, status: str) -> None:
    machine.python("python3.12")
    code, errors = machine.setup(COMPILER_STATUS=status)
    assert code == 0 and "ready" in errors
    assert ("not compiled" in errors) == (status == "1")
    machine.calls()
    assert machine.compiled
    assert machine.setup() == (0, "")


def test_a_second_call_does_nothing(machine: Machine) -> None:
    machine.python("python3.12")
    machine.setup()
    machine.calls()
    assert machine.setup() == (0, "")
    assert machine.calls() == []


@pytest.mark.parametrize("changed", ["constraints.txt", "setup.py", "pyproject.toml"])
def test_changed_requirements_are_installed_again(machine: Machine, changed: str) -> None:
    machine.python("python3.12")
    machine.setup()
    machine.calls()
    with (machine.repo / changed).open("a") as file:
        file.write("# changed\n")
    assert machine.setup()[0] == 0
    calls = machine.calls()
    assert any(call.startswith("uv pip install") for call in calls)
    # The environment itself is still good, and so is uv.
    assert not any(call.startswith("uv venv") or "-m venv" in call for call in calls)


def test_unusable_interpreters_are_passed_over(machine: Machine) -> None:
    machine.python("python3.12", UNUSABLE)
    machine.python("python3.13", UNUSABLE)
    good = machine.python("python3")
    _, errors = machine.setup()
    assert f"using {good} " in errors


def test_pyenvs_versions_are_the_last_resort(machine: Machine) -> None:
    machine.python("python3", UNUSABLE)
    versions = machine.home / ".pyenv" / "versions"
    machine.script(versions / "3.11.7" / "bin" / "python3", UNUSABLE)
    good = machine.script(versions / "3.13.0" / "bin" / "python3", PYTHON)
    status, errors = machine.setup()
    assert status == 0
    assert f"using {good} " in errors


def test_the_environments_own_interpreter_is_not_taken(machine: Machine) -> None:
    good = machine.python("python3")
    own = machine.script(machine.repo / ".venv" / "bin" / "python3.12", PYTHON)
    (machine.repo / ".venv" / ".setup_unfinished").touch()
    status, errors = machine.setup(PATH=f"{own.parent}:{own.parent}:{machine.bin}:{own.parent}")
    assert status == 0
    assert f"using {good} " in errors


def test_no_interpreter_gives_a_message(machine: Machine) -> None:
    machine.python("python3", UNUSABLE)
    status, errors = machine.setup()
    assert status == 1
    assert "no Python 3.12 or 3.13 found" in errors
    assert f"{machine.home}/.pyenv/versions" in errors
    assert not (machine.repo / ".venv").exists()


def test_a_named_interpreter_that_does_not_work_is_an_error(machine: Machine) -> None:
    machine.python("python3.12")
    bad = machine.script(machine.home / "py", UNUSABLE)
    status, errors = machine.setup(PYTHON=str(bad))
    assert status == 1
    assert f"PYTHON={bad} is not a working Python 3.12 or 3.13" in errors


def test_falls_back_to_pip(machine: Machine) -> None:
    machine.python("python3.12")
    status, errors = machine.setup(UV_IS_UNAVAILABLE="1")
    assert status == 0
    assert "going on with pip" in errors
    repo = machine.repo
    assert machine.calls()[-1] == (
        f"{repo}/.venv/bin/python -m pip install "
        f"-c {repo}/constraints.txt -e {repo}[test,demo,plots,docs]"
    )


def test_a_failed_installation_is_not_taken_for_done(machine: Machine) -> None:
    machine.python("python3.12")
    assert machine.setup(INSTALL_STATUS="3")[0] != 0
    machine.calls()
    status, errors = machine.setup()
    assert status == 0
    assert "interrupted, beginning .venv anew" in errors
    assert [call.split()[:2] for call in machine.calls() if call.startswith("uv ")] == [
        ["uv", "--version"],
        ["uv", "venv"],
        ["uv", "pip"],
    ]


def test_a_killed_installation_begins_anew(machine: Machine) -> None:
    machine.python("python3.12")
    process = machine.start(INSTALL_SECONDS="60")
    deadline = time.monotonic() + 30
    while not (machine.repo / ".venv" / ".setup_unfinished").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    status, errors = machine.setup()
    assert status == 0
    assert "interrupted, beginning .venv anew" in errors


def test_an_environment_made_by_hand_is_kept(machine: Machine) -> None:
    machine.python("python3.12")
    machine.script(machine.repo / ".venv" / "bin" / "python", PYTHON)
    own = machine.repo / ".venv" / "own"
    own.touch()
    assert machine.setup()[0] == 0
    assert own.exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_calls_at_once_install_once(machine: Machine) -> None:
    machine.python("python3.12")
    processes = [machine.start(INSTALL_SECONDS="0.3") for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert sum(call.startswith("uv pip install") for call in machine.calls()) == 1
    for process in processes:
        process.communicate()
