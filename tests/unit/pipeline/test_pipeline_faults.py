"""The pipeline, with programs that only pretend, on broken disks and after violence.

Each time: a message with the file and what to do, and what was finished is not made again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.bin import status
from espnet_plugin.bin.train import main as train
from espnet_plugin.pipeline import pipeline
from espnet_plugin.pipeline.launch import jobs
from tests.disk_faults import full_disk, heed_ctrl_c, read_only
from tests.unit.pipeline.helpers import expected_value, final_value, states

STEPS = [
    "train:align",
    "job:alignment",
    "train:viterbi",
    "train:full_sum",
    "job:nbest",
    "train:mbr",
]


class Killed(BaseException):
    """Stands for kill -9."""


def attempts(corpus: Path) -> dict[str, int]:
    return {name: step["attempts"] for name, step in states(corpus).items()}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Messages of errors, and no more of them to come."""
    found = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    caplog.clear()
    return found


@pytest.mark.parametrize("room", [0, 3000, 6000])
def test_a_full_disk_in_any_step(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture, room: int
) -> None:
    with full_disk(room):
        assert train(arguments) in (1, 2)
    [message] = errors(caplog)
    assert "no file may be so large here; raise `ulimit -f`" in message, message
    assert str(corpus / "exp/t") in message and "then give the same command again" in message
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()


@pytest.mark.parametrize("step", [STEPS[0], STEPS[1], STEPS[-1]])
def test_a_disk_that_fills_up_when_a_step_ends_keeps_what_was_finished(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, step: str,
) -> None:  # fmt: skip
    make, end = pipeline.Pipeline._make, pipeline.PipelineState.end

    def fills_up(self: pipeline.Pipeline, made: Any, *rest: Any) -> None:
        make(self, made, *rest)
        if made.name == step:
            raise OSError(errno.ENOSPC, "No space left on device", str(corpus / "exp/t/grown"))

    def cannot_be_noted(self: pipeline.PipelineState, name: str, how: str, *rest: Any) -> None:
        if how == "failed":
            raise OSError(errno.ENOSPC, "No space left on device")
        end(self, name, how, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Pipeline, "_make", fills_up)
        patch.setattr(pipeline.PipelineState, "end", cannot_be_noted)
        assert train(arguments) == 2
    [message] = errors(caplog)
    assert message.startswith(f"{corpus / 'exp/t/grown'}: the disk is full; free some space")
    assert train(arguments) == 0
    assert attempts(corpus) == {name: 2 if name == step else 1 for name in STEPS}
    assert final_value(corpus) == expected_value()


def test_a_folder_that_may_not_be_written(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with read_only(corpus / "exp"):
        assert train(arguments) == 2
    [message] = errors(caplog)
    assert message.startswith(f"{corpus / 'exp'}") and "mounted read-only" in message
    assert train([*arguments, "--stop_after", "train:align"]) == 0
    with read_only(corpus / "exp"):
        assert train(arguments) == 2
        capsys.readouterr()
        assert status.main(["--exp", str(corpus / "exp/t")]) == 0  # looking needs no rights
        assert "train:align     done" in capsys.readouterr().out
    assert "mounted read-only" in errors(caplog)[0]
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()
    assert set(attempts(corpus).values()) == {1}


def test_a_killed_training_says_so_and_goes_on(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_KILL", "viterbi")
        assert train(arguments) == 1
    [message] = errors(caplog)
    assert message.startswith(
        "stage viterbi: killed by signal 9: killed from outside, by the kernel"
    )
    assert "give smaller batches or a smaller --nj" in message and "viterbi/train.log" in message
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()
    assert attempts(corpus) == {name: 2 if name == "train:viterbi" else 1 for name in STEPS}


def test_the_last_word_of_a_failed_program_comes_first(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_FAIL", "align")
    assert train(arguments) == 1
    [message] = errors(caplog)
    assert message.startswith("stage align: exit status 1: RuntimeError: out of memory; the end of")
    assert states(corpus)["train:align"]["message"].startswith("stage align: exit status 1: Runt")


def processes_about(folder: Path) -> list[str]:
    """Command lines of living processes that name ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and int(path.parent.name) != os.getpid():
            found.append(words)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_the_pipeline(
    corpus: Path, arguments: list[str], number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "espnet_plugin.bin.train", *arguments]
    log = corpus / "train.out"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, "FAKE_PAUSE": "5"},
            preexec_fn=heed_ctrl_c,
        )  # fmt: skip
    started = corpus / "exp/t/align/train.log"
    end = time.monotonic() + 60
    while not (started.exists() and "1/2epoch started" in started.read_text()):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    assert len(processes_about(corpus)) == 2
    process.send_signal(number)
    process.wait(30)
    end = time.monotonic() + 10
    while processes_about(corpus) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_about(corpus) == []
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; the same command continues from here" in log.read_text()
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()


@pytest.mark.parametrize(
    ("file", "step"),
    [
        ("align/valid.loss.ave.pth", "train:align"),
        ("alignment/alignment", "job:alignment"),
        ("nbest/nbest", "job:nbest"),
    ],
)
def test_a_finished_file_that_was_cut_off_is_found_and_made_again(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture, file: str, step: str
) -> None:
    assert train(arguments) == 0
    path = corpus / "exp/t" / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # in the middle of a line, of a number
    assert train(arguments) == 2
    [message] = errors(caplog)
    found = f"{path.name} has {len(whole) // 2} bytes instead of {len(whole)}"
    assert message.startswith(f"{path.parent}: {step} was finished, and now {found}; bring it back")
    assert train([*arguments, "--rerun_stale", "true"]) == 0
    assert path.read_bytes() == whole
    assert train(arguments) == 0
    assert attempts(corpus) == dict.fromkeys(STEPS, 1), "nothing that holds was made again"


def test_another_nj_after_a_kill(
    corpus: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of a job that was begun keep their split, whatever is asked for later."""
    merge = jobs.merge_outputs

    def killed(job: jobs.Job, count: int) -> None:
        if job.name == "alignment":
            (job.logdir / "done.2").unlink()
            table = job.logdir / "output.2/alignment"
            table.write_bytes(table.read_bytes()[:-3])
            raise Killed
        merge(job, count)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(jobs, "merge_outputs", killed)
        train(arguments)
    place = arguments.index("--nj") + 1
    assert train([*arguments[:place], "5", *arguments[place + 1 :]]) == 0
    assert final_value(corpus) == expected_value()
    assert (corpus / "exp/t/alignment/logdir/split").read_text() == "2\n"
    assert (corpus / "exp/t/nbest/logdir/split").read_text() == "5\n"


def test_lists_that_change_while_a_stage_trains(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = corpus / "dump/train/text"
    before, real = text.read_text(), pipeline.train

    def changing(run: Any, *rest: Any) -> None:
        real(run, *rest)
        if run.stage.name == "viterbi":
            text.write_text(before.replace("A B", "B A", 1))

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "train", changing)
        assert train(arguments) == 2
    [message] = errors(caplog)
    assert message.startswith(f"{text}: changed during train:viterbi, which may have read some of")
    assert states(corpus)["train:viterbi"]["status"] == "failed"
    assert train(arguments) == 2 and "--rerun_stale true" in errors(caplog)[0]
    text.write_text(before)
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()


def test_no_step_begins_on_lists_that_have_changed(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As another experiment on the same dump folder may leave them; what is restored counts."""
    text = corpus / "dump/train/text"
    before, real = text.read_text(), pipeline.products_of

    def changing(folder: Path, *rest: Any) -> Any:
        if folder.name == "alignment":
            text.write_text(before.replace("A B", "B A", 1))
        return real(folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "products_of", changing)
        assert train(arguments) == 2
    assert "changed during the steps before" in errors(caplog)[0]
    assert not (corpus / "exp/t/viterbi/checkpoint.pth").exists()
    text.write_text(before)
    assert train(arguments) == 0
    assert final_value(corpus) == expected_value()


@pytest.mark.parametrize(
    "name", ["Größe é 语料 mit Raum und 'Zeichen'", "lang/" + "/".join(["x" * 200] * 4)]
)
def test_unicode_spaces_and_long_paths(corpus: Path, arguments: list[str], name: str) -> None:
    moved = corpus / name
    moved.mkdir(parents=True)
    for part in ("dump", "stats", "tokens.txt", "pipeline.yaml"):
        shutil.move(corpus / part, moved / part)
    places = [word.replace(str(corpus), str(moved)) for word in arguments]
    assert train(places) == 0
    assert final_value(moved) == expected_value()


@pytest.mark.parametrize(("name", "sign"), [("a,b", "','"), ("a:b", "':'")])
def test_paths_that_espnets_options_cannot_take(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture, name: str, sign: str
) -> None:
    """ESPnet cuts "file,name,type" at commas and "file:from:to" at colons."""
    place = arguments.index("--expdir") + 1
    given = [*arguments[:place], str(corpus / name), *arguments[place + 1 :]]
    assert train(given) == 2
    [message] = errors(caplog)
    assert f"{corpus / name}/t: ESPnet cuts options at {sign}" in message
    assert not (corpus / name).exists()


def test_a_state_that_was_cut_off_is_refused_with_a_way_out(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert train([*arguments, "--stop_after", "train:align"]) == 0
    path = corpus / "exp/t/pipeline.json"
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    assert train(arguments) == 2
    [message] = errors(caplog)
    assert message.startswith(f"{path}: not a pipeline state") and "restore it" in message
    path.write_text(content)
    assert train(arguments) == 0 and json.loads(path.read_text())["steps"]
