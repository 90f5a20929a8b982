"""The pipeline with fake programs: order, hand-over, resuming, staleness, refusals, the lock."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.bin import status, train
from espnet_plugin.pipeline.state.lock import RunLock
from espnet_plugin.pipeline.state.reference_system import REFERENCE_SECONDS
from espnet_plugin.pipeline.steps import training
from tests.unit.pipeline.helpers import change, expected_value, final_value, states, two_stages


def test_all_stages_in_order_with_hand_over(
    corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments) == 0
    assert final_value(corpus) == expected_value()
    steps = states(corpus)
    assert list(steps) == [
        *("train:align", "job:alignment", "train:viterbi"),
        *("train:full_sum", "job:nbest", "train:mbr"),
    ]
    assert all(step["status"] == "done" and step["attempts"] == 1 for step in steps.values())
    out = capsys.readouterr().out
    assert "epoch   2/3  train loss 0.500  valid loss 0.500  wer 0.250  lr 1.00e-04" in out
    config = yaml.safe_load((corpus / "exp/t/conf/viterbi.yaml").read_text())
    assert config["factor"] == 3 and config["input_size"] == 13 and config["loss"] == "viterbi"


def test_second_call_runs_nothing(corpus: Path, arguments: list[str]) -> None:
    two_stages(corpus)
    assert train.main(arguments) == 0
    log = (corpus / "exp/t/viterbi/train.log").read_text()
    assert train.main(arguments) == 0
    assert (corpus / "exp/t/viterbi/train.log").read_text() == log
    assert all(step["attempts"] == 1 for step in states(corpus).values())


def test_stop_after_and_continue(corpus: Path, arguments: list[str]) -> None:
    assert train.main([*arguments, "--stop_after", "train:viterbi"]) == 0
    assert not (corpus / "exp/t/full_sum").exists()
    assert train.main(arguments) == 0
    assert final_value(corpus) == expected_value()


def test_stage_arguments_reach_the_stage(corpus: Path, arguments: list[str]) -> None:
    assert train.main([*arguments, "--viterbi_args", "--max_epoch 1", "--stop_after",
                       "train:viterbi"]) == 0  # fmt: skip
    checkpoint = json.loads((corpus / "exp/t/viterbi/checkpoint.pth").read_text())
    assert checkpoint["epoch"] == 1


def test_killed_at_random_moments_gives_the_same_result(corpus: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "espnet_plugin.bin.train", *arguments]
    environment = {**os.environ, "FAKE_PAUSE": "0.1"}
    generator = random.Random(1)
    for number in range(6):
        log = corpus / f"console{number}"
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream)
        while process.poll() is None and "->" not in log.read_text():
            time.sleep(0.01)  # until a step has begun
        time.sleep(generator.random())
        process.kill()  # the runner alone: its children must follow it
        process.wait()
    assert train.main(arguments) == 0
    assert final_value(corpus) == expected_value()
    assert max(int(str(step["attempts"])) for step in states(corpus).values()) > 1


def test_children_die_with_a_killed_runner(corpus: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "espnet_plugin.bin.train", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "FAKE_PAUSE": "0.3"},
                               stdout=subprocess.DEVNULL)  # fmt: skip
    log = corpus / "exp/t/align/train.log"
    deadline = time.monotonic() + 20
    while not (log.exists() and "1/2epoch" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.1)
    size = log.stat().st_size
    time.sleep(0.8)
    assert log.stat().st_size == size, "an orphan goes on writing"


def test_changed_configuration_is_refused_then_rerun(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert train.main(arguments) == 0
    align = (corpus / "exp/t/align/train.log").read_text()
    change(corpus, "viterbi", factor=5)
    assert train.main(arguments) == 2
    assert "train:viterbi" in caplog.text and "--rerun_stale true" in caplog.text
    assert "train:align" not in caplog.text
    assert train.main([*arguments, "--rerun_stale", "true"]) == 0
    assert (corpus / "exp/t/align/train.log").read_text() == align
    for name in ("viterbi", "full_sum", "nbest", "mbr"):
        assert len(list((corpus / "exp/t").glob(f"{name}.stale.*"))) == 1
    assert final_value(corpus) != expected_value()


def test_changed_data_is_stale_but_workers_are_not(corpus: Path, arguments: list[str]) -> None:
    two_stages(corpus)
    assert train.main(arguments) == 0
    change(corpus, "align", num_workers=4)
    assert train.main(arguments) == 0
    for part in ("feats.scp", "text"):
        path = corpus / "dump/train" / part
        path.write_text(path.read_text().replace("A B", "B A").replace("ark:1", "ark:2"))
    assert train.main(arguments) == 2


def test_lost_product_is_reported(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    two_stages(corpus)
    assert train.main(arguments) == 0
    (corpus / "exp/t/align/valid.loss.ave.pth").unlink()
    assert train.main(arguments) == 2
    assert "valid.loss.ave.pth is gone" in caplog.text
    again = [*arguments, "--rerun_stale", "true"]
    assert train.main(again) == 0
    assert train.main(arguments) == 0, "what was made from the same model holds"
    attempts = states(corpus)["train:viterbi"]["attempts"]
    # another aligner outdates what was made from the old one, though no option changed
    (corpus / "exp/t/align/checkpoint.pth").write_text('{"epoch": 2, "value": 5}')
    (corpus / "exp/t/align/valid.loss.ave.pth").unlink()
    assert train.main(again) == 0
    assert states(corpus)["train:viterbi"]["attempts"] == attempts == 1
    assert list((corpus / "exp/t").glob("viterbi.stale.*")), "trained anew"
    assert train.main(arguments) == 0


def test_failed_stage_keeps_its_message_and_is_tried_again(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_FAIL", "full_sum")
    assert train.main(arguments) == 1
    assert "out of memory" in caplog.text
    assert states(corpus)["train:full_sum"]["status"] == "failed"
    monkeypatch.delenv("FAKE_FAIL")
    assert train.main(arguments) == 0
    assert final_value(corpus) == expected_value()


@pytest.mark.parametrize(
    ("given", "epochs"),
    [
        ([], (3, 4)),  # the probe: 2 of the 7 iterations in 30 s, so 110 s an epoch
        (["--viterbi_args", "--num_iters_per_epoch 14"], (1, 2)),  # 215 s
        (["--asr_args", "--num_iters_per_epoch=14"], (1, 2)),
        (["--viterbi_args", "--num_iters_per_epoch none"], (3, 4)),
    ],
)
def test_hours_become_epochs_once(
    corpus: Path, arguments: list[str], given: list[str], epochs: tuple[int, ...]
) -> None:
    two_stages(corpus)
    change(corpus, "viterbi", hours=0.125, probe_iters=2)
    assert train.main([*arguments, *given, "--stop_after", "train:viterbi"]) == 0
    step = states(corpus)["train:viterbi"]
    assert step["max_epoch"] in epochs  # 450 s, less what starting the probe took
    checkpoint = json.loads((corpus / "exp/t/viterbi/checkpoint.pth").read_text())
    assert checkpoint["epoch"] == step["max_epoch"]


def test_a_probe_that_does_not_tell_the_epochs_length(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    two_stages(corpus)
    monkeypatch.setenv("FAKE_NO_COUNT", "1")
    change(corpus, "viterbi", hours=0.125, probe_iters=2)
    assert train.main(arguments) == 2
    log = corpus / "exp/t/probe/viterbi/train.log"
    assert f"{log}: the probe's log does not tell how many batches" in caplog.text
    assert "stage viterbi; set num_iters_per_epoch" in caplog.text
    config = yaml.safe_load((corpus / "pipeline.yaml").read_text())
    del config["train_stages"]["viterbi"]["probe_iters"]  # the whole epoch: 35 s
    (corpus / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 0
    assert states(corpus)["train:viterbi"]["max_epoch"] in (11, 12, 13)


@pytest.mark.parametrize("launcher", [[], ["--cuda_cmd", "slurm.pl"]], ids=["here", "launched"])
def test_reference_hours_are_worth_the_same_everywhere(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, launcher: list[str],
) -> None:  # fmt: skip
    two_stages(corpus)
    change(corpus, "viterbi", reference_hours=0.5, probe_iters=2)
    arguments += launcher
    assert train.main(arguments) == 2
    assert "the probe left no reference step" in caplog.text
    # this machine is four times as fast as the reference system: 0.125 hours, as above
    fast = REFERENCE_SECONDS / 4
    monkeypatch.setattr(training, "read_reference_step", lambda folder, since=0.0: fast)
    assert train.main(arguments) == 0
    assert states(corpus)["train:viterbi"]["max_epoch"] in (3, 4)


def test_steps_become_epochs(corpus: Path, arguments: list[str]) -> None:
    two_stages(corpus)
    change(corpus, "viterbi", max_steps=10, max_epoch=4)
    assert train.main(arguments) == 0
    config = yaml.safe_load((corpus / "exp/t/conf/viterbi.yaml").read_text())
    assert (config["max_epoch"], config["num_iters_per_epoch"]) == (4, 3)
    assert "max_steps" not in config


def test_checkpoint_of_another_vocabulary(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    two_stages(corpus)
    change(corpus, "viterbi", init_from={"file": str(corpus / "foreign.pth")})
    assert train.main(arguments) == 2
    assert "foreign.pth: no such checkpoint" in caplog.text
    torch.save({"joint_network.output.weight": torch.zeros(7, 2)}, corpus / "foreign.pth")
    assert train.main(arguments) == 2
    assert "made for another vocabulary" in caplog.text and "7 outputs" in caplog.text
    assert not (corpus / "exp/t/align").exists()


def test_fine_tuning_from_another_experiment(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    two_stages(corpus)
    other = corpus / "other/full_sum"
    other.mkdir(parents=True)
    torch.save({"joint_network.output.weight": torch.zeros(4, 2)}, other / "valid.cer.ave.pth")
    trained = {"token_list": ["<blank>", "A", "C", "D"]}
    trained["best_model_criterion"] = [["valid", "cer", "min"]]
    (other / "config.yaml").write_text(yaml.safe_dump(trained))
    state = {"plan": ["train:full_sum"], "steps": {"train:full_sum": {"status": "done"}}}
    (corpus / "other/pipeline.json").write_text(json.dumps(state))
    command = [*arguments, "--init_from", str(corpus / "other"), "--init_from_stage", "viterbi"]
    assert train.main(command) == 2
    assert "does not know: B; labels of the model that the token list lacks: C, D" in caplog.text
    assert "--init_from_parts encoder" in caplog.text
    (other / "valid.cer.ave.pth").write_text("5")  # what the stand-ins take for a model
    assert train.main([*command, "--init_from_parts", "encoder"]) == 0
    log = (corpus / "exp/t/viterbi/train.log").read_text()
    left_out = "specaug,ctc.,intermediate_output.,decoder.,joint_network."
    assert f"--init_param {other / 'valid.cer.ave.pth'}:::{left_out}" in log
    assert train.main([*arguments, "--init_from_parts", "encoder"]) == 2
    assert "need --init_from MODEL" in caplog.text


def test_training_through_a_launcher(
    corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    two_stages(corpus)
    command = [*arguments, "--num_nodes", "2", "--ngpu", "4", "--stop_after", "train:align"]
    assert train.main(command) == 2
    assert "--num_nodes 2 needs --cuda_cmd" in caplog.text
    assert train.main([*command, "--cuda_cmd", "slurm.pl --mem 9G"]) == 0
    launch = (corpus / "exp/t/align/launch.log").read_text()
    assert "espnet2.bin.launch --cmd slurm.pl --mem 9G" in launch and "--num_nodes 2" in launch
    assert "epoch   2/2" in capsys.readouterr().out


def test_epochs_are_shown_though_the_launcher_moved_the_log(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    two_stages(corpus)
    command = [*arguments, "--cuda_cmd", "slurm.pl", "--stop_after", "train:align"]
    monkeypatch.setenv("FAKE_KILL", "align")
    assert train.main(command) == 1
    log = corpus / "exp/t/align/train.log"
    with log.open("a") as stream:
        stream.write("the first attempt said more than the second will\n" * 50)
    monkeypatch.delenv("FAKE_KILL")
    assert train.main(command) == 0
    assert "said more" in log.with_name("train.1.log").read_text()
    assert "epoch   2/2" in capsys.readouterr().out


def test_two_runners_on_one_folder(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    two_stages(corpus)
    with RunLock(corpus / "exp/t"):
        assert train.main(arguments) == 2
    assert f"pid {os.getpid()}" in caplog.text
    assert train.main(arguments) == 0


def test_wrong_options_are_found_before_training(corpus: Path, arguments: list[str]) -> None:
    change(corpus, "full_sum", nonsense=1)
    assert train.main(arguments) == 1
    assert not (corpus / "exp/t/align").exists()


def test_dry_run_trains_nothing(
    corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*arguments, "--dry_run", "true"]) == 0
    assert "train:align -> job:alignment -> train:viterbi" in capsys.readouterr().out
    assert not (corpus / "exp/t/align").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dump/train/text", None, "dump/train/text: no such file"),
        ("dump/train/text", "", "dump/train/text: empty"),
        ("dump/valid/text", "valid0 A\nvalid1 A\n", "lacks utterances"),
        ("stats/train/speech_shape", "other 5,13\n", "collect the statistics again"),
        ("tokens.txt", None, "tokens.txt: no such file"),
    ],
)
def test_bad_data_is_named_before_training(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    file: str, content: str | None, message: str,
) -> None:  # fmt: skip
    if content is None:
        (corpus / file).unlink()
    else:
        (corpus / file).write_text(content)
    assert train.main(arguments) == 2
    assert message in caplog.text and file.rpartition("/")[2] in caplog.text
    assert not (corpus / "exp/t/align").exists()


def test_status_table(
    corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*arguments, "--stop_after", "train:viterbi"]) == 0
    change(corpus, "viterbi", factor=7)
    capsys.readouterr()
    assert status.main(["--exp", str(corpus / "exp/t")]) == 0
    table = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line.split()[1] for line in table[1:]}
    assert found == {
        "train:align": "done",
        "job:alignment": "done",
        "train:viterbi": "stale",
        "train:full_sum": "todo",
        "job:nbest": "todo",
        "train:mbr": "todo",
    }
