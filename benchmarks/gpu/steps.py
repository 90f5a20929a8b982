"""Section d: training steps of the paper's models, every stage, and what they make of a training.

Models and batches are built as `espnet-progressive plan` builds them (tasks/step_probe.py), and
hours follow from its own arithmetic, beside the shares of the peak that it assumes without a GPU.
"""

from __future__ import annotations

import datetime
import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from common import ROOT, Section, ceilings

from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.planning.data_size import DataSize, assumed
from espnet_plugin.planning.devices import DEVICES
from espnet_plugin.planning.estimate import estimate_plan, seconds_on
from espnet_plugin.planning.probe_job import probe_arguments, probe_batch
from espnet_plugin.planning.probe_result import Probe, StageProbe

#: corpus -> configuration, sampling rate, hours, seconds an utterance, labels a second, labels
CORPORA: dict[str, tuple[str, int, float, float, float, int]] = {
    "LibriSpeech 960 h": ("librispeech", 16000, 960.0, 12.3, 10.0, 81),
    "Switchboard 300 h": ("swbd", 8000, 300.0, 4.3, 11.0, 90),
}
PRECISIONS: dict[str, list[str]] = {
    "bf16": ["--use_amp", "true"],
    "tf32": ["--use_tf32", "true"],
    "fp32": [],
}


def paper_encoder(section: Section) -> torch.nn.Module:
    """The encoder of conf/model_paper.yaml, or a small one of its kind."""
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder

    conf = yaml.safe_load((ROOT / "conf/model_paper.yaml").read_text())["encoder_conf"]
    if section.tiny:
        conf |= {"num_blocks": 2, "output_size": 32, "linear_units": 64, "interctc_layer_idx": [1]}
    torch.manual_seed(0)
    return ProgressiveConformerEncoder(50, **conf).to(section.device)


class Run:
    """One corpus, precision and batch size: its stages and options."""

    def __init__(self, section: Section, corpus: str, precision: str, tuned: bool) -> None:
        folder, rate, hours, seconds, labels, vocabulary = CORPORA[corpus]
        conf = ROOT / "egs2" / folder / "asr1" / "conf"
        name = "tuning/train_progressive_bf16.yaml" if tuned else "train_progressive.yaml"
        self.stages: Sequence[TrainStage] = make_plan(load_pipeline_config(conf / name))
        self.folder = Path(tempfile.mkdtemp(prefix=f"{folder}_{precision}_"))
        extra = list(PRECISIONS[precision])
        if section.tiny:
            extra += TINY
        self.options = RunOptions(
            exp=self.folder, train_data=self.folder, valid_data=self.folder, stats_dir=self.folder,
            fs=rate, ngpu=int(section.cuda),
            stage_args={stage.name: extra for stage in self.stages},
        )  # fmt: skip
        sizes = (seconds, labels, vocabulary, self.options)
        self.train: DataSize = assumed(hours, *sizes)
        self.valid: DataSize = assumed(hours / 100, *sizes)

    def arguments(self, stage: TrainStage) -> list[str]:
        """Of `asr_train`."""
        return probe_arguments(stage, self.train, self.options, self.folder)

    def batch(self, stage: TrainStage) -> Any:
        """The stage's largest batch."""
        from espnet_plugin.tasks.step_probe import ProbeBatch

        return ProbeBatch(**probe_batch(stage, self.train, self.options))


TINY = [
    "--encoder_conf", "num_blocks=2", "--encoder_conf", "output_size=32", "--encoder_conf",
    "linear_units=64", "--encoder_conf", "interctc_layer_idx=[1]",
]  # fmt: skip


def probe(section: Section, corpus: str, precision: str, tuned: bool) -> None:
    """All stages of one run, and the hours that follow."""
    from espnet_plugin.tasks.step_probe import probe_stage

    run = Run(section, corpus, precision, tuned)
    rate = ceilings(section.out).get(precision)
    device = torch.device(section.device)
    found: dict[str, StageProbe] = {}
    for stage in run.stages:
        batch = run.batch(stage)
        result = probe_stage(run.arguments(stage), batch, 2 if section.tiny else 6, device)
        found[stage.name] = result
        if section.cuda:
            torch.cuda.empty_cache()
        seconds = result.seconds + result.optimizer_seconds
        section.row(
            "steps", corpus=corpus, batch="tuned" if tuned else "paper", dtype=precision,
            stage=stage.name, frames=round(batch.frames), step_ms=1e3 * result.seconds,
            optimizer_ms=1e3 * result.optimizer_seconds, kframes_s=batch.frames / seconds / 1e3
            if seconds else None, launches=result.launches,
            peak_GiB=None if result.peak_bytes is None else result.peak_bytes / 2**30,
            ceiling_share=None if rate is None or not seconds else result.flops / seconds / rate,
            error=result.error,
        )  # fmt: skip
    hours(section, run, corpus, precision, tuned, found)


def hours(
    section: Section, run: Run, corpus: str, precision: str, tuned: bool,
    found: dict[str, StageProbe],
) -> None:  # fmt: skip
    """What `plan` makes of the probe, and what it assumes for this class of card without one."""
    name = torch.cuda.get_device_name() if section.cuda else "CPU"
    result = Probe(name, section.device, torch.get_num_threads(), 1, 1.0, 1.0,
                   datetime.date.today().isoformat(), found)  # fmt: skip
    estimates = estimate_plan(run.stages, run.train, run.valid, run.options, result)
    row: dict[str, Any] = {
        "corpus": corpus, "batch": "tuned" if tuned else "paper", "dtype": precision,
    }  # fmt: skip
    for estimate in estimates:
        row[estimate.name] = None if estimate.seconds is None else estimate.seconds / 3600
    known = [e.seconds for e in estimates if e.seconds is not None]
    row["all"] = sum(known) / 3600 if len(known) == len(estimates) else None
    guesses = [seconds_on(DEVICES["h200"], estimate) for estimate in estimates]
    row["assumed"] = None if None in guesses else sum(g for g in guesses if g) / 3600
    section.row("hours", **row)


def profile(section: Section, corpus: str, stage_name: str, tuned: bool) -> None:
    """Where a bf16 step's time goes: device time by kernel, and how busy the device is."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    step = make_step(section, corpus, stage_name, tuned)
    for _ in range(3):
        step()
    section.synchronize()
    plain = section.seconds(step, repeats=5, warmup=0)
    activity = ProfilerActivity.CUDA if section.cuda else ProfilerActivity.CPU
    with profiler(activities=[activity]) as record:
        step()
        section.synchronize()
    events = [e for e in record.key_averages() if section.cuda is (e.self_device_time_total > 0)]
    key = "self_device_time_total" if section.cuda else "self_cpu_time_total"
    total = sum(getattr(event, key) for event in events)
    what = f"{stage_name}, {'tuned' if tuned else 'paper'} batch"
    section.row("device busy", what=what, step_ms=1e3 * plain, kernels_ms=total / 1e3,
                busy=total / 1e6 / plain, kernels=sum(e.count for e in events))  # fmt: skip
    for event in sorted(events, key=lambda e: -getattr(e, key))[:10]:
        section.row(
            f"kernels, {what}",
            kernel=event.key[:70],
            share=getattr(event, key) / total,
            calls=event.count,
        )


def make_step(
    section: Section, corpus: str, stage_name: str, tuned: bool, compiled: bool = False
) -> Any:
    """A function that makes one training step of a stage in bf16."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task
    from espnet_plugin.tasks.step_probe import random_batch

    run = Run(section, corpus, "bf16", tuned)
    stage = next(stage for stage in run.stages if stage.name == stage_name)
    args = Task.get_parser().parse_args(run.arguments(stage))
    torch.manual_seed(0)
    device = torch.device(section.device)
    model: Any = Task.build_model(args).to(device)
    optimizer = Task.build_optimizers(args, model)[0]
    data = random_batch(model, args, run.batch(stage), device)
    model.train()
    if compiled:
        model.encoder.forward = torch.compile(model.encoder.forward, dynamic=False)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=section.cuda):
            loss = model(**data)[0]
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step


def compiled_step(section: Section, corpus: str, stage_name: str) -> None:
    """The same step with the encoder compiled by torch."""
    plain = section.seconds(make_step(section, corpus, stage_name, False), repeats=5)
    faster = section.seconds(
        make_step(section, corpus, stage_name, False, True), repeats=5, warmup=3
    )
    section.row(
        "torch.compile of the encoder", stage=stage_name, plain_ms=1e3 * plain, ms=1e3 * faster,
        ratio=faster / plain,
    )  # fmt: skip


def main() -> None:
    """Run the section."""
    logging.disable(logging.WARNING)
    section = Section("d", "Training steps of the paper's models")
    libri, swbd = CORPORA
    runs = [(libri, "bf16", True), (libri, "bf16", False), (libri, "tf32", False)]
    runs += [(libri, "fp32", False), (swbd, "bf16", True), (swbd, "bf16", False)]
    if section.tiny:
        runs = runs[:1]
    for corpus, precision, tuned in runs[:2]:
        section.attempt(
            f"{corpus} {precision} {tuned}", partial(probe, section, corpus, precision, tuned)
        )
    for stage, tuned in (("viterbi", True), ("full_sum", True), ("viterbi", False)):
        if not section.tiny or stage == "viterbi":
            section.attempt(f"profile {stage}", partial(profile, section, libri, stage, tuned))
    for corpus, precision, tuned in runs[2:]:
        section.attempt(
            f"{corpus} {precision} {tuned}", partial(probe, section, corpus, precision, tuned)
        )
    if not section.tiny:
        section.attempt("compile", partial(compiled_step, section, libri, "viterbi"))
    section.write()


if __name__ == "__main__":
    main()
