"""The pipeline: runs what is not done yet, in order, and can be killed at any moment."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin import __version__
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.pipeline.launch.commands import program, train_command
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.inputs import (
    check_foreign_checkpoints,
    check_inputs,
    extended_start,
    initial_model,
    stacked_start,
    ticket_start,
)
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import all_options
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import Step, TrainStage, build_steps
from espnet_plugin.pipeline.state.fingerprint import Inputs
from espnet_plugin.pipeline.state.freshness import fingerprints, staleness, upstream_times
from espnet_plugin.pipeline.state.lock import RunLock
from espnet_plugin.pipeline.state.products import damage, products_of, remove
from espnet_plugin.pipeline.state.progress import Throttle, clock
from espnet_plugin.pipeline.state.state import PipelineState, StepState
from espnet_plugin.pipeline.steps.data_jobs import (
    ALIGNMENT,
    NBEST,
    chooses_variants,
    job_checks,
    judge_data,
    make_alignment,
    make_nbest,
)
from espnet_plugin.pipeline.steps.training import StageRun, train, write_stage_config

HEARTBEAT_SECONDS = 5.0


class Pipeline:
    """One experiment: a plan, its options and its state on disk.

    Args:
        config: what to do.
        options: where, and with what.
        invocation: kept in pipeline.json for ``status`` and for people.
        show: takes console lines.

    Raises:
        ValueError: the plan is impossible or the state on disk is unreadable.
    """

    def __init__(
        self,
        config: PipelineConfig,
        options: RunOptions,
        invocation: Mapping[str, Any] | None = None,
        show: Callable[[str], None] = print,
    ) -> None:
        self.config, self.options, self.show = config, options, show
        self.stages: dict[str, TrainStage] = {s.name: s for s in make_plan(config)}
        self.steps = build_steps(list(self.stages.values()), config)
        self.invocation = dict(invocation or {})

    @property
    def exp(self) -> Path:
        return self.options.exp

    def load_state(self) -> PipelineState:
        """The state on disk."""
        return PipelineState.load(self.exp / "pipeline.json")

    def fingerprints(self) -> dict[str, str]:
        """What every step would be made from now."""
        return fingerprints(self.steps, self.stages, self.config, self.options)

    def run(self, stop_after: str | None = None) -> None:
        """Run every step that is not done, up to and including ``stop_after``.

        Raises:
            ValueError: bad input, a stale step, a broken alignment, another runner.
            ChildFailed: a step's process failed.
        """
        check_inputs(list(self.stages.values()), self.options)
        check_foreign_checkpoints(self.stages.values(), self.options)
        prints = self.fingerprints()
        with RunLock(self.exp):
            self._inputs = Inputs(self._input_files())
            state = self.load_state()
            stale = self._stale(state, prints)
            state.invocation, state.package_version = self.invocation, __version__
            state.plan = [step.name for step in self.steps]
            state.save()
            self._check_configs(state)  # before anything is moved aside for a slip of the pen
            self._set_aside(state, stale)
            for number, step in enumerate(self.steps, 1):
                self._run_step(number, step, state, prints[step.name])
                # a repaired step may have come out differently
                self._set_aside(state, self._stale(state, prints))
                if step.name == stop_after:
                    break

    def check(self) -> None:
        """Everything that can be checked without training (``--dry_run``)."""
        check_inputs(list(self.stages.values()), self.options)
        check_foreign_checkpoints(self.stages.values(), self.options)
        self.fingerprints()
        self._check_configs(None)

    def _stale(
        self, state: PipelineState, prints: Mapping[str, str]
    ) -> list[tuple[Step, str | None]]:
        """Every step, and why it is stale, or nothing.

        Raises:
            ValueError: one is, and shall not be made again.
        """
        stale = [(s, staleness(s, state, prints, self.exp)) for s in self.steps]
        reasons = [f"  {s.name} ({self.exp / s.folder}): {why}" for s, why in stale if why]
        if reasons and not self.options.rerun_stale:
            raise ValueError(
                f"{self.exp}: finished or begun work does not match the present configuration:\n"
                + "\n".join(reasons)
                + "\nRestore the old configuration, use another tag (a recipe's --asr_tag), or "
                "give --rerun_stale true (old folders are moved aside, nothing is deleted)"
            )
        return stale

    def _set_aside(self, state: PipelineState, stale: Sequence[tuple[Step, str | None]]) -> None:
        """Move aside what is stale, and what follows from it."""
        remade: set[str] = set()
        for step, why in stale:
            if why or remade.intersection(step.upstream):
                remade.add(step.name)
                if step.name in state.steps:
                    self.show(f"stale: {step.name}: {why or 'follows from an earlier step'}")
                    move_aside(self.exp / step.folder, self.show)
                    state.reset(step.name)

    def _check_configs(self, state: PipelineState | None) -> None:
        """Parse every stage's and job's options with its own parser before the first one trains."""
        spec = {}
        skip = len(program(self.options, "asr_train"))
        for stage in self.stages.values():
            config = write_stage_config(stage, self.options, {})
            folder = self.exp / stage.name
            init = self._init(stage) if stage.init_from and stage.init_from.external else None
            spec[stage.name] = train_command(stage, self.options, config, folder, None, init)[skip:]
        configs = [(self.exp / "conf" / f"{n}.yaml").read_text(encoding="utf-8") for n in spec]
        spec |= job_checks(self.steps, self.config, self.stages, self.options)
        text = json.dumps(spec, indent=1)
        content = text + "".join(configs)
        digest = hashlib.sha256(f"{__version__} {content}".encode()).hexdigest()
        if state is not None and state.config_check == digest:
            return
        path, log = self.exp / "conf" / "check.json", self.exp / "conf" / "check.log"
        write_atomically(path, text)
        log.unlink(missing_ok=True)
        self.show("checking the configuration of every stage")
        status = wait_all(
            [start([*program(self.options, "check_config"), str(path)], log)], lambda: None
        )[0]
        if status != 0:
            raise ChildFailed("check of the configuration", status, log)
        if state is not None:
            state.config_check = digest
            state.save()

    def _run_step(self, number: int, step: Step, state: PipelineState, mark: str) -> None:
        folder = self.exp / step.folder
        title = f"[{number}/{len(self.steps)}] {step.name}"
        known = state.step(step.name)
        finished: StepState | None = None
        if known.status == "done" and known.fingerprint == mark:
            wrong = damage(folder, self.products(step), known.products)
            if not wrong:
                self.show(f"{title}: done before ({clock(known.seconds)})")
                if step.kind != "train":
                    judge_data(step, self.config, self.stages, self.options, self.show)
                return
            if not self.options.rerun_stale:
                raise ValueError(
                    f"{folder}: {step.name} was finished, and now {', '.join(wrong)}; bring it "
                    "back or give --rerun_stale true to make it again"
                )
            finished = known
            remove(folder, self.products(step))
            state.reset(step.name)
        if known.fingerprint not in (None, mark):
            # Begun under another configuration, without results: its budget must not stay.
            state.reset(step.name)
            known = state.step(step.name)
        self.show(f"{title} -> {folder}" + (" (resuming)" if known.attempts else ""))
        state.begin(step.name, mark, step.folder, upstream_times(step, state))
        beat = Throttle(lambda: state.beat(step.name), HEARTBEAT_SECONDS, time.monotonic)
        try:
            self._inputs.require_unchanged("the steps before")
            self._make(step, state, beat)
            self._inputs.require_unchanged(step.name)
            products = products_of(folder, self.products(step))
        except (ValueError, ChildFailed, OSError) as error:
            with contextlib.suppress(OSError):  # of a full disk: what it said first counts
                state.end(step.name, "failed", str(error).splitlines()[0])
            raise
        except BaseException:
            state.beat(step.name)
            raise
        if step.kind == "train":
            state.step(step.name).checkpoint = self.stages[step.folder].checkpoint
        state.step(step.name).products = products
        state.end(step.name, "done")
        if finished is not None and finished.products == products:
            state.step(step.name).finished = finished.finished  # what was made from it holds
            state.save()
        self.show(f"{title}: finished in {clock(state.step(step.name).seconds)}")

    def _input_files(self) -> list[Path]:
        """Lists that all steps read, as they have to stay until the last one."""
        files = self.options.text_files()
        for own in all_options(list(self.stages.values()), self.options):
            shapes = [path for part in ("train", "valid") for path in own.shape_files(part)]
            files += [*own.data_files(), *shapes]
        return files

    def products(self, step: Step) -> Sequence[str]:
        """Files without which a finished step cannot be used."""
        if step.kind == "train":
            return ("config.yaml", self.stages[step.folder].checkpoint)
        if step.kind == "alignment":
            return (ALIGNMENT[0], "text") if chooses_variants(step, self.config) else ALIGNMENT[:1]
        return NBEST

    def _make(self, step: Step, state: PipelineState, tick: Callable[[], None]) -> None:
        model = self._model(step)
        if step.kind == "alignment":
            make_alignment(step, self.config, self.options, model, tick, self.show)
        elif step.kind == "nbest":
            assert model is not None
            make_nbest(step, self.config, self.stages, self.options, model, tick, self.show)
        else:
            stage = self.stages[step.folder]
            data = None if step.data_step is None else self.exp / self._folder(step.data_step)
            labels = None if step.labels_step is None else self.exp / self._folder(step.labels_step)
            aligner = None
            if stage.options.get("stream") and stage.needs == "alignment":
                aligner = self._model(next(s for s in self.steps if s.name == step.data_step))
            run = StageRun(
                *(stage, self.options, data, self._init(stage), tick, self.show, labels, aligner),
                prior_scale=float(self.config.alignment.get("prior_scale", 0)),
            )
            train(run, state.step(step.name), state.save)

    def _model(self, step: Step) -> Path | None:
        """The model that a job works with."""
        if step.kind == "train":
            return None
        if step.stage is not None:
            return self.exp / step.stage / self.stages[step.stage].checkpoint
        init = None if step.start is None else self.stages[step.start].init_from
        return None if init is None else initial_model(init)

    def _folder(self, name: str) -> str:
        return next(step.folder for step in self.steps if step.name == name)

    def _init(self, stage: TrainStage) -> str | None:
        """ESPnet's ``--init_param``: file, source key, destination key, excluded prefixes."""
        init = stage.init_from
        if init is None:
            return None
        if init.external:
            path = initial_model(init).resolve()
        else:
            assert init.stage is not None
            checkpoint = init.checkpoint or self.stages[init.stage].checkpoint
            path = self.exp / init.stage / checkpoint
        if not path.exists():
            raise ValueError(f"{path}: no such checkpoint to start stage {stage.name} from")
        if init.blocks is not None:
            path = stacked_start(path, init.blocks, self.exp / "conf" / f"{stage.name}.stacked.pth")
        if init.vocabulary is not None:
            tokens = read_token_list(Path(self.options.text_options["token_list"]))
            target = self.exp / "conf" / f"{stage.name}.extended.pth"
            path = extended_start(path, tokens, target)
        if init.ticket is not None:
            path = ticket_start(path, init.ticket, self.exp / "conf" / f"{stage.name}.ticket.pth")
        return f"{path}:::{','.join(init.exclude)}" if init.exclude else str(path)


def move_aside(folder: Path, show: Callable[[str], None]) -> None:
    """Rename a stale folder; nothing is ever deleted."""
    if not folder.exists():
        return
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = folder.with_name(f"{folder.name}.stale.{stamp}")
    count = 1
    while target.exists():
        count += 1
        target = folder.with_name(f"{folder.name}.stale.{stamp}-{count}")
    os.replace(folder, target)
    show(f"moved {folder} to {target.name}")
