"""Runs that were cut off or changed half-way: what they leave must neither mislead nor block."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from espnet_plugin.bin.train import main as train
from espnet_plugin.data.check.measure import Request
from espnet_plugin.data.check.measure_all import measure_all
from espnet_plugin.jobs import train_ngram
from espnet_plugin.pipeline import pipeline
from espnet_plugin.pipeline.launch import job_backends
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.state.progress import ended_without_gradients
from espnet_plugin.pipeline.steps import statistics
from tests.unit.pipeline.helpers import set_keys, states

NO_GRADIENTS = "WARNING: The gradients at all steps are invalid in this epoch. Something\n"


class Killed(BaseException):
    """Stands for kill -9."""


def edit(corpus: Path, **stages: dict[str, Any]) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["train_stages"] |= stages
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def epochs(corpus: Path, stage: str) -> int:
    return int(json.loads((corpus / "exp/t" / stage / "checkpoint.pth").read_text())["epoch"])


def steps(count: int) -> dict[str, int]:
    return {"max_steps": count, "num_iters_per_epoch": 500}


@pytest.mark.parametrize(("changed", "wanted"), [(steps(4000), 8), ({"max_epoch": 7}, 7)])
def test_a_budget_that_trained_nothing_does_not_outlive_its_yaml(
    corpus: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, int],
    wanted: int,
) -> None:
    """As after running out of memory in the first epoch."""
    edit(corpus, align=steps(1000))
    monkeypatch.setenv("FAKE_FAIL", "align")
    assert train(arguments) == 1
    monkeypatch.delenv("FAKE_FAIL")
    edit(corpus, align=changed)
    assert train([*arguments, "--stop_after", "train:align"]) == 0
    assert epochs(corpus, "align") == wanted


def test_killed_between_moving_a_stale_folder_and_noting_it(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(corpus, mbr=steps(1000))
    assert train(arguments) == 0
    edit(corpus, mbr=steps(4000))
    move_aside = pipeline.move_aside

    def moved(folder: Path, show: Any) -> None:
        move_aside(folder, show)
        raise Killed

    again = [*arguments, "--rerun_stale", "true"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(pipeline, "move_aside", moved)
        train(again)
    assert train(again) == 0
    assert epochs(corpus, "mbr") == 8


def test_a_slip_of_the_pen_moves_nothing_aside(corpus: Path, arguments: list[str]) -> None:
    def steps_of() -> dict[str, str]:
        steps = json.loads((corpus / "exp/t/pipeline.json").read_text())["steps"]
        return {name: step["status"] for name, step in steps.items()}

    assert train(arguments) == 0
    before = steps_of()
    edit(corpus, viterbi={"encoder": "nonsense"})
    assert train([*arguments, "--rerun_stale", "true"]) == 1
    assert not list((corpus / "exp/t").glob("viterbi.*")) and epochs(corpus, "viterbi")
    assert steps_of() == before
    edit(corpus, viterbi={"encoder": "conformer", "accum_grad": 2})
    assert train([*arguments, "--rerun_stale", "true"]) == 0
    assert list((corpus / "exp/t").glob("viterbi.*"))


def test_a_lost_alignment_is_made_again_as_the_message_says(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert train(arguments) == 0
    (corpus / "exp/t/alignment/alignment").unlink()
    assert train(arguments) == 2
    assert "give --rerun_stale true to make it again" in caplog.text
    assert train([*arguments, "--rerun_stale", "true"]) == 0


def test_a_model_without_its_checkpoint_is_not_trained_over(
    corpus: Path, arguments: list[str]
) -> None:
    """Checkpoints of finished stages are large, and people delete them."""
    assert train(arguments) == 0
    folder = corpus / "exp/t/mbr"
    before = (folder / "valid.loss.ave.pth").read_text()
    (folder / "checkpoint.pth").unlink()
    edit(corpus, mbr={"max_epoch": 1, "factor": 5})
    assert train(arguments) == 2
    assert (folder / "valid.loss.ave.pth").read_text() == before


def test_non_linguistic_symbols_are_part_of_what_was_trained(
    corpus: Path, arguments: list[str]
) -> None:
    (corpus / "symbols").write_text("<x>\n")
    first = [*arguments, "--stop_after", "train:align"]
    with_symbols = [*first, "--non_linguistic_symbols", str(corpus / "symbols")]
    assert train(first) == 0
    assert train(with_symbols) == 2
    assert train([*with_symbols, "--rerun_stale", "true"]) == 0
    (corpus / "symbols").write_text("<x>\n<y>\n")
    assert train(with_symbols) == 2


def test_a_bigram_of_lf_mmi_is_part_of_what_was_trained(corpus: Path, arguments: list[str]) -> None:
    arpa = corpus / "label.arpa"
    conf = {"bigram": str(arpa)}
    edit(corpus, lf_mmi={"loss": "lf_mmi", "loss_conf": conf, "max_epoch": 1})
    names = ["align", "viterbi", "full_sum", "lf_mmi"]
    set_keys(corpus, stage_scheduler_conf={"stages": names})
    assert train(arguments) == 2  # no such file
    arpa.write_text("one")
    assert train(arguments) == 0
    assert list(states(corpus)) == [
        *("train:align", "job:alignment"),
        *(f"train:{name}" for name in names[1:]),
    ]
    assert train(arguments) == 0
    arpa.write_text("two")
    assert train(arguments) == 2
    assert train([*arguments, "--rerun_stale", "true"]) == 0
    assert states(corpus)["train:full_sum"]["attempts"] == 1


def write_statistics(given: Sequence[str]) -> None:
    """What one part of ESPnet's collect_stats leaves."""
    for name in ("train", "valid"):
        keys = Path(given[given.index(f"--{name}_shape_file") + 1]).read_text().split()
        out = Path(given[given.index("--output_dir") + 1]) / name
        out.mkdir(parents=True, exist_ok=True)
        (out / "speech_shape").write_text("".join(f"{key} 50,13\n" for key in keys))
        (out / "text_shape").write_text("".join(f"{key} 3\n" for key in keys))
        (out / "batch_keys").write_text("speech\ntext\n")
        (out / "stats_keys").write_text("")


def test_statistics_killed_with_one_nj_go_on_with_another(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(corpus / "stats")
    for part, count in (("train", 24), ("valid", 8)):
        for name, value in (("feats.scp", "feats.ark:1"), ("text", "A B")):
            lines = "".join(f"{part}{n:02d} {value}\n" for n in range(count))
            (corpus / "dump" / part / name).write_text(lines)
    begun: list[int] = []

    def run_local(parts: Sequence[Any], *_: object) -> None:
        begun.append(len(parts))
        for number, part in enumerate(parts):
            if len(begun) == 1 and number == 2:
                raise Killed
            write_statistics(part.arguments)
            part.done.touch()

    def collect(nj: int) -> bool:
        text = {"token_type": "char", "token_list": str(corpus / "tokens.txt")}
        options = RunOptions(
            exp=corpus / "exp/t",
            train_data=corpus / "dump/train",
            valid_data=corpus / "dump/valid",
            stats_dir=corpus / "stats",
            feats_type="extracted",
            text_options=text,
            nj=nj,
        )
        stage = make_plan(load_pipeline_config(corpus / "pipeline.yaml"))[0]
        return statistics.collect_stats(stage, options, lambda line: None, lambda: None)

    def aggregate(options: RunOptions, nj: int) -> None:
        """As ESPnet's program, which takes long to start."""
        for name in ("train/speech_shape", "train/text_shape", "valid/text_shape"):
            parts = [options.stats_dir / f"logdir/stats.{n}" / name for n in range(1, nj + 1)]
            (options.stats_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (options.stats_dir / name).write_text("".join(part.read_text() for part in parts))

    monkeypatch.setattr(job_backends, "run_local", run_local)
    monkeypatch.setattr(statistics, "_aggregate", aggregate)
    with pytest.raises(Killed):
        collect(4)
    assert collect(2) and begun == [4, 2]  # the two that are left of four
    keys = [line.split()[0] for line in (corpus / "stats/train/speech_shape").open()]
    assert sorted(keys) == [f"train{n:02d}" for n in range(24)]
    assert not collect(8)


def test_divergence_in_the_last_epoch_is_noticed_again(tmp_path: Path) -> None:
    """ESPnet has saved that epoch, so that the next call finds nothing to train."""
    log, started = tmp_path / "train.log", "[h] (trainer:1) INFO: {}/3epoch started\n"
    log.write_text(started.format(3) + NO_GRADIENTS)
    assert ended_without_gradients(log)
    with log.open("a") as file:
        file.write("[h] WARNING: The training has already reached at max_epoch: 4\n")
    assert ended_without_gradients(log)
    log.rename(tmp_path / "train.1.log")  # as ESPnet's launcher does
    assert not ended_without_gradients(log)  # of a log that is not there nothing is said
    log.write_text("[h] WARNING: The training has already reached at max_epoch: 4\n")
    assert ended_without_gradients(log)
    log.write_text(started.format(3))
    assert not ended_without_gradients(log)


def test_a_trouble_that_passed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    requests = {"u": Request(str(tmp_path / "a.wav"), "audio", True)}

    def broken(*_: object, **__: object) -> None:
        raise OSError("[Errno 5] Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "SoundFile", broken)
        assert measure_all(requests, cache=tmp_path / "cache")["u"].problem
    assert not measure_all(requests, cache=tmp_path / "cache")["u"].problem


def test_an_ngram_whose_note_was_not_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    def estimate(text: Path, out: Path, order: int) -> None:
        out.write_text(f"order {order}")

    monkeypatch.setattr(train_ngram, "estimate", estimate)
    (tmp_path / "text").write_text("u1 a b\n")
    given = ["--text", str(tmp_path / "text"), "--out", str(tmp_path / "lm"), "--order"]
    assert train_ngram.main([*given, "2"]) == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_ngram, "write_atomically", killed)
        train_ngram.main([*given, "3"])
    assert train_ngram.main([*given, "2"]) == 0
    assert (tmp_path / "lm").read_text() == "order 2"
