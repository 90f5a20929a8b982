"""Section f: AN4 by its recipe on the GPU, both pipelines at the same time: WER over wall-clock.

The epochs of every stage are chosen so that both pipelines end within the time left: a step of the
recipe's model is timed first. Much shorter than the recipe, so this shows speed and the pipeline at
work, not what the model can reach. WER is of the development set, greedy, by the training's log.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import torch
import yaml
from background import AN4, finished
from common import Section

#: Of a pipeline's epochs; the recipe's own split of its 40, 15 and 48.
SHARES = {"align": 0.39, "viterbi": 0.15, "full_sum": 0.46}
BATCHES = 110  # of an epoch: 848 utterances, 2,500 frames a batch
START_SECONDS = 13.0  # of one program: most of it is the import of ESPnet
SHARED = 1.7  # two trainings on one device, each this much slower
RESULT = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ .*?(\d+)epoch results: "
    r".*\[valid\].*?wer=([\d.]+)"
)


def epoch_seconds(section: Section) -> float:
    """An epoch of full_sum, from a few steps on a made-up batch."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task
    from espnet_plugin.tasks.step_probe import ProbeBatch, probe_stage

    conf = yaml.safe_load((AN4 / "conf/model.yaml").read_text())
    path = section.out / "an4.tmp.yaml"
    path.write_text(
        yaml.safe_dump({**conf, "loss": "full_sum", "input_size": 26, "normalize": None})
    )
    tokens = section.out / "tokens.tmp.txt"
    tokens.write_text(
        "".join(f"{t}\n" for t in ["<blank>", "<unk>", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>"])
    )
    try:
        arguments = [
            "--config",
            str(path),
            "--token_list",
            str(tokens),
            "--output_dir",
            str(section.out),
        ]
        assert Task is not None
        probe = probe_stage(
            arguments, ProbeBatch(8, 312, 30, 2500.0), 5, torch.device(section.device)
        )
    finally:
        path.unlink()
        tokens.unlink()
    step = probe.seconds + probe.optimizer_seconds
    section.row("step", step_ms=1e3 * step, launches=probe.launches)
    return BATCHES * step * 1.15 + 2.0


def epochs(left: float, each: float) -> dict[str, dict[str, int]]:
    """Epochs of the stages of both arms that fit ``left`` seconds."""
    progressive = max(3.0, (left - 6 * START_SECONDS) / each)
    stages = {name: max(1, int(share * progressive)) for name, share in SHARES.items()}
    return {
        "progressive": stages,
        "full_sum_only": {"full_sum": max(1, int((left - 3 * START_SECONDS) / each))},
    }


def configuration(arm: str) -> str:
    """A pipeline YAML without mbr, whose lists would take the time; beside the recipe's."""
    path = AN4 / "conf" / f"gpu_{arm}.tmp.yaml"
    text = f"extends: train_{arm}.yaml\n"
    if arm == "progressive":
        text += "stage_scheduler_conf: {stages: [align, viterbi, full_sum]}\n"
        # The aligner is too short for an alignment that passes for a good one.
        text += "alignment: {min_score_per_frame: -100, max_label_share: 1.0}\n"
    path.write_text(text)
    return f"conf/{path.name}"


def start(section: Section, arm: str, stages: dict[str, int]) -> subprocess.Popen[bytes]:
    """One arm's training."""
    command = [
        "./run.sh",
        "--stage",
        "6",
        "--stop_stage",
        "6",
        "--skip_doctor",
        "true",
        "--nj",
        "4",
    ]
    command += ["--an4_root", str(AN4.parents[2] / ".gpu_carry/an4_mfcc.tar.gz")]
    command += ["--asr_config", configuration(arm), "--asr_tag", f"gpu_{arm}"]
    command += ["--ngpu", "1" if section.cuda else "0"]
    if section.cuda:
        command += ["--gpu_inference", "true"]
    for stage, count in stages.items():
        command += [f"--{stage}_args", f"--max_epoch {count} --num_workers 2"]
    with (section.out / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=AN4, stdout=log, stderr=log, start_new_session=True)


def results(section: Section, arm: str, begun: float) -> None:
    """Rows of an arm's epochs."""
    folders = sorted((AN4 / "exp").glob(f"*gpu_{arm}*"))
    for folder in folders:
        for stage in SHARES:
            log: Path = folder / stage / "train.log"
            if not log.is_file():
                continue
            for line in log.read_text(errors="replace").splitlines():
                match = RESULT.search(line)
                if match:
                    at = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp() - begun
                    section.row(
                        "AN4, dev WER by greedy search", arm=arm, stage=stage,
                        epoch=int(match[2]), seconds=round(at), wer=float(match[3]),
                    )  # fmt: skip


def train(section: Section, plan: dict[str, dict[str, int]]) -> None:
    """Both arms at the same time, until they end or the time is over."""
    begun = time.time()
    children = {arm: start(section, arm, stages) for arm, stages in plan.items()}
    while any(child.poll() is None for child in children.values()) and section.left > -10:
        time.sleep(1.0)
    for arm, child in children.items():
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            section.note(f"{arm} was stopped: out of time")
        else:
            section.note(f"{arm} ended with status {child.returncode}")
        results(section, arm, begun)


def main() -> None:
    """Run the section."""
    section = Section("f", "AN4 on the GPU, both pipelines at the same time")
    each = 8.0 / SHARED
    try:
        each = epoch_seconds(section)
    except Exception as error:
        section.row("failed", what="step", error=str(error)[:300])
    # with --only, nothing but the step is wanted and no data are made
    state = finished("an4", 0.0 if section.only else max(0.0, section.left - 30))
    section.note(state)
    if not state.endswith("ready"):
        section.row("left out", what="training", why=state)
        return
    plan = epochs(section.left - 5.0, each * SHARED)
    if section.tiny:
        plan = {arm: dict.fromkeys(stages, 1) for arm, stages in plan.items()}
    section.note(f"{each * SHARED:.1f} s an epoch assumed; epochs: {plan}")
    try:
        train(section, plan)
    finally:
        for path in (AN4 / "conf").glob("gpu_*.tmp.yaml"):
            path.unlink()
    section.write()


if __name__ == "__main__":
    main()
