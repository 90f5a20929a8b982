"""The study's driver on a recipe that trains nothing: results, page, failures, kills."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.study.recipe import corpus_place
from benchmarks.study.run import get_parser
from benchmarks.study.units import read_study
from tests.unit.benchmarks.fake_study import calls, command, drive, make_study, result

NAME = "fake-char-small-0.5-{arm}-s{seed}"


def test_all_arms_are_trained_once_and_make_a_page(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    done = drive(path)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [NAME.format(arm=a, seed=s) for s in (1, 2) for a in ("full_sum_only", "progressive")]
    assert calls(path)[0] == "preparation"
    assert sorted(calls(path)[1:]) == sorted(f"exp/{name}" for name in names)
    kept = result(path, names[1])
    assert kept["words"]["mbr"]["test"]["s0-test0"] == ["s0", 1, 4]
    assert [step["name"] for step in kept["steps"]] == ["align", "viterbi", "full_sum", "mbr"]
    # 2 + 1 + 4 epochs of 61 s on a machine of the reference's speed, and mbr's one
    assert sum(s["reference_seconds"] for s in kept["steps"][:3]) == 7 * 61.0
    page = (tmp_path / "page.md").read_text()
    row = r"\| fake char small \| 0.5 \| {} \| 1, 2 \| {} \| 12.5 \| 12.5 \| "
    assert re.search(row.format("progressive", "0.14"), page)
    assert re.search(row.format("progressive without mbr", "0.12"), page)
    assert re.search(r"\| full sum only \| 1, 2 \| 0.17 \| 25.0 \| 25.0 \| ", page)
    assert "ahead in 1 of 1 places" in page and "\n\nTake the one\nwith fewer errors.\n\n" in page
    assert "Nowhere do the ranges of three seeds stand apart" in page  # there are two
    assert re.search(
        r"\| progressive \| test \| -12.50 \| -25.00 to \+0.00 \| too few speakers \| 2 ", page
    )
    assert "not trained yet" not in page
    for suffix in (".png", ".svg"):
        assert (tmp_path / "figures" / f"study{suffix}").stat().st_size > 1000

    again = drive(path)
    assert again.returncode == 0 and "4 of 4 trainings finished before" in again.stdout
    assert len(calls(path)) == 5


def test_a_failure_is_kept_shown_and_trained_again_when_asked(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    failed = drive(path, "--seeds", "1", FAKE_FAILS="progressive-s1")
    assert failed.returncode == 1
    said = result(path, NAME.format(arm="progressive", seed=1))["failure"]
    assert "exit status 1" in said and "has not learned anything" in said
    page = (tmp_path / "page.md").read_text()
    assert "## Trainings that failed" in page and "has not learned anything" in page
    assert drive(path, "--seeds", "1").returncode == 1  # not by itself
    assert len(calls(path)) == 3
    done = drive(path, "--seeds", "1", "--retry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## Trainings that failed" not in (tmp_path / "page.md").read_text()


def test_what_depends_on_a_failure_is_given_up(tmp_path: Path) -> None:
    grid = [
        {
            "corpora": ["fake"], "labels": ["char"], "sizes": ["small"], "budgets": [0.5],
            "arms": ["from_aligner"],
        }
    ]  # fmt: skip
    path = make_study(tmp_path, grid=grid)
    failed = drive(path, "--seeds", "1", FAKE_FAILS="progressive-s1")
    assert failed.returncode == 1 and "2 failed" in failed.stdout
    assert [call for call in calls(path) if "from_aligner" in call] == []
    again = drive(path, "--seeds", "1")
    assert again.returncode == 1 and "2 failed" in again.stdout
    done = drive(path, "--seeds", "1", "--retry")
    assert done.returncode == 0, done.stdout
    steps = result(path, NAME.format(arm="from_aligner", seed=1))["steps"]
    assert [step["name"] for step in steps] == ["(align)", "full_sum"]  # whose time counts


def test_a_model_that_only_another_machine_has_is_trained_again(tmp_path: Path) -> None:
    axes = {"corpora": ["fake"], "labels": ["char"], "sizes": ["small"], "budgets": [0.5]}
    path = make_study(tmp_path, grid=[{**axes, "arms": ["from_aligner", "progressive"]}])
    assert drive(path, "--seeds", "1", "--arm", "progressive").returncode == 0
    shutil.rmtree(tmp_path / "work/fake")  # results travel with the repository, models do not
    done = drive(path, "--seeds", "1", "--arm", "progressive")
    assert "1 of 1 trainings finished before" in done.stdout
    done = drive(path, "--seeds", "1")
    assert done.returncode == 0, done.stdout
    name = NAME.format(arm="progressive", seed=1)
    assert f"{name}: trained elsewhere; again, since" in done.stdout
    assert calls(path)[-2:] == [
        f"exp/{NAME.format(arm=arm, seed=1)}" for arm in ("progressive", "from_aligner")
    ]
    assert "2 of 2 trainings finished before" in drive(path, "--seeds", "1").stdout


def test_with_results_elsewhere_everything_is_trained_again(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    seed = ("--seeds", "1")
    assert drive(path, *seed).returncode == 0
    page = (tmp_path / "page.md").read_text()
    elsewhere = ("--results", str(tmp_path / "again"))
    done = drive(path, *seed, *elsewhere)
    assert done.returncode == 0 and "0 of 2 trainings finished before" in done.stdout
    assert "3 of 3 done" in done.stdout  # the data as well
    again = drive(path, *seed, *elsewhere)
    assert "2 of 2 trainings finished before" in again.stdout and "0 of 0 done" in again.stdout
    assert len(calls(path)) == 2 * 3
    kept = {file.name for file in (tmp_path / "work/results").iterdir()}
    assert kept < {file.name for file in (tmp_path / "again").iterdir()}
    there = (tmp_path / "again/page.md").read_text()
    assert there == page.replace("figures/study.png", "figure.png")
    assert (tmp_path / "page.md").read_text() == page  # the other one stays


def test_what_several_versions_of_the_code_trained_is_old(tmp_path: Path) -> None:
    path, name = make_study(tmp_path), NAME.format(arm="full_sum_only", seed=1)
    only = ("--seeds", "1", "--arm", "full_sum_only")
    failed = drive(path, *only, FAKE_FAILS=name)
    assert failed.returncode == 1
    codes = tmp_path / f"work/fake/study/{name}.codes"
    assert len(codes.read_text().split()) == 2
    # an epoch of it was trained by other code, and the driver killed
    (tmp_path / f"work/fake/exp/{name}").mkdir(parents=True)
    codes.write_text("0123456789ab abcdefg\n")
    assert drive(path, *only, "--retry").returncode == 0
    kept = result(path, name)
    assert kept["code"].startswith("0123456789ab..") and kept["commit"].startswith("abcdefg..")
    page = (tmp_path / "page.md").read_text()
    assert "full sum only (old)" in page and "training code of abcdefg.." in page
    done = drive(path, *only, "--renew")
    assert "of other training code; it is removed and trained anew" in done.stdout
    assert len(result(path, name)["code"]) == 12
    assert "(old)" not in (tmp_path / "page.md").read_text()


def test_results_of_other_code_are_old(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    assert drive(path, "--seeds", "1").returncode == 0
    assert "(old)" not in (tmp_path / "page.md").read_text()
    recipe = tmp_path / "recipe/conf/full_sum_only.yaml"
    recipe.write_text(recipe.read_text().replace("max_epoch: 20", "max_epoch: 22"))
    assert drive(path, "--page").returncode == 0
    page = (tmp_path / "page.md").read_text()
    assert "full sum only (old)" in page and "progressive (old)" not in page
    assert "another configuration" in page
    done = drive(path, "--seeds", "1", "--renew")
    assert done.returncode == 0 and len(calls(path)) == 5  # data once more, and one arm
    assert "(old)" not in (tmp_path / "page.md").read_text()


def processes(folder: Path) -> list[int]:
    """Those that a driver started for a study below this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"PROGRESSIVE_STUDY={folder}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_killed_driver_goes_on(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    assert drive(path, "--seeds", "1", "--arm", "full_sum_only").returncode == 0
    before = calls(path)
    process = subprocess.Popen(
        command(path), env={**os.environ, "FAKE_SECONDS": "600"}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(calls(path)) < len(before) + 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = processes(tmp_path)
    assert len(left) == 2  # two trainings at a time, which outlive the driver
    done = drive(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended 2 processes that an earlier driver left running" in done.stdout
    assert processes(tmp_path) == []
    counts = {name: calls(path).count(name) for name in calls(path)}
    finished = f"exp/{NAME.format(arm='full_sum_only', seed=1)}"
    assert counts.pop(finished) == 1  # what was finished is not trained again
    assert sorted(counts.values()) == [1, 2, 2, 3]  # never begun; cut off; data each time


def test_an_option_given_twice_means_both() -> None:
    args = get_parser().parse_args(["--arm", "a", "--seeds", "1", "2", "--arm", "b", "c"])
    assert (args.arm, args.seeds, args.budget) == (["a", "b", "c"], [1, 2], [])


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    for options, message in (
        (["--arm", "nothing"], "unknown 'nothing'"),
        (["--corpus", "fake=/no/such/place"], "/no/such/place: no such corpus fake"),
        (["--corpus", "an4"], "give NAME=PATH with a corpus of fake"),
    ):
        done = drive(path, *options)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    (tmp_path / "corpus").rmdir()
    done = drive(path)
    assert done.returncode == 2 and "corpus: no such corpus fake" in done.stderr
    assert not calls(path)


def test_status_starts_nothing(tmp_path: Path) -> None:
    path = make_study(tmp_path)
    done = drive(path, "--status")
    assert done.returncode == 0 and "0 of 5 done" in done.stdout
    # (8 + 4) half minutes of progressive and (10 + 1) of full_sum_only, twice, on two cores
    assert "0 h 11 min left" in done.stdout
    assert not calls(path)


def test_a_corpus_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(make_study(tmp_path))
    monkeypatch.delenv("FAKE_CORPUS", raising=False)
    with pytest.raises(ValueError, match="Give --corpus fake=PATH, or set FAKE_CORPUS"):
        corpus_place(study, "fake")
    monkeypatch.setenv("FAKE_CORPUS", str(tmp_path / "corpus"))
    assert corpus_place(study, "fake") == tmp_path / "corpus"
