"""The study: arms x seeds of study.yaml, one core each, and its page of results.

    python benchmarks/study/run.py --corpus an4=/corpora/an4_mfcc.tar.gz --only an4 --budget 0.25
    python benchmarks/study/run.py --status          # what is done and what is left
    python benchmarks/study/run.py --page            # benchmarks/RESULTS_study.md from what is done

Kill it when you like: the same command goes on, trainings from their last epoch. What has a result
in the repository is not trained again; with `--results exp/again`, an empty folder, everything is.
Run it in a working tree that nobody edits: results carry a hash of the training code, and those of
other code than today's are marked old.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.study import recipe
from benchmarks.study.jobs import make_jobs
from benchmarks.study.page import write_page
from benchmarks.study.units import Study, Wanted, read_study, select
from benchmarks.study.work_queue import Queue
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.state.lock import RunLock


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent / "study.yaml"
    add = parser.add_argument
    add("--config", type=Path, default=here, help="study.yaml (the one beside this program)")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    add("--corpus", **several, metavar="NAME=PATH", help="where corpora are")
    add("--only", **several, metavar="CORPUS", help="these corpora")
    add("--labels", **several, help="these kinds of labels, such as char")
    add("--size", **several, help="these model sizes")
    add("--budget", **several, type=float, help="these shares of the epochs")
    add("--arm", **several, help="these arms, and those that they start from")
    add("--seeds", **several, type=int, help="instead of the study's own")
    add("--cores", type=int, default=os.cpu_count() or 1, help="trainings at a time (all cores)")
    add("--nice", type=int, default=0, help="niceness of trainings (0)")
    add("--results", type=Path, metavar="DIR", help="take and leave results and page there")
    add("--retry", action="store_true", help="train what failed once more")
    add("--renew", action="store_true", help="train once more what is old")
    add("--status", action="store_true", help="only say what is done and what is left")
    add("--page", action="store_true", help="only write the page")
    return parser


def say(line: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def places(given: Sequence[str], study: Study) -> dict[str, Path]:
    """Corpora from NAME=PATH.

    Raises:
        ValueError: another form, or a corpus that the study does not know.
    """
    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or name not in study.raw["corpora"]:
            known = ", ".join(study.raw["corpora"])
            raise ValueError(f"--corpus {text}: give NAME=PATH with a corpus of {known}")
        found[name] = Path(path)
    return found


def run(args: argparse.Namespace) -> int:
    """Run what is asked for; returns 1 if something failed.

    Raises:
        ValueError: a user's mistake.
    """
    study = read_study(args.config)
    study = replace(study, places=places(args.corpus, study))
    if args.results:
        study = study.elsewhere(args.results.resolve())
    wanted = Wanted(args.only, args.labels, args.size, args.budget, args.arm, args.seeds)
    units = select(study, wanted)
    if args.page:
        say(f"page: {write_page(study)}")
        return 0
    again = {"failed": args.retry, "old": args.renew}
    jobs, finished = make_jobs(study, units, args.cores, args.nice, say, again)
    queue = Queue(jobs, args.cores, say)
    queue.done |= {name for name, failure in finished.items() if not failure}
    for name, failure in finished.items():
        if failure:
            queue.give_up(name, failure)
            say(f"{name}: {failure} (--retry trains it once more)")
    left = [job.name for job in queue.jobs]
    say(f"{len(finished)} of {len(units)} trainings finished before; left: {len(left)} jobs")
    if args.status:
        say(f"left: {', '.join(left) or 'nothing'}; {queue.progress()}")
        return 0
    for corpus in sorted({unit.corpus for unit in units if unit.name not in finished}):
        recipe.corpus_place(study, corpus)  # before anything is computed
    with RunLock(study.work):
        stale = recipe.end(study)
        if stale:
            say(f"ended {stale} processes that an earlier driver left running")
        _run_queue(queue, study)
    say(f"page: {write_page(study)}")
    return 1 if queue.failed else 0


def _run_queue(queue: Queue, study: Study) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        queue.run()
    except KeyboardInterrupt:
        queue.stop()
        recipe.end(study)
        say("stopped; the same command goes on")
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 if a training failed, 2 after a user error."""
    args = get_parser().parse_args(cmd)
    try:
        return run(args)
    except ValueError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
