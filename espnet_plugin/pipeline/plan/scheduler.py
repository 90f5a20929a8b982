"""Stage schedulers: classes, chosen by name in the YAML, that lay out the train stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from espnet_plugin.packages.imports import import_modules
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.pretraining import check_pretraining, encoder_starts
from espnet_plugin.pipeline.plan.stage_plan import TrainStage, make_stage, validate_plan


class StageScheduler(ABC):
    """Turns a pipeline configuration into an ordered, validated tuple of train stages."""

    @abstractmethod
    def stages(self, config: PipelineConfig) -> Sequence[TrainStage]:
        """The stages in order; need not be validated yet."""

    def plan(self, config: PipelineConfig) -> tuple[TrainStage, ...]:
        """The validated plan.

        Raises:
            ValueError: a stage's inputs would not exist.
        """
        stages = encoder_starts(tuple(self.stages(config)))
        validate_plan(stages, config)
        check_pretraining(stages, config.path)
        return stages


#: name -> class, ESPnet's manner of choosing classes from YAML.
stage_scheduler_classes: dict[str, type[StageScheduler]] = {}


S = TypeVar("S", bound=type[StageScheduler])


def register_stage_scheduler(
    name: str, scheduler: type[StageScheduler] | None = None
) -> Callable[[S], S]:
    """Make a stage scheduler available to ``stage_scheduler: <name>``.

    Args:
        scheduler: the class; without it, use the result as a decorator of the class.

    Raises:
        ValueError: another class has this name.
    """

    def register(cls: S) -> S:
        key = name.lower()
        if stage_scheduler_classes.get(key, cls) is not cls:
            raise ValueError(f"stage scheduler {key!r} is taken by {stage_scheduler_classes[key]}")
        stage_scheduler_classes[key] = cls
        return cls

    if scheduler is not None:
        register(scheduler)
    return register


def make_plan(config: PipelineConfig) -> tuple[TrainStage, ...]:
    """Plan with the scheduler that the configuration names, ``name`` or ``module:name``.

    Raises:
        ValueError: unknown scheduler, wrong options, an impossible plan, or a module of ``imports``
            that cannot be imported.
    """
    module, _, _ = config.stage_scheduler.rpartition(":")
    import_modules([*config.imports, *filter(None, [module])], str(config.path))
    name = config.stage_scheduler.rpartition(":")[2].lower()
    cls = stage_scheduler_classes.get(name)
    if cls is None:
        raise ValueError(
            f"{config.path}: unknown stage_scheduler {config.stage_scheduler!r}; known: "
            f"{', '.join(sorted(stage_scheduler_classes))}"
        )
    try:
        scheduler = cls(**config.stage_scheduler_conf)
    except TypeError as error:
        raise ValueError(f"{config.path}: stage_scheduler_conf: {error}") from error
    return scheduler.plan(config)


def _chain(
    config: PipelineConfig, names: Sequence[str], losses: dict[str, str]
) -> list[TrainStage]:
    """Stages that each start from the one before."""
    previous = [None, *names[:-1]]
    return [
        make_stage(name, config, before, losses.get(name))
        for name, before in zip(names, previous, strict=True)
    ]


@register_stage_scheduler("progressive")
class ProgressiveScheduler(StageScheduler):
    """pretrain -> align -> viterbi -> full_sum -> mbr, each from the one before.

    Args:
        stages: names and order, by default those of the paper that the YAML has, and pretrain
            before them. Other names are possible; such a stage must name its ``loss``.
    """

    LOSSES: ClassVar = {
        "pretrain": "best_rq",
        "align": "ctc",
        "viterbi": "viterbi",
        "full_sum": "full_sum",
        "mbr": "mbr",
    }
    ORDER = tuple(LOSSES)

    def __init__(self, stages: Sequence[str] | None = None) -> None:
        self.names = None if stages is None else [str(name) for name in stages]

    def stages(self, config: PipelineConfig) -> list[TrainStage]:
        names = self.names
        if names is None:
            names = [name for name in self.ORDER if name in config.train_stages]
            left = [name for name in config.train_stages if name not in self.ORDER]
            if left:
                raise ValueError(
                    f"{config.path}: train_stages has {', '.join(left)}, whose place in the order "
                    "is unknown; set stage_scheduler_conf: {stages: [...]}"
                )
        return _chain(config, names, self.LOSSES)


@register_stage_scheduler("full_sum_only")
class FullSumOnlyScheduler(StageScheduler):
    """The from-scratch baseline: one full-sum stage, random initial parameters.

    Args:
        stage: the section of train_stages to train.
    """

    def __init__(self, stage: str = "full_sum") -> None:
        self.stage = stage

    def stages(self, config: PipelineConfig) -> list[TrainStage]:
        chosen: Any = make_stage(self.stage, config, None, "full_sum")
        return [chosen]
