"""ESPnet's Trainer with stage-long learning-rate curves and kill-safe checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter, aggregate
from espnet2.train.trainer import Trainer

from espnet_plugin.corpora.faults import saving
from espnet_plugin.models.criteria import Criterion
from espnet_plugin.nn.accelerators import Progress, private_file
from espnet_plugin.nn.accelerators.attached import AnnouncedBatches
from espnet_plugin.pipeline.state.reference_system import (
    write_processor_time,
    write_reference_step,
)
from espnet_plugin.tasks import checkpoints
from espnet_plugin.tasks.clip_report import report_clipping
from espnet_plugin.tasks.pooled_rates import pool_error_rates
from espnet_plugin.tasks.schedulers import CurveScheduler
from espnet_plugin.tasks.stream_iterator import StreamIterFactory


def updates_per_epoch(iter_factory: Any, accum_grad: int) -> int:
    """Optimizer updates of one epoch (an accumulation that its end cuts off is dropped).

    Raises:
        ValueError: if the iterator does not know its length.
    """
    iterations = getattr(iter_factory, "num_iters_per_epoch", None)
    if iterations is None:
        sampler = getattr(iter_factory, "sampler", None)
        if sampler is None:
            raise ValueError(
                f"{type(iter_factory).__name__} does not tell its length; set "
                "scheduler_conf.total_steps or num_iters_per_epoch"
            )
        iterations = len(sampler)
    return max(int(iterations) // accum_grad, 1)


class KillSafeTrainer(Trainer):
    """ESPnet's Trainer whose runs go on after a kill at any moment (checkpoints.py)."""

    @classmethod
    def run(cls, *args: Any, **kwargs: Any) -> None:
        """As `Trainer.run`."""
        options, distributed = kwargs["trainer_options"], kwargs["distributed_option"]
        writes = distributed.dist_rank in (None, 0)
        output_dir = Path(options.output_dir)
        if writes and options.resume:
            checkpoints.recover(output_dir, options.best_model_criterion)
        if distributed.distributed:
            torch.distributed.barrier()  # the others read the checkpoint that rank 0 settles on
        with saving(output_dir):
            super().run(*args, **kwargs)
        if writes:
            checkpoints.commit(output_dir)

    @classmethod
    def train_one_epoch(cls, *args: Any, **kwargs: Any) -> bool:
        """As ESPnet's. Reached only when the epoch before was saved completely."""
        if kwargs["distributed_option"].dist_rank in (None, 0):
            checkpoints.commit(Path(kwargs["options"].output_dir))
        result: bool = super().train_one_epoch(*args, **kwargs)
        return result

    @classmethod
    def validate_one_epoch(cls, *args: Any, **kwargs: Any) -> None:
        """As ESPnet's. What follows is the saving of the epoch."""
        super().validate_one_epoch(*args, **kwargs)
        if kwargs["distributed_option"].dist_rank in (None, 0):
            epoch = kwargs["reporter"].get_epoch()
            checkpoints.set_aside(Path(kwargs["options"].output_dir), epoch)


class ProgressiveTrainer(KillSafeTrainer):
    """Learning-rate curves as long as the stage, and the machine's speed on record."""

    @classmethod
    def run(cls, *args: Any, **kwargs: Any) -> None:
        """As `Trainer.run`."""
        options = kwargs["trainer_options"]
        waiting = [
            scheduler
            for scheduler in kwargs["schedulers"]
            if isinstance(scheduler, CurveScheduler) and scheduler.total_steps is None
        ]
        if waiting:
            updates = updates_per_epoch(kwargs["train_iter_factory"], options.accum_grad)
            for scheduler in waiting:
                scheduler.set_total_steps(updates * options.max_epoch)
        if kwargs["distributed_option"].distributed:
            # Every stage leaves some parameters without gradient (the aligner the joint network,
            # full_sum the encoder's output layers), which DDP takes for an error unless told.
            options.unused_parameters = True
        writes = kwargs["distributed_option"].dist_rank in (None, 0)
        if writes:
            # what this machine is worth now, so that budgets compare between machines
            device = "cuda" if options.ngpu > 0 else "cpu"
            write_reference_step(Path(options.output_dir), device)
            criterion = getattr(kwargs["model"], "criterion", None)
            if isinstance(criterion, Criterion):  # ESPnet's models have none, or their own
                criterion.record(Path(options.output_dir))
        factory = kwargs["train_iter_factory"]
        drawn = dataclasses.replace(options, use_matplotlib=False)
        try:
            super().run(*args, **{**kwargs, "trainer_options": drawn})
        finally:
            if isinstance(factory, StreamIterFactory):
                factory.close()
        accelerators = _accelerators(kwargs["model"])
        if accelerators and writes:
            private_file.mend_averages(Path(options.output_dir), accelerators)
        _keep_processor_time(options, kwargs["distributed_option"])
        if options.use_matplotlib and writes:
            _draw_images(Path(options.output_dir))

    @staticmethod
    def resume(
        checkpoint: str | Path, model: torch.nn.Module, reporter: Any, *args: Any, **kwargs: Any
    ) -> None:
        """As ESPnet's, with the accelerators' private state of the same epoch."""
        KillSafeTrainer.resume(checkpoint, model, reporter, *args, **kwargs)
        accelerators = getattr(model, "accelerators", None)
        if accelerators:
            private_file.load(Path(checkpoint).parent, accelerators, reporter.get_epoch())

    @classmethod
    def train_one_epoch(cls, *args: Any, **kwargs: Any) -> bool:
        """As ESPnet's, with every batch announced to the model's accelerators."""
        for optimizer in kwargs["optimizers"]:
            # What ESPnet leaves of an accumulation that the last epoch's end cut off is in no
            # checkpoint: a resumed run would differ from one that went on.
            optimizer.zero_grad()
        accelerators = _accelerators(kwargs["model"])
        if accelerators:
            batches, options = kwargs["iterator"], kwargs["options"]
            reporter = kwargs["reporter"]
            epoch = reporter.epoch

            def place(number: int) -> Progress:
                return Progress(epoch, number, len(batches), options.max_epoch, options.accum_grad)

            kwargs["iterator"] = AnnouncedBatches(batches, accelerators, place, reporter.register)
        result: bool = super().train_one_epoch(*args, **kwargs)
        losses = kwargs["reporter"].stats.get("loss")
        if accelerators and losses:
            fraction = kwargs["reporter"].epoch / kwargs["options"].max_epoch
            accelerators.after_epoch(float(aggregate(losses)), fraction)
        if kwargs["distributed_option"].dist_rank in (None, 0):
            report_clipping(kwargs["reporter"], kwargs["options"].grad_clip)
        return result

    @classmethod
    def validate_one_epoch(cls, *args: Any, **kwargs: Any) -> None:
        """As ESPnet's, with error rates of the whole set."""
        accelerators = _accelerators(kwargs["model"])
        if accelerators and kwargs["distributed_option"].dist_rank in (None, 0):
            # before the checkpoint of this epoch, beside what belongs to the one before
            folder, epoch = Path(kwargs["options"].output_dir), kwargs["reporter"].epoch
            private_file.save(folder, accelerators, epoch)
        super().validate_one_epoch(*args, **kwargs)
        pool_error_rates(kwargs["reporter"])
        _keep_processor_time(kwargs["options"], kwargs["distributed_option"])


def _keep_processor_time(options: Any, distributed: Any) -> None:
    """A GPU's training counts by the clock: the processor only waits for it."""
    if options.ngpu == 0 and distributed.dist_rank in (None, 0):
        write_processor_time(Path(options.output_dir))


def _draw_images(output_dir: Path) -> None:
    """ESPnet's pictures of all its numbers, once a stage.

    ESPnet draws every one of them after every epoch: more than a second of a core, where an epoch
    of the demo trains for eight. TensorBoard and `report` have them while the stage trains.
    """
    reporter = Reporter()
    checkpoint = output_dir / checkpoints.CHECKPOINT
    # mmap: the weights in the same file are not read
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    reporter.load_state_dict(state["reporter"])
    reporter.matplotlib_plot(output_dir / "images")


def _accelerators(model: Any) -> Any:
    """What is attached to a model, which DDP and DataParallel wrap."""
    return getattr(getattr(model, "module", model), "accelerators", None)
