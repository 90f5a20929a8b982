"""Several GPUs and nodes: the commands as ESPnet's own launcher turns them into submissions."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from espnet_plugin.bin import plan
from espnet_plugin.pipeline.launch.commands import launched, train_command
from espnet_plugin.pipeline.launch.job_backends import JobPart, run_kaldi
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Submission scripts on PATH that only write down how they were called, and its folder."""
    for name in ("slurm.pl", "queue.pl"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "$(basename "$0")" "$@" >>{tmp_path}/calls\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def submitted(cluster: Path) -> list[str]:
    return (cluster / "calls").read_text().splitlines()


def run_options(folder: Path, **more: object) -> RunOptions:
    return RunOptions(folder / "exp", folder / "tr", folder / "dev", folder / "stats", **more)  # type: ignore[arg-type]


def launch(cluster: Path, options: RunOptions) -> list[str]:
    """ESPnet's launcher on the training command of a stage; returns the submission."""
    from espnet2.bin.launch import main

    stage = TrainStage("full_sum", "full_sum", {}, None)
    command = train_command(stage, options, cluster / "c.yaml", cluster / "exp/s", None, None)
    line = launched(command, options, cluster / "exp/s/train.log")
    assert line[:3] == ["python3", "-m", "espnet2.bin.launch"]
    main(line[3:])
    return submitted(cluster)


def test_two_nodes_of_four_gpus_through_slurm(cluster: Path) -> None:
    options = run_options(cluster, ngpu=4, num_nodes=2, cuda_cmd="slurm.pl --mem 16G")
    found = launch(cluster, options)
    head = ["slurm.pl", "--mem", "16G", "--gpu", "4", "--num_threads", "4", "--num_nodes", "2"]
    assert found[: len(head)] == head
    assert found[len(head)] == str(cluster / "exp/s/train.log")
    rest = found[len(head) + 1 :]
    assert rest[:5] == ["srun", "--export=ALL", "python3", "-m", "espnet_plugin.jobs.asr_train"]
    text = " ".join(rest)
    assert "--ngpu 4 --multiprocessing_distributed true --dist_launcher slurm" in text
    assert f"--dist_init_method file://{cluster}/exp/s/.dist_init_" in text
    accepted(rest[5:])


def test_another_scheduler_goes_through_mpirun(cluster: Path) -> None:
    found = " ".join(
        launch(cluster, run_options(cluster, ngpu=2, num_nodes=3, cuda_cmd="queue.pl"))
    )
    assert found.startswith("queue.pl --gpu 2 --num_threads 2 --num_nodes 3")
    assert "mpirun -np 3 python3 -m espnet_plugin.jobs.asr_train" in found
    assert "--dist_launcher mpi" in found


def test_one_node_of_a_cluster(cluster: Path) -> None:
    found = launch(cluster, run_options(cluster, ngpu=4, cuda_cmd="slurm.pl"))
    assert found[:3] == ["slurm.pl", "--gpu", "4"] and "srun" not in found
    accepted(found[found.index("espnet_plugin.jobs.asr_train") + 1 :])


def test_four_gpus_of_this_machine_need_no_launcher(tmp_path: Path) -> None:
    options = run_options(tmp_path, ngpu=4)
    stage = TrainStage("full_sum", "full_sum", {}, None)
    command = train_command(stage, options, tmp_path / "c.yaml", tmp_path / "s", None, None)
    assert launched(command, options, tmp_path / "log") == command
    assert " ".join(command).endswith("--ngpu 4 --multiprocessing_distributed true")


def accepted(arguments: list[str]) -> None:
    """ESPnet's parser takes them (without the configuration, which does not exist)."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    at = arguments.index("--config")
    args = Task.get_parser().parse_args([*arguments[:at], *arguments[at + 2 :]])
    assert args.ngpu == 4 and args.multiprocessing_distributed is True


def test_jobs_are_split_over_the_same_back_end(cluster: Path) -> None:
    part = JobPart("align", ["--key_file", "keys.JOB"], cluster / "log.JOB", cluster / "done.JOB")
    run_kaldi("slurm.pl --mem 4G", "python3", part, 12, lambda: None)
    found = submitted(cluster)
    assert found[:5] == ["slurm.pl", "--mem", "4G", "JOB=1:12", str(cluster / "log.JOB")]
    assert found[5:] == ["python3", "-m", "espnet_plugin.jobs.align", "--key_file", "keys.JOB"]
    assert (cluster / "done.12").exists()


def test_a_gpu_decodes_where_training_runs(tmp_path: Path) -> None:
    commands = {"train_cmd": "a.pl", "cuda_cmd": "b.pl", "decode_cmd": "c.pl"}
    assert run_options(tmp_path, **commands).inference_cmd == "c.pl"
    assert run_options(tmp_path, gpu_inference=True, **commands).inference_cmd == "b.pl --gpu 1"
    assert run_options(tmp_path, gpu_inference=True).inference_cmd == "local"


PROBER = """
import json, sys
spec = json.load(open(sys.argv[-1]))
stage = dict(parameters=1, frames=100.0, seconds=1.0, flops=1e9)
json.dump(dict(device="far GPU", kind="cuda", threads=1, memory_bytes=1 << 40, product_rate=1e12,
               reference_seconds=0.01, date="2026-01-01",
               stages=dict.fromkeys(spec["stages"], stage)),
          open(spec["output"], "w"))
print("probed", file=open(spec["output"] + ".calls", "a"))
"""


def test_the_probe_runs_where_training_would(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a second call with nothing changed takes the first one's result."""
    (cluster / "bin/slurm.pl").write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$@" >>{cluster}/calls\nshift 3\nexec "$@"\n'
    )
    (cluster / "prober.py").write_text(PROBER)
    (cluster / "t.yaml").write_text("train_stages: {align: {loss: ctc, max_epoch: 2}}\n")
    python = f"{shlex.quote(plan.sys.executable)} {cluster / 'prober.py'}"
    arguments = [
        *("--config", str(cluster / "t.yaml"), "--expdir", str(cluster / "exp")),
        *("--train_hours", "1", "--ngpu", "1", "--cuda_cmd", "slurm.pl", "--python", python),
    ]
    assert plan.main(arguments) == 0
    assert "measured on far GPU, 2026-01-01" in capsys.readouterr().out
    assert submitted(cluster)[:2] == ["--gpu", "1"]
    calls = cluster / "exp/t/plan/probe.json.calls"
    assert plan.main(arguments) == 0 and calls.read_text() == "probed\n"
    assert plan.main([*arguments, "--align_args", "--use_amp true"]) == 0
    assert calls.read_text() == "probed\n" * 2
    spec = json.loads((cluster / "exp/t/plan/spec.json").read_text())
    assert spec["stages"]["align"]["arguments"][-2:] == ["--use_amp", "true"]
