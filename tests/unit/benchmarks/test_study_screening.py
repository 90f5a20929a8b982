"""A screening: its page by hand and by the driver, and arms that a teacher's codes train."""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.study import codes, screening
from benchmarks.study.configuration import (
    configuration_hash,
    load_configuration,
    write_configuration,
)
from benchmarks.study.figure import draw_differences
from benchmarks.study.recipe import training
from benchmarks.study.results import collect
from benchmarks.study.summary import difference
from benchmarks.study.units import Unit, Wanted, read_study, select
from tests.unit.benchmarks.fake_study import ARMS, GRID, drive, make_study, result, study_of
from tests.unit.benchmarks.test_study_summary import a_row

#: Of 180 characters in dev and test: 3, 6 errors, and 12, 15.
BASE = a_row("progressive", {1: [1, 2, 0], 2: [3, 3, 0]})
OTHER = a_row("full_sum_only", {1: [4, 4, 4], 2: [5, 5, 5], 3: [1, 0, 0]})


def test_pooled_rates_and_what_seeds_resolve() -> None:
    # 60 characters of dev and 60 of test
    assert screening.pooled_cer(BASE, 1) == pytest.approx(100 * 3 / 120)
    assert screening.differences(BASE, OTHER) == pytest.approx([6.25, 8.75, 0.8333333 - 3.75])
    # variances within: of 2.5, 5.0, and of 10, 12.5, 0.83
    one, two = 2 * 1.25**2, sum((v - 7.7777777) ** 2 for v in (10, 12.5, 0.8333333))
    assert screening.deviation([BASE, OTHER]) == pytest.approx(((one + two) / 3) ** 0.5)
    assert screening.deviation([a_row("one", {1: [1, 1, 1]})]) is None


@pytest.mark.parametrize(
    ("found", "scatter", "message"),
    [
        ([-3.0], 1.0, "better (resolution 2.3)"),
        ([2.0], 1.0, "none seen (resolution 2.3)"),
        ([2.0, 2.0, 2.0], 1.0, "worse (resolution 1.6)"),
        ([2.0], None, "resolution unknown"),
    ],
)
def test_effects_have_to_pass_the_resolution(found: Any, scatter: Any, message: str) -> None:
    assert screening.seen(found, scatter, 3) == message


def test_arms_weigh_the_same_whatever_seeds_they_have() -> None:
    paired = difference(BASE, OTHER, "dev", "test")
    every = difference(BASE, OTHER, "dev", "test", paired=False)
    assert paired is not None and every is not None
    rates = [
        statistics.fmean([r.wer(part).mean for part in ("dev", "test")]) for r in (BASE, OTHER)
    ]
    assert every.rate_a == pytest.approx(rates[0]) == paired.rate_a
    assert every.rate_b == pytest.approx(rates[1]) != paired.rate_b
    assert difference(a_row("none", {}), BASE, "dev", paired=False) is None


def test_both_sets_count_in_one_bootstrap() -> None:
    found = difference(BASE, OTHER, "dev", "test")
    assert found is not None
    one, two = (difference(BASE, OTHER, part) for part in ("dev", "test"))
    assert one is not None and two is not None
    assert found.difference == pytest.approx((one.difference + two.difference) / 2)


def test_a_figure_has_the_arms_that_were_trained(tmp_path: Path) -> None:
    assert draw_differences({"a": []}, 1.0, 1, tmp_path / "figure") == []
    png, svg = draw_differences({"a": [1.0], "b": [-1.0, 0.5]}, 0.4, 3, tmp_path / "figure")
    assert png.stat().st_size > 1000
    assert "Date" not in svg.read_text()


TOLD = {
    "progressive": {"what": "the base", "control": []},
    "full_sum_only": {"what": "from scratch", "control": ["progressive"], "step": 1.1},
    "from_aligner": {"what": "another start", "control": ["full_sum_only"]},
}
SCREENING = {"title": "a fake", "base": "progressive", "arms": TOLD}


def test_the_page_of_a_screening(tmp_path: Path) -> None:
    arms = {name: ARMS[name] for name in TOLD}
    grid = [{**GRID[0], "arms": list(arms)}]
    path = make_study(tmp_path, arms=arms, grid=grid, screening=SCREENING)
    nothing = drive(path, "--page")
    assert nothing.returncode == 2 and "nothing has been trained" in nothing.stderr
    done = drive(path, "--arm", "progressive", "full_sum_only")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# RESULTS: a fake\n\n**2 of 3 arms are trained.**")
    assert "Worse: full sum only." in page  # all seeds of an arm are equal here
    row = r"\| full sum only \| from scratch \| 1, 2 \| 1\.\d\d \| 1\.10 \| [\d.]+ \| \+[\d.]+ "
    row += r"\| worse \(resolution 0\.0\) \| 25\.0 \| 25\.0 \| \+12\.5 \(\+0\.0 to \+25\.0\) \|"
    assert re.search(row, page), page
    assert "| from aligner | another start | not yet | |  | | | | | | |" in page
    assert re.search(r"\| full sum only \| progressive \| 2, 2 \| \+", page)
    assert "| from aligner | full sum only | not yet | | | |" in page
    assert (tmp_path / "figures/study_50.svg").stat().st_size > 1000
    assert "figures/study_50.png" in page
    assert drive(path, "--page").returncode == 0
    assert (tmp_path / "page.md").read_text() == page

    failed = drive(path, "--seeds", "1", FAKE_FAILS="from_aligner-s1")
    assert failed.returncode == 1
    page = (tmp_path / "page.md").read_text()
    assert "| from aligner | another start | failed |" in page
    assert "## Trainings that failed" in page


TAUGHT = {
    "config": "conf/progressive.yaml",
    "codes": {"arm": "progressive", "stage": "full_sum", "books": 4},
    "change": {"train_stages": {"align": {"accelerators": {"repa": {"weight": 0.5}}}}},
}


def taught(root: Path, **change: Any) -> Path:
    codes_of = {**TAUGHT["codes"], **change}
    arms = {"progressive": ARMS["progressive"], "taught": {**TAUGHT, "codes": codes_of}}
    return make_study(root, arms=arms, grid=[{**GRID[0], "arms": ["taught"]}])


def test_a_teacher_is_trained_first_and_its_codes_are_named(tmp_path: Path) -> None:
    study = study_of(taught(tmp_path))
    (unit,) = [one for one in select(study, Wanted(seeds=[1])) if one.arm == "taught"]
    assert len(select(study, Wanted(seeds=[1]))) == 2
    path = write_configuration(study, unit)
    stages = load_configuration(study, unit, path).train_stages
    place = tmp_path / f"work/fake/exp/{unit.name}-codes"
    assert stages["align"]["accelerators"] == {"repa": {"weight": 0.5, "codes": str(place)}}
    assert "accelerators" not in stages["full_sum"] and "init_from" not in stages["align"]
    *_, command = training(study, unit)
    first, _, second = command.partition(" && exec ")
    teacher = tmp_path / "work/fake/exp" / unit.name.replace("taught", "progressive")
    assert f"codes.py --teacher {teacher}/full_sum --output_dir {place} --books 4" in first
    assert second.startswith("./run.sh --corpus ") and f"exp/{unit.name}" in second
    other = study_of(taught(tmp_path / "other", random=True))
    assert "--random" in training(other, unit)[-1]
    hashes = [configuration_hash(s, unit, write_configuration(s, unit)) for s in (study, other)]
    assert hashes[0] != hashes[1]


def test_a_teachers_time_counts_if_it_learned_something(tmp_path: Path) -> None:
    path = taught(tmp_path)
    unit = Unit("fake", "char", "small", 0.5, "taught", 1)
    place = study_of(path).codes(unit)
    place.mkdir(parents=True)
    (place / codes.SECONDS).write_text("12.2\n")  # they are there already
    done = drive(path, "--seeds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    before = [("(align)", 122.0), ("(viterbi)", 61.0), ("(full_sum)", 244.0)]
    own = [("align", 122.0), ("viterbi", 61.0), ("full_sum", 244.0), ("mbr", 61.0)]
    kept = result(path, unit.name)["steps"]
    found = [(step["name"], step["seconds"]) for step in kept]
    assert found == [*before, ("(codes)", 12.2), *own]
    assert kept[3]["reference_seconds"] == pytest.approx(12.2)  # of the reference's speed
    path.write_text(path.read_text().replace("books: 4", "random: true"))
    found = [(step.name, step.seconds) for step in collect(study_of(path), unit)[0]]
    assert found == [("(codes)", 12.2), *own]


def test_mistakes_about_teachers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"arms.taught.codes: unknown 'book'.*did you mean books"):
        read_study(taught(tmp_path, book=3))
    with pytest.raises(ValueError, match="unknown 'nobody'"):
        read_study(taught(tmp_path / "b", arm="nobody"))
    arms = {**ARMS, "both": {**TAUGHT, "start": {"arm": "progressive", "stage": "align"}}}
    with pytest.raises(ValueError, match="either start or codes"):
        read_study(make_study(tmp_path / "c", arms=arms))


def test_the_jobs_arguments_are_those_of_the_teachers_training(tmp_path: Path) -> None:
    stage = tmp_path / "mbr"
    stage.mkdir()
    data = [["dump/feats.scp", "speech", "kaldi_ark"], ["dump/text", "text", "text"],
            ["nbest", "nbest", "text_int"]]  # fmt: skip
    (stage / "config.yaml").write_text(yaml.safe_dump({"train_data_path_and_name_and_type": data}))
    given = argparse.Namespace(
        teacher=stage, output_dir=tmp_path / "out", books=4, codes=8, random=False
    )
    with pytest.raises(ValueError, match=r"mbr: which model\? averaged models there: none"):
        codes.arguments(given)
    (stage / "valid.cer.ave.pth").touch()
    (stage / "valid.cer.ave_10best.pth").touch()
    found = codes.arguments(given)
    pairs = dict(zip(found[::2], found[1::2], strict=True))
    assert pairs["--model_file"] == str(stage / "valid.cer.ave.pth")
    assert pairs["--key_file"] == "dump/text"
    assert [v for v in found if v.startswith("dump/") and "," in v] == [
        "dump/feats.scp,speech,kaldi_ark", "dump/text,text,text"
    ]  # fmt: skip
    assert (pairs["--books"], pairs["--codes"]) == ("4", "8")
    given.random = True
    assert str(tmp_path / "out/random.pth") in codes.arguments(given)


def test_finished_codes_stay(tmp_path: Path) -> None:
    (tmp_path / codes.SECONDS).write_text("1.0\n")
    given = ["--teacher", str(tmp_path / "nothing"), "--output_dir", str(tmp_path)]
    assert codes.main(given) == 0


def test_units_have_places_of_their_own(tmp_path: Path) -> None:
    study = study_of(taught(tmp_path))
    seeds = [Unit("fake", "char", "small", 0.5, "taught", seed) for seed in (1, 2)]
    assert study.codes(seeds[0]) != study.codes(seeds[1])
