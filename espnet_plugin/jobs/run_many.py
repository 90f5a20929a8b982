"""Run several of our programs, a few at a time, for the price of one ESPnet import.

    python -m espnet_plugin.jobs.run_many spec.json

The specification: {"parallel": 2, "commands": [{"program": "align", "arguments": [...],
"log": "log.1", "done": "done.1"}, ...]}. ``done`` is made when the program has succeeded.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.processes import die_with_parent
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.process import killed_reason
from espnet_plugin.pipeline.launch.programs import program_module


def run(spec: Mapping[str, Any]) -> list[str]:
    """Run all commands; returns the logs of those that failed."""
    waiting = list(spec["commands"])
    for program in sorted({command["program"] for command in waiting}):
        importlib.import_module(program_module(program))
    # The programs import this themselves; here it is done before the processes part ways.
    importlib.import_module("espnet_plugin.inference.batch_job")
    importlib.import_module("espnet_plugin.tasks.progressive")
    running: dict[int, Mapping[str, Any]] = {}
    failed: list[str] = []
    while waiting or running:
        while waiting and len(running) < int(spec["parallel"]) and not failed:
            command = waiting.pop(0)
            running[_fork(command)] = command
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


def _fork(command: Mapping[str, Any]) -> int:
    """Start one command in a copy of this process; returns its id."""
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
