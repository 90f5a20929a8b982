"""What this machine has: memory, disk space, GPUs; asked of the system, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver describes it; memory in bytes."""

    name: str
    memory: int
    free: int
    driver: str


def memory_total() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    return min([_meminfo("MemTotal"), *_limits()])


def memory_available() -> int:
    """Bytes of memory that are free or can be made free."""
    return min([_meminfo("MemAvailable"), *_limits()])


def _meminfo(key: str) -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def _limits() -> list[int]:
    found = []
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return found


def disk_free(folder: Path) -> int:
    """Bytes free on the disk that holds ``folder``, which need not exist yet."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The nearest ancestor that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def gpus() -> list[Gpu] | None:
    """GPUs that NVIDIA's driver shows; None where there is no driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version"]
    try:
        done = subprocess.run(
            [*query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    found = []
    for line in done.stdout.splitlines():
        name, total, free, driver = (part.strip() for part in line.rsplit(",", 3))
        found.append(Gpu(name, int(total) << 20, int(free) << 20, driver))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    wanted = [part for part in visible.split(",") if part.strip() and part.strip() != "-1"]
    return found[: len(wanted)]
