"""Run several of our programs, a few at a time, for the price of one ESPnet import.

    python -m espnet_plugin.jobs.run_many spec.json

The specification: {"parallel": 2, "commands": [{"program": "align", "arguments": [...],
"log": "log.1", "done": "done.1"}, ...]}. ``done`` is made when the program has succeeded.

Programs on a GPU start Python anew: what ESPnet imports looks at GPUs, and CUDA does not survive a
fork. Where none is asked for, GPUs are hidden from all.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.processes import die_with_parent
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.jobs.preload import hide_gpus
from espnet_plugin.pipeline.launch.process import killed_reason
from espnet_plugin.pipeline.launch.programs import program_module

SHARED = ("espnet_plugin.inference.batch_job", "espnet_plugin.tasks.progressive")


def run(spec: Mapping[str, Any]) -> list[str]:
    """Run all commands; returns the logs of those that failed."""
    waiting = list(spec["commands"])
    on_gpu = any(_asks_for_gpu(command["arguments"]) for command in waiting)
    if not on_gpu:
        hide_gpus(os.environ)
        _import_all({command["program"] for command in waiting})
    running: dict[int, Mapping[str, Any]] = {}
    failed: list[str] = []
    while waiting or running:
        while waiting and len(running) < int(spec["parallel"]) and not failed:
            command = waiting.pop(0)
            running[_start(command, anew=on_gpu)] = command
        if failed and not running:
            break
        pid, status = os.waitpid(-1, 0)
        command = running.pop(pid)
        if status == 0:
            Path(command["done"]).touch()
        else:
            failed.append(str(command["log"]))
            if os.WIFSIGNALED(status):
                _note_signal(Path(command["log"]), os.WTERMSIG(status))
    return failed


def _note_signal(log: Path, number: int) -> None:
    """A process that a signal ended could not write so itself."""
    with log.open("a", encoding="utf-8") as stream:
        why = killed_reason(number)
        stream.write(f"killed by signal {number}{why and ': '}{why}\n")


def _asks_for_gpu(arguments: Sequence[str]) -> bool:
    return any(pair[0] == "--ngpu" and pair[1] != "0" for pair in itertools.pairwise(arguments))


def _import_all(programs: Iterable[str]) -> None:
    """What the programs import themselves, before the processes part ways."""
    for program in sorted(programs):
        importlib.import_module(program_module(program))
    for module in SHARED:
        importlib.import_module(module)


def _start(command: Mapping[str, Any], anew: bool) -> int:
    """Start one command in a copy of this process, or in a Python of its own; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        die_with_parent(parent)
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        name = program_module(command["program"])
        print(f"# python -m {name} {' '.join(command['arguments'])}\n# started {time.ctime()}")
        sys.stdout.flush()
        if anew:
            os.execv(sys.executable, [sys.executable, "-m", name, *command["arguments"]])
        result = importlib.import_module(name).main(list(command["arguments"]))
        status = int(result or 0)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the clean-up registered by the parent's imports is the parent's.
        os._exit(status)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 when a program failed."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    failed = run(json.loads(parser.parse_args(cmd).spec.read_text(encoding="utf-8")))
    for log in failed:
        logging.error("failed: see %s", log)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
