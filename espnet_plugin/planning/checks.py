"""What `doctor` finds: one check, one line, and a remedy where something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.planning.plan_table import table

OK, NOTE, WARNING, FAILED = "ok", "note", "warning", "FAILED"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        status: OK; NOTE (something optional is not there); WARNING (may go wrong); FAILED.
        found: what there is.
        remedy: what to do about it.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Wishes:
    """What a run will want of the machine.

    Attributes:
        config: pipeline YAML, or None.
        expdir, dumpdir: where results and data go.
        train_hours: of speech, where known; fs: its sampling rate in Hz.
        dump_copies: how often they are written to ``dumpdir`` (segments cut out, other speeds).
        ngpu, num_nodes, nj: as the pipeline has them.
        num_workers: processes of a training's data loader.
        train_cmd, cuda_cmd, decode_cmd: ``local`` or Kaldi-style commands.
        files: that later steps read; tools, packages: programs and Python packages they call.
        parameters: of the model, as far as known.
        training_bytes: memory of training, where a probe measured it.
        stages: train stages that keep models.
        models_kept: models that a stage keeps (``keep_nbest_models``).
    """

    config: Path | None = None
    expdir: Path = Path("exp")
    dumpdir: Path = Path("dump")
    train_hours: float | None = None
    fs: int = 16000
    dump_copies: float = 1.0
    ngpu: int = 0
    num_nodes: int = 1
    nj: int = 1
    num_workers: int = 0
    train_cmd: str = "local"
    cuda_cmd: str = "local"
    decode_cmd: str = "local"
    files: Sequence[Path] = ()
    tools: Sequence[str] = ()
    packages: Sequence[str] = ()
    parameters: int | None = None
    training_bytes: float | None = None
    stages: int = 0
    models_kept: int = 0


def check_table(checks: Sequence[Check], markdown: bool = False) -> str:
    """A row for each check; remedies below, where lines may be long."""
    rows = [[check.name, check.status, check.found] for check in checks]
    text = table(["check", "status", "found"], rows, markdown, left=3)
    remedies = [check for check in checks if check.remedy]
    if not remedies:
        return text
    return text + "\n\n" + "\n".join(remedy_line(check, markdown) for check in remedies)


def remedy_line(check: Check, markdown: bool = False) -> str:
    """``status: name: what was found; what to do``."""
    bullet = "- " if markdown else ""
    return f"{bullet}{check.status}: {check.name}: {check.found}; {check.remedy}"
