"""The pipeline's memory: ``pipeline.json``, replaced atomically at every change."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically

FORMAT_VERSION = 1
STATUSES = ("todo", "running", "done", "failed")


@dataclass
class StepState:
    """What is known about one step; times are seconds since the epoch.

    Attributes:
        status: todo | running | done | failed. A killed step stays ``running``.
        fingerprint: of the inputs that this step's folder was made from.
        seconds: wall-clock accumulated over all attempts, the ones that were killed included.
        max_epoch, num_iters_per_epoch: fixed by a budget, so that a resume keeps them.
        checkpoint: of a finished train step: the file that later steps load.
        inputs: upstream step -> when it was finished, as seen when this step began.
        spans: one of ``host``, ``seconds`` and ``reference_step_seconds`` (None: not measured), of
            a training on CPUs ``processor_seconds`` as well, for every attempt, because attempts
            may run on different machines; see `espnet_plugin.pipeline.state.reference_system`.
        products: of a finished step: its files as they were then, see `products_of`.
    """

    status: str = "todo"
    fingerprint: str | None = None
    folder: str | None = None
    started: float | None = None
    finished: float | None = None
    heartbeat: float | None = None
    seconds: float = 0.0
    max_epoch: int | None = None
    num_iters_per_epoch: int | None = None
    checkpoint: str | None = None
    inputs: dict[str, float | None] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)
    products: dict[str, list[int | str]] = field(default_factory=dict)
    attempts: int = 0
    pid: int | None = None
    host: str | None = None
    message: str | None = None


@dataclass
class PipelineState:
    """All steps of one experiment; ``save`` after every change."""

    path: Path
    steps: dict[str, StepState] = field(default_factory=dict)
    invocation: dict[str, Any] = field(default_factory=dict)
    plan: list[str] = field(default_factory=list)
    package_version: str | None = None
    config_check: str | None = None

    @classmethod
    def load(cls, path: Path) -> PipelineState:
        """Read the state; an absent file is a pipeline that has not begun.

        Raises:
            ValueError: the file is not a pipeline state this version can read.
        """
        if not path.exists():
            return cls(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version = data["version"]
            steps = {k: StepState(**v) for k, v in data["steps"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: not a pipeline state ({error}); restore it from a backup, or move the "
                "experiment folder away and start anew"
            ) from error
        if version != FORMAT_VERSION:
            raise ValueError(f"{path}: format {version}, this version reads {FORMAT_VERSION}")
        return cls(
            path,
            steps,
            data.get("invocation", {}),
            data.get("plan", []),
            data.get("package_version"),
            data.get("config_check"),
        )

    def step(self, name: str) -> StepState:
        """The state of a step, made on first use."""
        return self.steps.setdefault(name, StepState())

    def save(self) -> None:
        """Write atomically: a kill leaves the old file or the new one, never a part."""
        data: Mapping[str, Any] = {
            "version": FORMAT_VERSION,
            "package_version": self.package_version,
            "invocation": self.invocation,
            "config_check": self.config_check,
            "plan": self.plan,
            "steps": {name: asdict(step) for name, step in self.steps.items()},
        }
        write_atomically(self.path, json.dumps(data, indent=2) + "\n")

    def begin(
        self, name: str, fingerprint: str, folder: str, inputs: Mapping[str, float | None]
    ) -> StepState:
        """Mark a step as running in this process."""
        step = self.step(name)
        now = time.time()
        if step.started is None:
            step.started = now
        step.status, step.fingerprint, step.folder = "running", fingerprint, folder
        step.heartbeat, step.finished, step.message = now, None, None
        step.attempts += 1
        step.inputs = dict(inputs)
        step.pid, step.host = os.getpid(), socket.gethostname()
        step.spans.append({"host": step.host, "seconds": 0.0, "reference_step_seconds": None})
        self.save()
        return step

    def beat(self, name: str) -> None:
        """Add the time since the last heartbeat to a running step."""
        step = self.step(name)
        now = time.time()
        if step.heartbeat is not None:
            passed = max(0.0, now - step.heartbeat)
            step.seconds += passed
            if step.spans:
                step.spans[-1]["seconds"] += passed
        step.heartbeat = now
        self.save()

    def end(self, name: str, status: str, message: str | None = None) -> None:
        """Mark a step as done or failed."""
        assert status in STATUSES, status
        self.beat(name)
        step = self.step(name)
        step.status, step.message = status, message
        step.finished = time.time() if status == "done" else None
        step.pid = None
        self.save()

    def reset(self, name: str) -> None:
        """Forget a step (its folder has been moved aside)."""
        self.steps[name] = StepState()
        self.save()
