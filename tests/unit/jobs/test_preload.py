"""Programs run by the preload server behave as in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from espnet_plugin.jobs import preload_client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server needs Linux")
PROGRAM = """
import os, sys, time
print(sys.argv, os.getcwd(), os.environ.get("COLOUR"), "colorsys" in sys.modules, flush=True)
print("to stderr", file=sys.stderr)
if sys.argv[1:] == ["sleep"]:
    open("pid", "w").write(str(os.getpid()))
    time.sleep(600)
if sys.argv[1:] == ["raise"]:
    raise ValueError("out of cheese")
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else None)
"""
CLIENT = """
import sys
from espnet_plugin.jobs import preload_client
preload_client.PACKAGE = "program"
sys.exit(preload_client.main(sys.argv[1:]))
"""


@pytest.fixture(params=["server", "server" + 3 * "/a_long_name_of_a_folder_to_be_nested_ü"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """At a short path, and at one that is too long for a socket's address (107 bytes)."""
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    (tmp_path / "place").symlink_to(folder)
    # Not from the folder of the tests' program: that one is found through the client's folder.
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_plugin.jobs.preload", str(folder), "--modules", "colorsys"],
        cwd=folder,
    )
    await_that((folder / "python").exists)
    yield process
    process.kill()
    process.wait()


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """The client, for a program that lies in the folder ``work``."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    (work / "program.py").write_text(PROGRAM)
    (work / "client.py").write_text(CLIENT)
    return subprocess.Popen(
        [sys.executable, "client.py", socket_of(tmp_path), "-m", "program", *arguments],
        cwd=work,
        env={**os.environ, "COLOUR": "blue"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def socket_of(tmp_path: Path) -> str:
    """Its address without symbolic links, as long as it is."""
    return str((tmp_path / "place").resolve() / "socket")


def await_that(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def sleeping(tmp_path: Path) -> int:
    """Waits for the process of the program that sleeps."""
    path = tmp_path / "work/pid"
    await_that(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def test_arguments_folder_environment_streams_and_modules(
    tmp_path: Path, server: subprocess.Popen[bytes]
) -> None:
    out, err = start(tmp_path, "0", "a b").communicate(timeout=60)
    folder = tmp_path / "work"
    assert out == f"{[str(folder / 'program.py'), '0', 'a b']} {folder} blue True\n"
    assert err == "to stderr\n"


def test_what_the_server_imports_sees_no_gpu(tmp_path: Path) -> None:
    """An import that looks at a GPU makes torch refuse CUDA, cuDNN's version too, in all forks."""
    (tmp_path / "looks.py").write_text(
        "import os, pathlib\n"
        "pathlib.Path('seen').write_text(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_plugin.jobs.preload", str(tmp_path), "--modules", "looks"],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0"},
    )
    try:
        await_that((tmp_path / "seen").exists)
        await_that((tmp_path / "python").exists)
        assert (tmp_path / "seen").read_text() == "''"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("argument", "status"), [("0", 0), ("3", 3), ("raise", 1)])
def test_exit_status(
    tmp_path: Path, server: subprocess.Popen[bytes], argument: str, status: int
) -> None:
    process = start(tmp_path, argument)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert ("ValueError: out of cheese" in err) == (argument == "raise")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_program_gets_its_clients_signals(
    tmp_path: Path, server: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    process = start(tmp_path, "sleep")
    pid = sleeping(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    await_that(lambda: gone(pid))
    again = start(tmp_path, "4")  # and the server lives on
    again.communicate(timeout=60)
    assert again.returncode == 4


def test_programs_die_with_the_server(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    process = start(tmp_path, "sleep")
    pid = sleeping(tmp_path)
    server.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the preload server died" in err
    await_that(lambda: gone(pid))


def test_without_a_server_python_runs_it(tmp_path: Path) -> None:
    process = start(tmp_path, "5")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    assert out.endswith("blue False\n")


def test_a_folder_mounted_noexec(tmp_path: Path) -> None:
    """As progressive.sh calls it there; with a real mount, where a test may make one."""
    script = (
        'mount -t tmpfs -o noexec,size=1m tmpfs "$1" && cd "$1" || exit 77\n'
        '"$2" -m espnet_plugin.jobs.preload "$1" --modules colorsys & server=$!\n'
        "until [ -f python ]; do kill -0 $server || exit 1; sleep 0.02; done\n"
        '[ ! -x python ] && sh ./python -c "print(6)"; status=$?; kill $server; exit $status'
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts for this user here; progressive.sh's own test simulates one")
    assert done.returncode == 0 and done.stdout == "6\n", done.stderr


def test_client_needs_the_standard_library_only() -> None:
    command = [sys.executable, "-I", "-S", preload_client.__file__, "/nowhere", "-c", "print(6)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "6\n"
