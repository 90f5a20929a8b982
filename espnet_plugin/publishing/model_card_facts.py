"""What a model card tells, read from the package: results, pipeline state, configuration.

The card says nothing that the package does not hold, so that a packed file can be published from
another machine than the one that trained it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.data.model_frames import frames_from_config
from espnet_plugin.packages.package import Package, read_mapping
from espnet_plugin.packages.weights import read_weights
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.report.training_table import clock
from espnet_plugin.scoring.decode_dirs import stage_of

_JOB = "job:"
_TRAIN = "train:"


@dataclass(frozen=True)
class Score:
    """A row of RESULTS.md; rates in per cent."""

    decoding: str
    data_set: str
    sentences: int
    words: int
    error: float


@dataclass(frozen=True)
class Step:
    """A step of the pipeline: a train stage, or a job between two.

    Attributes:
        name: without what kind of step it is.
        trains: whether it is a train stage.
        epochs: as RESULTS.md says; empty for jobs.
        seconds: wall-clock.
    """

    name: str
    trains: bool
    epochs: str
    seconds: float


@dataclass(frozen=True)
class Facts:
    """Everything a card tells.

    Attributes:
        stage: the train stage that the model comes from; None if the package does not say.
        config: its ESPnet configuration.
        scores: unit (WER, CER, TER) -> rows.
        steps: of the pipeline, in order.
        ngpu: GPUs that the training used; None if it is not known.
        environment: versions, as RESULTS.md lists them.
        parameters: numbers that training learned.
        results: path of RESULTS.md within the package; empty if there is none.
        imports: modules of other packages that the model needs.
    """

    stage: str | None
    config: Mapping[str, Any]
    scores: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    ngpu: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0
    results: str = ""
    imports: tuple[str, ...] = ()

    @property
    def takes_audio(self) -> bool:
        """Whether the model has a front-end, or is fed with features."""
        return self.config.get("input_size") is None

    @property
    def rate(self) -> int | None:
        """Samples per second; None for extracted features."""
        if not self.takes_audio:
            return None
        return frames_from_config(self.config, "raw").fs

    @property
    def topology(self) -> str:
        """``monotonic`` or ``rnnt``; empty for a model that is not ours."""
        return str((self.config.get("model_conf") or {}).get("topology", ""))

    @property
    def labels(self) -> str:
        """Number and kind of the labels."""
        kinds = {"char": "characters", "bpe": "sentencepiece units", "phn": "phonemes"}
        kind = str(self.config.get("token_type"))
        return f"{len(self.config.get('token_list') or ())} {kinds.get(kind, kind)}"

    def of_stage(self, unit: str, stage: str) -> list[Score]:
        """Rows of one train stage, any decoding."""
        rows = self.scores.get(unit, ())
        stages = [step.name for step in self.steps if step.trains]
        return [row for row in rows if stage_of(row.decoding, stages or [stage]) == stage]


def read_facts(package: Package) -> Facts:
    """Read a package's facts; what it lacks, the card leaves out.

    Raises:
        ValueError: a file of it is malformed, or the model is no table of tensors.
    """
    results = _find(package.root, "RESULTS.md")
    text = results.read_text(encoding="utf-8") if results else ""
    state = _find(package.root, "pipeline.json")
    pipeline = PipelineState.load(state) if state else None
    stage = package.extra.get("stage")
    return Facts(
        stage=None if stage is None else str(stage),
        config=read_mapping(package.train_config),
        scores={unit: tuple(_rows(text, unit)) for unit in ("WER", "CER", "TER")},
        steps=_steps(pipeline, _epochs(text)),
        ngpu=_ngpu(pipeline),
        environment=dict(re.findall(r"^- ([\w -]+): `([^`]+)`$", text, re.MULTILINE)),
        parameters=_parameters(package.model_file),
        results=results.relative_to(package.root).as_posix() if results else "",
        imports=package.imports,
    )


def _parameters(model: Path) -> int:
    """Without the statistics of normalisation layers and features, which are not learned."""
    counted = ("running_mean", "running_var", "num_batches_tracked")
    return sum(
        int(tensor.numel())
        for name, tensor in read_weights(model).items()
        if not name.endswith(counted) and not name.startswith("normalize.")
    )


def _find(root: Path, name: str) -> Path | None:
    """The file of this name nearest to the package's top."""
    found = sorted(root.rglob(name), key=lambda path: (len(path.parts), str(path)))
    return found[0] if found else None


def _rows(text: str, unit: str) -> Iterator[Score]:
    """Rows of the first table of a unit; later ones belong to other experiments."""
    section = re.search(rf"^### {unit}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    for line in section[1].splitlines() if section else ():
        cells = line.strip().strip("|").split("|")
        if len(cells) == 9 and "/" in cells[0]:
            decoding, _, data_set = cells[0].rpartition("/")
            yield Score(decoding, data_set, int(cells[1]), int(cells[2]), float(cells[7]))


def _epochs(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\|(train:[\w-]+)\|\w+\|([^|]*)\|", text, re.MULTILINE))


def _steps(pipeline: PipelineState | None, epochs: Mapping[str, str]) -> tuple[Step, ...]:
    if pipeline is None:
        return ()
    return tuple(
        Step(
            name.partition(":")[2],
            name.startswith(_TRAIN),
            epochs.get(name, ""),
            pipeline.steps[name].seconds,
        )
        for name in pipeline.plan
        if name in pipeline.steps and name.startswith((_TRAIN, _JOB))
    )


def _ngpu(pipeline: PipelineState | None) -> int | None:
    arguments = list((pipeline.invocation if pipeline else {}).get("arguments", ()))
    if "--ngpu" not in arguments[:-1]:
        return None
    value = str(arguments[arguments.index("--ngpu") + 1])
    return int(value) if value.isdecimal() else None


def cost(steps: tuple[Step, ...]) -> str:
    """Wall-clock of all steps together, ``h:mm:ss``."""
    return clock(sum(step.seconds for step in steps))
