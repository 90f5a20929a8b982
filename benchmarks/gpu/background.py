"""What takes processor time and no GPU, and is made while sections a and b run.

warp-rnnt is built from its source package (.gpu_carry/sources), and AN4's data are prepared by the
recipe's own steps 1 to 5. Each job leaves ``<name>.status`` with its exit status and last words.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARRY = ROOT / ".gpu_carry"
PLACE = Path(tempfile.gettempdir()) / "espnet_progressive_gpu"
#: Where warp-rnnt is put.
SITE = PLACE / "site"
AN4 = ROOT / "egs2" / "an4" / "asr1"


class Background:
    """Starts the jobs.

    Args:
        warp_rnnt, an4: which of them.
        log: takes what they print.
    """

    def __init__(self, warp_rnnt: bool, an4: bool, log: Path) -> None:
        PLACE.mkdir(parents=True, exist_ok=True)
        for status in PLACE.glob("*.status"):  # of a run before
            status.unlink()
        self._children: list[subprocess.Popen[bytes]] = []
        if warp_rnnt:
            sources = sorted((CARRY / "sources").glob("warp*rnnt*.tar.gz"))
            install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
            install += ["--no-build-isolation", "--target", str(SITE), *map(str, sources)]
            self._start("warp_rnnt", shlex.join(install) if sources else "", log)
        if an4:
            archive = CARRY / "an4_mfcc.tar.gz"
            command = ["./run.sh", "--an4_root", str(archive), "--stop_stage", "5"]
            command += ["--skip_doctor", "true", "--nj", "2"]
            self._start("an4", shlex.join(command) if archive.is_file() else "", log)

    def _start(self, name: str, command: str, log: Path) -> None:
        status = PLACE / f"{name}.status"
        status.unlink(missing_ok=True)
        if not command:
            status.write_text("1\nnot carried (benchmarks/gpu/carry.sh)\n")
            return
        own = PLACE / f"{name}.log"
        script = (
            f"{command} > {own} 2>&1; code=$?; cat {own} >> {shlex.quote(str(log))}; "
            f'{{ echo $code; grep -iE "error|exception" {own} | tail -n 2; tail -n 1 {own}; }} '
            f"> {status}.tmp; mv {status}.tmp {status}"
        )
        environment = {**os.environ, "TORCH_CUDA_ARCH_LIST": "9.0", "MAX_JOBS": "8"}
        self._children.append(
            subprocess.Popen(
                ["nice", "-n", "10", "bash", "-c", script],
                cwd=AN4, env=environment, start_new_session=True,
            )
        )  # fmt: skip

    def stop(self) -> None:
        """End what still runs."""
        for child in self._children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def finished(name: str, seconds: float) -> str:
    """Wait for a job; says how it ended. warp-rnnt becomes importable."""
    status = PLACE / f"{name}.status"
    end = time.monotonic() + seconds
    while not status.is_file() and time.monotonic() < end:
        time.sleep(0.5)
    if not status.is_file():
        return f"{name}: not done after {seconds:.0f} s"
    code, _, words = status.read_text().partition("\n")
    if name == "warp_rnnt" and code == "0":
        sys.path.append(str(SITE))
    return f"{name}: " + ("ready" if code == "0" else f"failed: {' '.join(words.split())[-300:]}")
