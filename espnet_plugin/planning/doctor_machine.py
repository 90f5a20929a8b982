"""Checks of the machine: processor, memory, disk, limits, GPUs, job submission."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from espnet_plugin.planning.checks import FAILED, NOTE, OK, WARNING, Check, Wishes
from espnet_plugin.planning.machine import (
    GIB,
    disk_free,
    existing,
    gpus,
    memory_available,
    memory_total,
)

#: Memory of a process that has imported ESPnet's ASR task: 0.93 GiB, measured on 2026-11-22 with
#: ESPnet 202611 and torch 2.14.1 (VmHWM after the import).
ESPNET_BYTES = round(0.93 * GIB)
#: FLAC of speech, as a share of 16-bit samples: 0.45 to 0.6 is common.
_FLAC_SHARE = 0.6
_LEAST_SHM = GIB
_LEAST_FILES = 1024
_LEAST_TEMPORARY = GIB // 16
#: Oldest Linux driver for a CUDA major version (NVIDIA's compatibility table).
_DRIVERS = {11: 450, 12: 525, 13: 580}
#: Commands with which ESPnet's launcher starts no second node.
_ONE_MACHINE = ("local", "run.pl", "ssh.pl")
#: Kaldi's submission scripts -> what they call.
_SUBMIT = {"slurm.pl": "sbatch", "queue.pl": "qsub", "pbs.pl": "qsub", "ssh.pl": "ssh"}


def machine_checks(wishes: Wishes) -> Iterator[Check]:
    """All checks of the machine."""
    yield cores(wishes)
    yield memory(wishes)
    yield from disks(wishes)
    yield temporary_folder()
    yield open_files()
    if wishes.num_workers:
        yield shared_memory(Path("/dev/shm"))
    if wishes.ngpu:
        yield from gpu_checks(wishes)
    for name in ("train_cmd", "cuda_cmd", "decode_cmd"):
        yield from submission(f"--{name}", getattr(wishes, name))
    script = Path(shlex.split(wishes.cuda_cmd)[0]).name
    if wishes.num_nodes > 1 and script in _ONE_MACHINE:
        found = f"--num_nodes {wishes.num_nodes}, but --cuda_cmd {script} serves one machine"
        remedy = "give --cuda_cmd slurm.pl (srun), or another one where mpirun reaches the nodes"
        yield Check("nodes", FAILED, found, remedy)


def cores(wishes: Wishes) -> Check:
    """Processor cores against parallel jobs."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if wishes.decode_cmd == "local" and wishes.nj > count:
        return Check("cores", WARNING, f"{count}, for --nj {wishes.nj}", f"give --nj {count}")
    return Check("cores", OK, f"{count}, for --nj {wishes.nj}")


def memory(wishes: Wishes) -> Check:
    """Free memory against what jobs and training need."""
    total, free = memory_total(), memory_available()
    need = float(ESPNET_BYTES)
    if wishes.decode_cmd == "local":  # jobs share the import, but each loads a model
        need += wishes.nj * 4.0 * (wishes.parameters or 0)
    if wishes.cuda_cmd == "local" and not wishes.ngpu:
        need = max(need, ESPNET_BYTES + (wishes.training_bytes or _model_bytes(wishes)))
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free, needs about {need / GIB:.1f}"
    if need > total:
        return Check("memory", FAILED, found, "lower --nj and the stages' batch_bins")
    if need > free:
        return Check(
            "memory", WARNING, found, "end other programs, or lower --nj and the stages' batch_bins"
        )
    return Check("memory", OK, found)


def _model_bytes(wishes: Wishes) -> float:
    """Parameters, gradients and two moments in float32; activations come on top."""
    return 16.0 * (wishes.parameters or 0)


def disks(wishes: Wishes) -> Iterator[Check]:
    """Space for data and experiments, added up where they share a disk; may they be written?"""
    needs = {
        "dump": (wishes.dumpdir, _dump_bytes(wishes)),
        "experiments": (wishes.expdir, _experiment_bytes(wishes)),
    }
    devices = {name: os.stat(existing(folder)).st_dev for name, (folder, _) in needs.items()}
    for name, (folder, own) in needs.items():
        shared = sum(need for other, (_, need) in needs.items() if devices[other] == devices[name])
        free = disk_free(folder)
        found = f"{folder}: {free / GIB:,.0f} GiB free, about {own / GIB:,.1f} needed"
        if shared > own:
            found += f", {shared / GIB:,.1f} with the rest on this disk"
        if not os.access(existing(folder), os.W_OK):
            yield Check(
                f"disk, {name}", FAILED, f"{existing(folder)}: may not be written",
                f"change its owner or mode, or give another --{_option(name)}",
            )  # fmt: skip
        elif free < shared:
            yield Check(
                f"disk, {name}", FAILED, found,
                f"free some space, or give a --{_option(name)} on another disk",
            )  # fmt: skip
        else:
            yield Check(f"disk, {name}", OK, found)


def temporary_folder() -> Check:
    """TMPDIR: the preloaded ESPnet's socket, and what compilers of GPU kernels make, lie there."""
    name, wanted = "temporary folder", os.environ.get("TMPDIR") or "/tmp"
    another = "set TMPDIR to a folder that may be written and executed from, on a disk with room"
    if not os.path.isdir(wanted) or not os.access(wanted, os.W_OK | os.X_OK):
        return Check(name, WARNING, f"{wanted}: no folder that may be written", another)
    free, wrong = disk_free(Path(wanted)), []
    if free < _LEAST_TEMPORARY:
        wrong.append(f"{free / GIB:.2f} GiB free")
    if os.statvfs(wanted).f_flag & os.ST_NOEXEC:
        wrong.append("mounted noexec, so that no program may be started from it")
    if wrong:
        return Check(name, WARNING, f"{wanted}: {'; '.join(wrong)}", another)
    return Check(name, OK, f"{wanted}: {free / GIB:,.0f} GiB free")


def _option(name: str) -> str:
    return "dumpdir" if name == "dump" else "expdir"


def _dump_bytes(wishes: Wishes) -> float:
    """FLAC copies of the training data; 10 % for the other sets."""
    hours = wishes.dump_copies * (wishes.train_hours or 0.0)
    return 1.1 * hours * 3600 * wishes.fs * 2 * _FLAC_SHARE


def _experiment_bytes(wishes: Wishes) -> float:
    """Models kept and their average, and a checkpoint with gradients' moments, for every stage."""
    models = wishes.models_kept + 1 + 3
    return 4.0 * (wishes.parameters or 0) * models * wishes.stages + GIB / 4


def open_files() -> Check:
    """Files that a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _LEAST_FILES:
        wanted = min(4096, hard) if hard > 0 else 4096
        remedy = f"`ulimit -n {wanted}` before the run"
        return Check("open files", WARNING, f"at most {soft} a process", remedy)
    return Check("open files", OK, "unlimited" if soft < 0 else f"at most {soft:,} a process")


def shared_memory(folder: Path) -> Check:
    """Room for batches on their way from data loaders; containers often have 64 MiB."""
    if not folder.is_dir():
        return Check("shared memory", NOTE, f"no {folder} on this system")
    size = shutil.disk_usage(folder).total
    found = f"{folder}: {size / GIB:.1f} GiB"
    if size < _LEAST_SHM:
        return Check("shared memory", WARNING, found,
                     "start the container with --shm-size 8g, or set num_workers: 0")  # fmt: skip
    return Check("shared memory", OK, found)


def gpu_checks(wishes: Wishes) -> Iterator[Check]:
    """GPUs, driver and torch's CUDA against what training wants of this machine."""
    if wishes.cuda_cmd != "local":
        yield Check("GPU", NOTE, f"training runs through {wishes.cuda_cmd!r}: not looked at here",
                    "call doctor there as well")  # fmt: skip
        return
    found = gpus()
    if not found:
        what = "no NVIDIA driver (nvidia-smi)" if found is None else "none visible"
        remedy = "run where there are GPUs, look at CUDA_VISIBLE_DEVICES, or give --ngpu 0"
        yield Check("GPU", FAILED, f"{what}, for --ngpu {wishes.ngpu}", remedy)
        return
    names = ", ".join(f"{gpu.name} ({gpu.memory / GIB:.0f} GiB)" for gpu in found)
    if len(found) < wishes.ngpu:
        yield Check("GPU", FAILED, f"{names}, for --ngpu {wishes.ngpu}",
                    f"give --ngpu {len(found)}")  # fmt: skip
    else:
        yield Check("GPU", OK, names)
    used = [gpu for gpu in found[: wishes.ngpu] if gpu.free < 0.9 * gpu.memory]
    least = min(gpu.free for gpu in found[: wishes.ngpu])
    if used:
        yield Check("GPU memory", WARNING, f"{least / GIB:.1f} GiB free: others use these GPUs",
                    "choose free ones with CUDA_VISIBLE_DEVICES")  # fmt: skip
    if wishes.training_bytes and wishes.training_bytes > found[0].memory:
        yield Check("GPU memory", FAILED, f"training needs {wishes.training_bytes / GIB:.1f} GiB",
                    "lower the stages' batch_bins and raise their accum_grad alike")  # fmt: skip
    yield driver(found[0].driver, cuda_of_torch())
    yield triton()


def driver(version: str, cuda: str | None) -> Check:
    """Whether the driver is new enough for the CUDA that torch was built with."""
    if cuda is None:
        return Check("CUDA", FAILED, "this torch was built without CUDA",
                     "install torch from PyPI (pip install --force-reinstall torch)")  # fmt: skip
    oldest = _DRIVERS.get(int(cuda.split(".")[0]), max(_DRIVERS.values()))
    found = f"driver {version}, torch's CUDA {cuda}"
    if int(re.split(r"\D", version)[0] or 0) < oldest:
        return Check("CUDA", FAILED, found, f"update NVIDIA's driver to {oldest} or newer, or "
                     "install a torch for an older CUDA")  # fmt: skip
    return Check("CUDA", OK, found)


def cuda_of_torch() -> str | None:
    """The CUDA version of the installed torch, without importing it; None: built without."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("version.py")
    match = re.search(r"^cuda\b[^=]*= '([\d.]+)'", path.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1] if match else None


def triton() -> Check:
    """The losses' kernels on a GPU."""
    if importlib.util.find_spec("triton") is None:
        return Check("triton", WARNING, "not installed: losses run as plain torch, slower",
                     "pip install triton")  # fmt: skip
    return Check("triton", OK, "installed")


def submission(option: str, command: str) -> Iterator[Check]:
    """A job submission command, and what it calls in turn."""
    if command == "local":
        return
    script = shlex.split(command)[0]
    wanted = [script]
    if (below := _SUBMIT.get(Path(script).name)) is not None:
        wanted.append(below)
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        yield Check(f"{option}", FAILED, f"{command!r}: not found: {', '.join(missing)}",
                    "take the script from Kaldi or ESPnet (egs2/TEMPLATE/asr1/steps, utils), put "
                    "it on PATH, and call this where jobs may be submitted")  # fmt: skip
    else:
        yield Check(f"{option}", OK, " and ".join(str(shutil.which(name)) for name in wanted))
