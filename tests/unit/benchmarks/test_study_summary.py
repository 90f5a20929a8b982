"""The study's queue, its means, bootstrap and verdict, and the fit of step costs, by hand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks.study.page import MAIN, changes, missing, significance, verdict
from benchmarks.study.results import Result, Step
from benchmarks.study.step_cost import add_measurement
from benchmarks.study.step_table import fit, outputs, predicted, step_cost_section
from benchmarks.study.summary import Row, difference, spread
from benchmarks.study.units import Unit, read_study
from benchmarks.study.work_queue import Queue
from tests.unit.benchmarks.fake_study import make_study


@dataclass
class Sleep:
    """A job that sleeps."""

    name: str
    log: list[str]
    needs: tuple[str, ...] = ()
    cores: int = 1
    minutes: float = 1.0
    status: int = 0
    seconds: float = 0.02
    after: Callable[[], None] = field(default=lambda: None)

    def begin(self) -> subprocess.Popen[bytes]:
        self.log.append(f"+{self.name}")
        return subprocess.Popen(["sh", "-c", f"sleep {self.seconds}; exit {self.status}"])

    def finish(self, status: int, seconds: float) -> bool:
        self.log.append(f"-{self.name}")
        return status == 0


def queue_of(jobs: list[Sleep], cores: int = 2) -> Queue:
    return Queue(jobs, cores, lambda line: None, poll=0.005)


def test_jobs_wait_for_what_they_need_and_for_cores() -> None:
    log: list[str] = []
    jobs = [
        Sleep("data", log, cores=2),
        Sleep("a", log, ("data",), seconds=0.3),
        Sleep("b", log, ("data",)),
        Sleep("c", log, ("b",)),
        Sleep("whole", log, cores=2),
        Sleep("last", log),
    ]
    queue = queue_of(jobs)
    queue.run()
    assert log[:2] == ["+data", "-data"]
    running = most = 0
    for entry in log:
        running += 1 if entry[0] == "+" else -1
        most = max(most, running)
    assert most == 2
    # what uses both cores is alone, and nothing that comes after it goes before
    at = log.index("+whole")
    assert log[at + 1] == "-whole" and log.index("+last") > at
    assert queue.done == {job.name for job in jobs} and not queue.failed


def test_a_failure_takes_those_with_it_that_need_it() -> None:
    log: list[str] = []
    jobs = [Sleep("a", log, status=1), Sleep("b", log, ("a",)), Sleep("c", log, ("b",))]
    queue = queue_of([*jobs, Sleep("d", log)])
    queue.run()
    assert set(queue.failed) == {"a", "b", "c"} and queue.done == {"d"}
    assert queue.failed["c"] == "needs b"


def test_time_left_learns_from_what_is_done() -> None:
    jobs = [Sleep(name, [], minutes=10.0) for name in "abc"]
    queue = queue_of(jobs)
    assert queue.minutes_left() == pytest.approx(15.0)  # 30 minutes on two cores
    queue.done.add("a")
    queue._spent.append((10.0, 20.0))  # took twice as long
    assert queue.minutes_left() == pytest.approx(20.0)
    queue.done.add("b")
    assert queue.minutes_left() == pytest.approx(20.0)  # one job cannot use both


def a_row(arm: str, errors: dict[int, list[int]], budget: float = 0.5) -> Row:
    """A row whose seeds have these errors in three sentences of ten words by two speakers."""
    results = {}
    for seed, counts in errors.items():
        words = {f"u{n}": (f"s{n // 2}", e, 10) for n, e in enumerate(counts)}
        results[seed] = Result(
            unit=Unit("fake", "char", "small", budget, arm, seed),
            code="", configuration="", commit="",
            steps=(Step("align", 10, 3600.0), Step("full_sum", 10, 1800.0)),
            words={"full_sum": {"dev": words, "test": words}},
            characters={"full_sum": {"dev": (sum(counts), 60), "test": (0, 60)}},
        )  # fmt: skip
    stages = dict.fromkeys(errors, "full_sum")
    return Row(Unit("fake", "char", "small", budget, arm, 0), results, stages, {}, {})


def test_means_ranges_and_times() -> None:
    row = a_row("progressive", {1: [1, 2, 0], 2: [3, 3, 0]})
    assert row.wer("dev") == spread([10.0, 20.0])
    assert str(row.wer("dev")) == "15.0 (10.0 to 20.0)"
    assert str(row.cer("dev")) == "7.5 (5.0 to 10.0)" and str(row.cer("test")) == "0.0"
    assert row.hours is not None and row.hours.mean == 1.5


def test_difference_adds_up_common_seeds_and_draws_speakers() -> None:
    base = a_row("full_sum_only", {1: [2, 2, 1], 2: [2, 2, 1], 3: [9, 9, 9]})
    ours = a_row("progressive", {1: [1, 1, 1], 2: [1, 1, 1]})
    found = difference(base, ours, "dev")
    assert found is not None and found.units == 2
    assert found.rate_a == pytest.approx(100 * 10 / 60)  # two seeds of 30 words
    assert found.difference == pytest.approx(-100 * 4 / 60)
    # the speaker of two sentences gains, the other does not: draws of him alone give -10, 0
    assert (found.low, found.high) == pytest.approx((-10.0, 0.0))
    assert difference(a_row("full_sum_only", {4: [1, 1, 1]}), ours, "dev") is None


def test_the_verdict_follows_the_numbers() -> None:
    ours = a_row("progressive", {1: [1, 1, 1], 2: [1, 1, 0], 3: [1, 1, 2]})
    theirs = a_row("full_sum_only", {1: [3, 3, 3], 2: [3, 2, 3], 3: [2, 2, 2]})
    text = verdict([ours, theirs])
    assert "ahead in 1 of 1 places" in text and "do not overlap: fake char small" in text
    assert "10.0 (6.7 to 13.3) against 25.6 (20.0 to 30.0)" in text
    text = verdict([theirs, a_row("progressive", {s: [4, 4, 4] for s in (1, 2, 3)})])
    assert "ahead in 0 of 1 places" in text and "Behind or equal: fake char small" in text
    assert "Nowhere do the ranges" in text
    two = a_row("progressive", {1: [1, 1, 1], 2: [1, 1, 0]})
    assert "Nowhere do the ranges" in verdict([two, theirs])  # two seeds are too few
    assert "Nothing is known yet" in verdict([ours])


def test_a_bootstrap_claims_nothing_of_few_sessions_or_one_seed(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    few = list(significance(study, [a_row(arm, {1: [9, 9, 9]}) for arm in MAIN[::2]]))
    assert [line.split(" | ")[5] for line in few if "fake" in line] == ["too few speakers"] * 2
    many = [a_row(arm, {s: [e] * 12 for s in (1, 2)}) for arm, e in ((MAIN[0], 1), (MAIN[2], 3))]
    for rows, said in (
        (many, "yes"),
        ([replace(r, results={1: r.results[1]}) for r in many], "one seed"),
    ):
        lines = [line for line in significance(study, rows) if "fake" in line]
        assert [line.split(" | ")[5] for line in lines] == [said] * 2
    lines = list(significance(study, [many[0], replace(many[1], old={1: "why"})]))
    assert "| fake char small, budget 0.5 (old) | progressive |" in "\n".join(lines)


def test_what_the_grid_asks_for_and_nobody_trained(tmp_path: Path) -> None:
    study = read_study(make_study(tmp_path))
    ours, theirs = (a_row(arm, {1: [1, 1, 1]}) for arm in ("progressive", "full_sum_only"))
    assert list(missing(study, [ours, theirs])) == []
    assert "fake char small, budget 0.5: full sum only." in next(missing(study, [ours]))
    text = verdict([ours, replace(theirs, old={1: "why"})])
    assert "fake char small, budget 0.5 (old): 10.0 against 10.0" in text


def test_changes_stand_in_the_table_even_where_the_pipeline_was_not_trained() -> None:
    ours = a_row("progressive", {1: [1, 1, 1], 2: [1, 1, 0]})
    there = a_row("no_boost", {2: [2, 1, 0], 3: [9, 9, 9]})  # one common seed
    lines = list(changes([ours, there, a_row("no_boost", {1: [3, 0, 0]}, budget=0.25)]))
    assert any(line.startswith("| fake char small, 0.5 | no boost | 2, 3 |") for line in lines)
    (line,) = (row for row in lines if "small, 0.5" in row)
    assert line.endswith("| +3.3 | +3.3 |")
    (line,) = (row for row in lines if "small, 0.25" in row)
    assert line.endswith("| - | - |")
    assert list(changes([ours])) == []


def measured(labels: int, vocabulary: int, full: float) -> dict[str, object]:
    return {
        "config": "c.yaml", "utterances": 2, "frames": 100, "labels": labels,
        "vocabulary": vocabulary, "precision": "float32", "repeats": 1, "date": "2026-11-30",
        "seconds": {"align": 1.0, "viterbi": 1.0 + 2e-5 * vocabulary * 200, "full_sum": full},
    }  # fmt: skip


def test_a_line_through_step_costs_and_its_continuation(tmp_path: Path) -> None:
    sizes = [(10, 100), (20, 100), (10, 1000)]
    # 25 encoder frames: 16 x 11 cells for 10 labels, 6 x 21 for 20
    cells = {10: 2 * 16 * 11, 20: 2 * 6 * 21}
    entries = [measured(s, v, 0.5 + 1e-6 * cells[s] * v) for s, v in sizes]
    a, b, error = fit("full_sum", entries)
    assert (a, b) == pytest.approx((0.5, 1e-6)) and error < 1e-9
    size = {"utterances": 2, "frames": 200, "labels": 30, "vocabulary": 5000}
    # the part without the joint network goes with the frames, the other with its outputs
    assert predicted("full_sum", entries, size) == pytest.approx(1.0 + 1e-6 * 2 * 21 * 31 * 5000)
    assert outputs("viterbi", size) == 2 * 50 * 5000
    file = tmp_path / "cost.json"
    for entry in [*entries, entries[0] | {"date": "2026-12-01"}]:
        add_measurement(file, entry)
    kept = json.loads(file.read_text())
    assert len(kept) == 3 and kept[-1]["date"] == "2026-12-01"  # the newer of the same size
    extrapolate = [{"name": "Large", "config": "c.yaml", "frames": 200, "labels": 30,
                    "vocabulary": 5000}]  # fmt: skip
    study = read_study(make_study(tmp_path / "study", extrapolate=extrapolate))
    text = "\n".join(step_cost_section(study, file))
    seconds = 1.0 + 1e-6 * 2 * 21 * 31 * 5000
    assert f"full_sum {seconds:.2f} s" in text and f"align {2.0 / seconds:.2f}" in text
    with pytest.raises(ValueError, match="a line needs two sizes"):
        fit("full_sum", entries[:1])
