"""Producers as processes: order, skipping, sharing, and every way to die, by name."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.data.stream.options import StreamOptions, check_stage, read_options, with_epoch
from espnet_plugin.data.stream.reader import RecordStream, try_producer
from espnet_plugin.data.stream.records import Record, encode
from tests import tiny_producer

ROOT = Path(__file__).resolve().parents[3]
COMMAND = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} " + shlex.quote(
    str(ROOT / "tests" / "tiny_producer.py")
)


def options(arguments: str = "", **others: Any) -> StreamOptions:
    given = {"command": f"{COMMAND} {arguments}", "pool": 4, "timeout": 30.0, **others}
    return StreamOptions(**given)


def read(count: int, stream: RecordStream) -> list[bytes]:
    with contextlib.closing(stream):
        return [encode(record) for record in itertools.islice(stream, count)]


def expected(numbers: range, seed: int = 5) -> list[bytes]:
    return [encode(tiny_producer.record(seed, number)) for number in numbers]


def test_records_come_in_order_and_after_those_to_pass_over() -> None:
    assert read(6, RecordStream(options(), 5)) == expected(range(6))
    assert read(3, RecordStream(options(), 5, start=4)) == expected(range(4, 7))


@pytest.mark.parametrize("start", [0, 3])
def test_several_producers_say_what_one_says(start: int) -> None:
    found = read(7, RecordStream(options(processes=3), 5, start))
    assert found == expected(range(start, start + 7))


@pytest.mark.parametrize("processes", [1, 2])
def test_two_processes_of_a_training_get_disjoint_records(processes: int) -> None:
    for rank in range(2):
        stream = RecordStream(options(processes=processes), 5, 2, rank, world=2)
        assert read(4, stream) == expected(range(4 + rank, 12 + rank, 2))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("die", r"the producer has ended \(exit status 7\)"),
        ("end", r"the producer has ended \(exit status 0\); a stream has no end"),
        ("cut", r"cut off, \d+ of \d+ bytes after its header \(exit status 0\)"),
        ("damage", "damaged on its way"),
        ("print", "begins with b'a message that"),
    ],
)
def test_a_fault_is_named_with_record_number_and_last_words(fault: str, message: str) -> None:
    stream = RecordStream(options(f"--fault {fault} --at 2"), 5)
    with contextlib.closing(stream):
        assert [next(stream).number, next(stream).number] == [0, 1]
        with pytest.raises(ValueError, match=f"(?s)stream: record 2: {message}") as error:
            next(stream)
    text = str(error.value)
    assert f"  | speaking from 0\n  | about to {fault}" in text
    assert f"--fault {fault} --at 2 --seed 5 --skip 0" in text


def test_silence_ends_with_a_message_and_no_process_stays() -> None:
    stream = RecordStream(options("--fault stall --at 1"), 5)
    pids = [producer._process.pid for producer in stream._producers.values()]
    with contextlib.closing(stream):
        next(stream)
        with pytest.raises(ValueError, match=r"record 1: nothing for 1 s; raise stream.timeout"):
            stream._producers[0].next(timeout=1.0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_command_that_does_not_start() -> None:
    with pytest.raises(ValueError, match=r"(?s)record 0: .*exit status 127.*no_such_program"):
        read(1, RecordStream(StreamOptions("no_such_program", pool=4), 1))


def test_a_fast_producer_waits() -> None:
    """What is read ahead is bounded: the producer stands still at the full pipe."""
    stream = RecordStream(options("--samples"), 5)
    with contextlib.closing(stream):
        next(stream)
        waiting = stream._producers[0]._records
        deadline = time.monotonic() + 20
        while not waiting.full() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        assert waiting.qsize() == waiting.maxsize == 4
        following = [next(stream).number for _ in range(20)]
        assert following == list(range(1, 21))  # and nothing was lost meanwhile


def test_the_kernel_ends_the_producer_with_the_training() -> None:
    program = (
        "import os, time\n"
        "from tests.unit.data.test_stream_reader import options\n"
        "from espnet_plugin.data.stream.reader import RecordStream\n"
        "stream = RecordStream(options('--fault stall --at 1'), 5)\n"
        "next(stream)\n"
        "print(stream._producers[0]._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    trainer = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_trial_reads_the_first_record() -> None:
    found = try_producer(options(processes=2), 5)
    assert isinstance(found, Record)
    assert encode(found) == expected(range(1))[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--deaf", r"(?s)record 1: it calls itself 0; .*--skip"),
        ("--drift", r"record 1 \(u00001\) is another one when the producer starts at --skip 1"),
        ("--unknown 1", r"(?s)record 0: .*exit status 2.*unrecognized arguments"),
    ],
)
def test_a_trial_finds_what_does_not_replay(arguments: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        try_producer(options(arguments), 5)


def test_a_source_that_does_not_replay_gets_no_arguments() -> None:
    live = options("--skip 7 --drift", replays=False)
    assert try_producer(live, 5).number == 7
    assert read(2, RecordStream(live, 5, start=3)) == [
        encode(tiny_producer.record(7, number)) for number in (7, 8)
    ]
    with pytest.raises(ValueError, match=r"replays: false: several processes"):
        RecordStream(live, 5, world=2)


GOOD = {"command": "say", "pool": 10}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": 10}, "stream.command is missing"),
        ({"command": "say"}, "stream.pool is missing"),
        ("say", "a mapping of command"),
        ({**GOOD, "process": 2}, r"stream.process: unknown option.*did you mean processes"),
        ({**GOOD, "pool": 0}, "from 1 up, got 0"),
        ({**GOOD, "pool": 1.5}, "whole number"),
        ({**GOOD, "processes": True}, "whole number"),
        ({**GOOD, "seed": -1}, "from 0 up"),
        ({**GOOD, "timeout": 0}, "seconds above 0"),
        ({**GOOD, "command": " "}, "a line for bash"),
        ({**GOOD, "replays": "no"}, "true or false"),
        ({**GOOD, "replays": False, "processes": 2}, "cannot be shared"),
        *(({**GOOD, "reservoir": n}, r"stream\.reservoir: .*from 0 up") for n in (-1, 2.5, True)),
        *(
            ({**GOOD, "reservoir": 9, "recent_share": share}, "above 0 and below 1, got")
            for share in (0, 1, 1.0, -0.1, "half", True)
        ),
        ({**GOOD, "recent_share": 0.5}, "give its size"),
        ({**GOOD, "align": "model.pth"}, r"stream\.align: a mapping of model"),
        ({**GOOD, "align": {"prior": "p"}}, r"stream\.align\.model is missing"),
        ({**GOOD, "align": {"model": "m", "prior_scale": 0.3}}, "needs prior, a file"),
    ],
)
def test_wrong_options_are_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_options(given)


@pytest.mark.parametrize(
    ("stage", "needs", "message"),
    [
        ({"loss": "mbr"}, "nbest", r"loss mbr needs .*stream: null"),
        ({"loss": "ctc", "accelerators": {"repa": {}}}, None, "accelerators.repa"),
        (
            {"loss": "ctc", "accelerators": {"selective": {"irreducible": "x", "keep": 0.5}}},
            None,
            "accelerators.selective: losses are of stored utterances",
        ),
        ({"loss": "ctc", "multiple_iterator": True}, None, "multiple_iterator"),
    ],
)
def test_stages_that_cannot_train_on_a_stream(
    stage: dict[str, Any], needs: str | None, message: str
) -> None:
    check_stage(stage, needs)  # without one they may do so
    with pytest.raises(ValueError, match=message):
        check_stage({**stage, "stream": GOOD}, needs)


def test_an_epoch_in_bins_becomes_batches() -> None:
    stage = {"stream": {**GOOD, "epoch_bins": 1001}, "batch_type": "numel", "batch_bins": 100}
    assert with_epoch(stage)["num_iters_per_epoch"] == 11
    assert with_epoch({**stage, "num_iters_per_epoch": 3})["num_iters_per_epoch"] == 3
    assert "num_iters_per_epoch" not in with_epoch({**stage, "stream": GOOD})
    with pytest.raises(ValueError, match="batch_type numel or length"):
        with_epoch({**stage, "batch_type": "sorted"})
