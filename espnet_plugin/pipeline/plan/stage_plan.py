"""What a pipeline consists of: train stages, and the steps (stages and jobs) in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_plugin.data.decode_files import BOUNDARY_FOLDER
from espnet_plugin.data.stream.options import check_stage, with_epoch
from espnet_plugin.pipeline.plan.budget import Budget
from espnet_plugin.pipeline.plan.config import PipelineConfig, espnet_options
from espnet_plugin.pipeline.plan.init_from import PARTS, InitFrom, check_shape, read_init_from
from espnet_plugin.pipeline.plan.losses import JOB_DATA, find_loss
from espnet_plugin.pipeline.plan.options import EVERY_STAGE
from espnet_plugin.pipeline.plan.realign import (
    FOLDER,
    entry_after,
    is_realignment,
    realignments,
)

__all__ = [
    "DEFAULT_CHECKPOINT",
    "PARTS",
    "InitFrom",
    "Step",
    "TrainStage",
    "build_steps",
    "make_stage",
    "validate_plan",
    "with_init",
]

DEFAULT_CHECKPOINT = "valid.loss.ave.pth"

#: Folders of an experiment that are no stage's, and what ``--<name>_args`` are for instead.
_FOLDERS = ("conf", "decode", "plan", "probe", "report", "scales", BOUNDARY_FOLDER)
_OTHER_ARGUMENTS = (EVERY_STAGE, "inference", "lm")
#: Folders of jobs, which may go on with the name of a stage: ``nbest_mbr``.
_JOBS = (*JOB_DATA, FOLDER)


@dataclass(frozen=True)
class TrainStage:
    """One ESPnet training run.

    Attributes:
        name: its folder, and its key in the YAML.
        loss: registered loss; decides which data the stage needs.
        options: ESPnet's options (merged, without the pipeline's own keys).
        init_from: parameters to start from; None starts from random ones.
        checkpoint: the file later steps load from this stage's folder.
        budget: how long it trains.
        data: ``train`` and ``valid`` folders of a stage that pretrains, where it has its own.
    """

    name: str
    loss: str
    options: Mapping[str, Any] = field(hash=False)
    init_from: InitFrom | None
    checkpoint: str = DEFAULT_CHECKPOINT
    budget: Budget = field(default_factory=Budget)
    data: Mapping[str, Path] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/: \t"):
            raise ValueError(f"a stage's name is a folder name, got {self.name!r}")
        _check_free(self.name)
        try:
            data = find_loss(self.loss).needs_with(self.options.get("loss_conf") or {})
        except ValueError as error:
            raise ValueError(f"stage {self.name}: {error}") from error
        if set(JOB_DATA) <= set(data):
            raise ValueError(
                f"stage {self.name}: its loss {self.loss} needs an alignment and N-best lists; a "
                "stage takes one of them"
            )

    @property
    def needs(self) -> str | None:
        """``"alignment"``, ``"nbest"`` or None."""
        data = find_loss(self.loss).needs_with(self.options.get("loss_conf") or {})
        return next((name for name in JOB_DATA if name in data), None)

    @property
    def trains_transducer(self) -> bool:
        """Whether its model can make N-best lists: an aligner trains the encoder alone."""
        return not (self.pretrains or find_loss(self.loss).searches_encoder)

    @property
    def pretrains(self) -> bool:
        """Whether it learns from speech alone, so that its model neither aligns nor recognises."""
        return find_loss(self.loss).pretrains


def _check_free(name: str) -> None:
    """Refuse a stage's name that means something else.

    Raises:
        ValueError: it does.
    """
    remedy = "give the stage another name"
    if name in (".", "..", *_FOLDERS) or any(f"{name}_".startswith(f"{job}_") for job in _JOBS):
        raise ValueError(
            f"stage {name}: the pipeline keeps things of its own in a folder of that name; {remedy}"
        )
    if name in _OTHER_ARGUMENTS:
        raise ValueError(f"stage {name}: --{name}_args are not those of one stage; {remedy}")


@dataclass(frozen=True)
class Step:
    """One unit of the pipeline: a training run or a job over the data.

    Attributes:
        name: ``train:<stage>`` or ``job:<folder>``; the key in pipeline.json.
        kind: train | alignment | nbest.
        folder: inside ``<expdir>/<tag>``.
        stage: the stage trained, or whose model the job uses (None: an external alignment).
        upstream: names of the steps whose output this one reads.
        data_step: for a train step, the job that made its alignment or N-best lists.
        start: the stage whose start from outside (`InitFrom.external`) gives the job its model,
            where no stage before it can.
        labels_step: the alignment that chose the pronunciations whose labels this step uses.
        consumer: the first stage that a job's data are made for.
    """

    name: str
    kind: str
    folder: str
    stage: str | None
    upstream: tuple[str, ...]
    data_step: str | None = None
    start: str | None = None
    labels_step: str | None = None
    consumer: str | None = None


def make_stage(
    name: str, config: PipelineConfig, previous: str | None, default_loss: str | None = None
) -> TrainStage:
    """Build one validated stage from its YAML section.

    Raises:
        ValueError: the section is missing or something in it is invalid.
    """
    if name not in config.train_stages:
        raise ValueError(
            f"{config.path}: the plan names stage {name!r}, but train_stages has only "
            f"{', '.join(config.train_stages)}"
        )
    section = config.train_stages[name]
    loss = section.get("loss", default_loss)
    if loss is None:
        raise ValueError(f"{config.path}: train_stages.{name} has no loss")
    try:
        options = with_epoch({**espnet_options(section), "loss": loss})
        return TrainStage(
            name=name,
            loss=str(loss),
            options=options,
            init_from=read_init_from(section, previous),
            checkpoint=str(section.get("checkpoint", DEFAULT_CHECKPOINT)),
            data=_data(section),
            budget=Budget(
                max_steps=section.get("max_steps"),
                hours=section.get("hours"),
                reference_hours=section.get("reference_hours"),
                probe_iters=section.get("probe_iters"),
            ),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.path}: train_stages.{name}: {error}") from error


def _data(section: Mapping[str, Any]) -> dict[str, Path]:
    """``data`` of a stage's section: folders that need no transcripts.

    Raises:
        ValueError: it maps something else.
    """
    given = section.get("data") or {}
    if not isinstance(given, Mapping) or set(given) - {"train", "valid"}:
        raise ValueError(f"data: maps train and valid to folders of data; got {given!r}")
    return {name: Path(str(folder)) for name, folder in given.items() if folder}


def with_init(config: PipelineConfig, stage: str, source: str, parts: str | None) -> PipelineConfig:
    """The configuration with another start of one stage, as ``--init_from`` asks for.

    Raises:
        ValueError: there is no such stage.
    """
    if stage not in config.train_stages:
        raise ValueError(
            f"--init_from_stage {stage}: the stages are {', '.join(config.train_stages)}"
        )
    given: dict[str, Any] = {"model": source, **({} if parts is None else {"parts": parts})}
    changed = {**config.train_stages[stage], "init_from": given}
    return replace(config, train_stages={**config.train_stages, stage: changed})


def validate_plan(stages: Sequence[TrainStage], config: PipelineConfig) -> None:
    """Check that everything a stage needs exists before it.

    Raises:
        ValueError: an initial checkpoint, alignment or N-best list has no source.
    """
    if not stages:
        raise ValueError(f"{config.path}: the plan has no train stage")
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"{config.path}: a stage is planned twice: {', '.join(names)}")
    for index, stage in enumerate(stages):
        try:
            check_stage(stage.options, stage.needs, config.alignment)
        except ValueError as error:
            raise ValueError(f"{config.path}: stage {stage.name}: {error}") from error
        before = names[:index]
        init = stage.init_from
        if init is not None and init.stage is not None and init.stage not in before:
            raise ValueError(
                f"{config.path}: stage {stage.name} starts from stage {init.stage}, which does "
                f"not come before it (before it: {', '.join(before) or 'nothing'}); "
                "set init_from: null to start from random parameters"
            )
        if init is not None:
            source = next((s.options for s in stages if s.name == init.stage), None)
            check_shape(stage.name, init, stage.options, source)
        if _brings_model(stage):
            continue
        able = any(not s.pretrains for s in stages[:index])
        if stage.needs == "alignment" and not able and not config.alignment.get("from_file"):
            raise ValueError(
                f"{config.path}: stage {stage.name} needs an alignment, but no stage before it "
                "can make one; plan an aligner (loss: ctc) first or set alignment.from_file"
            )
        if stage.needs == "nbest" and not any(s.trains_transducer for s in stages[:index]):
            raise ValueError(
                f"{config.path}: stage {stage.name} needs N-best lists, but no transducer stage "
                f"(loss viterbi, full_sum, ...) comes before it: {', '.join(before) or 'nothing'}"
            )
    if config.alignment.get("variants") and config.alignment.get("from_file"):
        raise ValueError(
            f"{config.path}: alignment.variants chooses pronunciations while it aligns; it cannot "
            "go with alignment.from_file"
        )
    for entry in realignments(config.alignment):
        able_after = [stage.name for stage in stages if not stage.pretrains]
        if entry["after"] not in able_after:
            raise ValueError(
                f"{config.path}: alignment.realign.after names no planned stage: {entry['after']}; "
                f"those that can align are {', '.join(able_after)}"
            )


def _brings_model(stage: TrainStage) -> bool:
    """Whether the model that a stage starts from could also align or recognise its data."""
    init = stage.init_from
    if init is None or init.vocabulary is not None:  # an extended model does not know all labels
        return False
    return init.external and not init.fits_any_vocabulary


def _data_source(
    stage: TrainStage, before: Sequence[TrainStage], config: PipelineConfig
) -> tuple[str | None, str | None]:
    """Whose model makes a stage's alignment or N-best lists: (stage before, stage that starts)."""
    if stage.needs == "alignment" and config.alignment.get("from_file"):
        return None, None
    able = [
        s for s in before if s.trains_transducer or (stage.needs == "alignment" and not s.pretrains)
    ]
    return (able[-1].name, None) if able else (None, stage.name)


def build_steps(stages: Sequence[TrainStage], config: PipelineConfig) -> tuple[Step, ...]:
    """The steps of a validated plan, in the order they run.

    An alignment is made once, by the stage before the first one that needs it, and once more
    where an entry of ``alignment.realign`` says so; N-best lists are made for every stage that
    needs them, by the transducer before it. A first stage that starts from a model of elsewhere
    has them made by that model. An alignment that chose among pronunciations
    (``alignment.variants``) gives all later steps their labels.
    """
    steps: list[Step] = []
    data: dict[str, str] = {}
    labels: str | None = None
    for number, stage in enumerate(stages):
        need = stage.needs
        if need is not None and (need == "nbest" or need not in data):
            folder = need if need not in data else f"{need}_{stage.name}"
            source, start = _data_source(stage, stages[:number], config)
            upstream: tuple[str, ...] = () if source is None else (f"train:{source}",)
            upstream += () if labels is None else (labels,)
            data[need] = f"job:{folder}"
            steps.append(
                Step(
                    data[need],
                    need,
                    folder,
                    source,
                    upstream,
                    start=start,
                    labels_step=labels,
                    consumer=stage.name,
                )
            )
            if need == "alignment" and config.alignment.get("variants"):
                labels = data[need]
        init = stage.init_from
        inputs = [f"train:{init.stage}"] if init is not None and init.stage is not None else []
        if need is not None:
            inputs.append(data[need])
        if labels is not None and labels not in inputs:
            inputs.append(labels)
        steps.append(
            Step(
                f"train:{stage.name}",
                "train",
                stage.name,
                stage.name,
                tuple(inputs),
                data[need] if need is not None else None,
                labels_step=labels,
            )
        )
        if entry_after(config.alignment, stage.name) is not None:
            steps.append(_realignment(stage, data.get("alignment"), labels, steps))
            data["alignment"] = steps[-1].name
    return tuple(steps)


def _realignment(
    stage: TrainStage, before: str | None, labels: str | None, steps: Sequence[Step]
) -> Step:
    """The step that aligns anew with a stage's model, to be compared with the alignment before."""
    first = not any(is_realignment(step.folder) for step in steps)
    folder = FOLDER if first else f"{FOLDER}_{stage.name}"
    upstream = (f"train:{stage.name}", *([before] if before is not None else []))
    return Step(f"job:{folder}", "alignment", folder, stage.name, upstream, labels_step=labels)
