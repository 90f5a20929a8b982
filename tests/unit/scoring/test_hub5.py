"""Hub5 scoring: NIST's mapping rules and marks; both scorers, compared with each other."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from espnet_plugin.jobs import score_hub5
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.glm import parse_glm
from espnet_plugin.scoring.hub5 import Rules, score_segments, scored_words, subsets
from espnet_plugin.scoring.hub5_nist import find_hubscr, score_by_nist
from espnet_plugin.scoring.stm import parse_stm
from espnet_plugin.scoring.word_graph import align_graphs, word_graph

needs_sctk = pytest.mark.skipif(find_hubscr() is None, reason="needs sctk: apt-get install sctk")

GLM = """\
;; the first characters of the file say what marks a comment
* name "made up"
* format = 'NIST1'
* max_nrules = '2500'
* copy_no_hit = 'T'
* case_sensitive = 'F'
UH      =>  %HESITATION     / [ ] __ [ ] ;; hesitation
UH-HUH  =>  %BCACK          / [ ] __ [ ]
ALRIGHT => ALL RIGHT
I'VE    => {I'VE / I HAVE} / [ ] __ [ ]
IT'S    => {IT'S / IT IS / IT HAS} / [ ] __ [ ]
OK      => O. K. / [ ] __ [ ]
"""
STM = """\
;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
en_1 A en_1_A 0.0 2.0 <O> A (B) C I'VE GOT IT'S OK
en_1 A en_1_A 2.0 4.0 <O> (%HESITATION) YEAH WELL-KNOWN (TH-) ALRIGHT DO-
en_1 A en_1_A 4.0 6.0 <O> IGNORE_TIME_SEGMENT_IN_SCORING
en_1 A en_1_A 6.0 8.0 <O> { ONE / TWO THREE } (X) FOUR
sw_2 B sw_2_B 0.0 2.0 <O> HELLO (UH) (%BCACK)
sw_2 B sw_2_B 2.0 3.0 <O>
"""
HYPOTHESES = {
    "en_1-A_000000-000200": "a c i have got it's okay",
    "en_1-A_000200-000400": "yeah well known [noise] uh all right dog",
    "en_1-A_000600-000800": "two three y four",
    "sw_2-B_000000-000200": "hello uh-huh",
    "sw_2-B_000200-000300": "extra",
}
# As sclite 2.10 counts it: O. K. against "okay" is a deletion and a substitution, X against Y is a
# substitution; "extra" is inserted.
ERRORS = {"en_1": Counts(3, 21, 18, 2, 1, 0, 2), "sw_2": Counts(2, 3, 3, 0, 0, 1, 1)}


def test_rules_fire_as_in_nists_rfilter1() -> None:
    """Input and output of sctk 2.4.10's rfilter1, run by hand."""
    rules = parse_glm(
        ";; comment\n* format = 'NIST1'\n"
        "AB => 1\nABC => 2\nABCD => 3 / [ ] __ [ ]\n[X Y] => [Z] / [ ] __ [ ]\n"
        "X => Q / [ ] __ [ ]\nAIN'T => [ARE NOT] / [ ] __ [ ]\nOK => O. K. / [ ] __ [ ]\n"
        "BINYAMIN => BENJAMIN / __ [ NETANYAHU]\nFALKNER => FAULKNER / [WILLIAM ] __  \n"
        "'EM => THEM ;; anywhere\n",
        "test.glm",
    )
    assert rules.apply(
        "AB ABC ABCD XABCD X Y X Y Y X X OKOK OK OK OKAY BINYAMIN NETANYAHU BINYAMIN X "
        "WILLIAM FALKNER TELL'EM AIN'T"
    ) == (
        "1 1C 1CD X1CD Z Z Y Q Q OKOK O. K. O. K. OKAY BENJAMIN NETANYAHU BINYAMIN Q "
        "WILLIAM FAULKNER TELLTHEM ARE NOT"
    )


def test_regions_of_a_rule_file() -> None:
    text = 'A => 1\n;; INPUT_DEPENDENT_APPLICATION = "ref"\nB => 2\n'
    assert parse_glm(text, "x", {"stm", "ref"}).apply("A B") == "1 2"
    assert parse_glm(text, "x", {"ctm", "hyp"}).apply("A B") == "1 B"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (";; x\nA -> B\n", r"x.glm:2: not 'SOURCE => TARGET"),
        (" => B\n", "x.glm:1: not 'SOURCE"),
        ("* format = 'NIST2'\n", "x.glm:1: format NIST1 is needed"),
    ],
)
def test_bad_rule_files(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_glm(text, "x.glm")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("A B C", "A B C", (3, 3, 0, 0, 0)),
        ("A B C", "A C D", (3, 2, 0, 1, 1)),
        ("A (B) C", "A C", (3, 3, 0, 0, 0)),
        ("A (B) C", "A B C", (3, 3, 0, 0, 0)),
        ("(B) C", "X C", (2, 1, 1, 0, 0)),
        ("{ ONE / TWO THREE } FOUR", "ONE FOUR", (2, 2, 0, 0, 0)),
        ("{ ONE / TWO THREE } FOUR", "TWO THREE FOUR", (3, 3, 0, 0, 0)),
        ("{ ONE / @ } FOUR", "FOUR", (1, 1, 0, 0, 0)),
        ("DO- IT", "DOG IT", (2, 2, 0, 0, 0)),
        ("-Y IT", "ANY IT", (2, 2, 0, 0, 0)),
        ("I HAVE", "{ I'VE / I HAVE }", (2, 2, 0, 0, 0)),
        ("", "A", (0, 0, 0, 0, 1)),
        ("", "", (0, 0, 0, 0, 0)),
    ],
)
def test_alignment_of_graphs(reference: str, hypothesis: str, counts: tuple[int, ...]) -> None:
    found = align_graphs(word_graph(reference), word_graph(hypothesis))
    assert (
        found.tokens, found.correct, found.substitutions, found.deletions, found.insertions
    ) == counts  # fmt: skip


@pytest.mark.parametrize("text", ["A ( B", "A ) B", "{ A / B", "A } B", "( { A ) }"])
def test_brackets_that_do_not_match(text: str) -> None:
    with pytest.raises(ValueError, match="brackets do not match"):
        word_graph(text)


def test_what_no_reference_asks_for_is_left_out() -> None:
    words = ["uh", "[noise]", "<unk>", "th-", "-y", "um-hum", "Yeah"]
    assert scored_words(words) == ["-Y", "UM-HUM", "YEAH"]


def test_our_counts_on_nists_marks() -> None:
    stm = parse_stm(STM, "stm")
    counts = score_segments(stm, HYPOTHESES, Rules.parse(GLM, "glm"))
    assert len(counts) == 5
    for recording, expected in ERRORS.items():
        total = sum((c for name, c in counts.items() if name.startswith(recording)), Counts())
        assert total == expected
    assert subsets(stm) == {"CH": ["en_1"], "SWB": ["sw_2"], "all": ["en_1", "sw_2"]}


@needs_sctk
def test_nist_counts_the_same(tmp_path: Path) -> None:
    (tmp_path / "glm").write_text(GLM)
    stm, hubscr = parse_stm(STM, "stm"), find_hubscr()
    assert hubscr is not None
    for recording, expected in ERRORS.items():
        part = stm.part([recording])
        found = score_by_nist(part, HYPOTHESES, tmp_path / "glm", tmp_path / "out", hubscr)
        assert found == expected
    nothing = score_by_nist(stm, {}, tmp_path / "glm", tmp_path / "out", hubscr)
    assert nothing.insertions == 0 and nothing.deletions + nothing.correct == nothing.tokens


def random_texts(seed: int, count: int) -> tuple[str, dict[str, str]]:
    """References with NIST's marks, and hypotheses that are wrong in places."""
    rng = random.Random(seed)
    plain = [
        "A",
        "B",
        "C",
        "D",
        "GO",
        "GOING",
        "TO",
        "UH-HUH",
        "WELL-KNOWN",
        "OKAY",
        "DO",
        "DOG",
        "HAVE",
        "I",
    ]
    lines, texts = [';; LABEL "O" "Overall" "Overall"'], {}
    for k in range(count):
        words = rng.choices([*plain, "I'VE", "IT'S", "ALRIGHT"], k=rng.randint(0, 8))
        marked = []
        for word in words:
            kind = rng.choice(["word"] * 6 + ["optional", "fragment", "alternative"])
            if kind == "word" or word not in plain:
                marked.append(word)
            elif kind == "alternative":
                marked.append(f"{{ {word} / {' '.join(rng.choices(plain, k=2))} }}")
            else:
                marked.append(f"({word})" if kind == "optional" else f"({word[:2]}-)")
        heard = []
        for word in words:
            dice = rng.random()
            heard += [] if dice < 0.15 else [rng.choice(plain) if dice < 0.3 else word]
            heard += [rng.choice(plain)] if dice > 0.9 else []
        name, begin = f"sw_{k // 100}", 10.0 * (k % 100)
        lines.append(f"{name} A {name}_A {begin:.2f} {begin + 8:.2f} <O> {' '.join(marked)}")
        key = f"{name}-A_{round(100 * begin):06d}-{round(100 * begin + 800):06d}"
        texts[key] = " ".join(heard).lower()
    return "\n".join(lines), texts


@needs_sctk
def test_nist_and_we_agree_on_random_texts(tmp_path: Path) -> None:
    text, texts = random_texts(seed=1, count=400)
    (tmp_path / "glm").write_text(GLM)
    stm, hubscr = parse_stm(text, "stm"), find_hubscr()
    assert hubscr is not None
    theirs = score_by_nist(stm, texts, tmp_path / "glm", tmp_path / "out", hubscr)
    ours = score_segments(stm, texts, Rules.parse(GLM, "glm"))
    report = (tmp_path / "out/hyp.ctm.filt.sgml").read_text()
    path = r'<PATH id=.*? file="(\w+)".*? R_T1="([\d.]+)".*?">\n(.*?)</PATH>'
    paths = re.findall(path, report, re.DOTALL)
    errors = {
        (name, float(begin)): sum(Counter(re.findall(r"(?:^|:)\s*([SDI]),", steps)).values())
        for name, begin, steps in paths
    }
    differ = [
        segment.name
        for segment in stm.segments
        if errors[segment.recording, segment.begin] != ours[segment.name].errors
    ]
    assert len(errors) == 400 and len(differ) <= 8, differ  # ties between alignments
    total = sum(ours.values(), Counts())
    assert abs(total.errors - theirs.errors) <= 0.005 * theirs.errors
    assert theirs.errors > 300


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """One decoding of one set, in the pipeline's layout."""
    data = tmp_path / "data/eval2000"
    data.mkdir(parents=True)
    (data / "stm").write_text(STM)
    (data / "glm").write_text(GLM)
    decoded = tmp_path / "exp/decode/mbr_beam8/eval2000"
    decoded.mkdir(parents=True)
    (decoded / "text").write_text("".join(f"{k} {v}\n" for k, v in HYPOTHESES.items()))
    (tmp_path / "exp/RESULTS.md").write_text("# RESULTS\n\n### WER\n")
    return tmp_path


def call(root: Path, scorer: str) -> int:
    places = ["--exp", str(root / "exp"), "--data_dir", str(root / "data")]
    return score_hub5.main([*places, "--sets", "eval2000", "rt03", "--scorer", scorer])


@pytest.mark.parametrize("scorer", ["own", pytest.param("nist", marks=needs_sctk)])
def test_a_section_of_results(experiment: Path, scorer: str) -> None:
    assert call(experiment, scorer) == 0
    assert call(experiment, scorer) == 0  # replaces its section
    text = (experiment / "exp/RESULTS.md").read_text()
    assert text.startswith("# RESULTS\n\n### WER\n\n## Hub5 scoring\n")
    assert text.count("## Hub5 scoring") == 1
    assert "|mbr_beam8/eval2000/CH|3|21|85.7|9.5|4.8|0.0|14.3|66.7|" in text
    assert "|mbr_beam8/eval2000/SWB|2|3|100.0|0.0|0.0|33.3|33.3|50.0|" in text
    assert "|mbr_beam8/eval2000/all|5|24|87.5|8.3|4.2|4.2|16.7|60.0|" in text
    assert ("not by NIST's hubscr.pl" in text) == (scorer == "own")
    reports = experiment / "exp/decode/mbr_beam8/eval2000/score_hub5/all/hyp.ctm.filt.dtl"
    assert reports.is_file() == (scorer == "nist")


def test_the_recipe_scores_a_packed_models_decoding(experiment: Path) -> None:
    """What --download_model leaves: a folder of `evaluate`, not of the pipeline."""
    (experiment / "exp/decode/mbr_beam8").rename(experiment / "exp/decode/mbr_packed")
    (experiment / "exp").rename(experiment / "my exp")
    repository = Path(__file__).resolve().parents[3]
    script = repository / "egs2/swbd/asr1/local/score.sh"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", str(script), "my exp", "--scorer", "own"],
        cwd=experiment,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(repository)},
        check=True,
    )
    text = (experiment / "my exp/RESULTS.md").read_text()
    assert "|mbr_packed/eval2000/all|5|24|87.5|8.3|4.2|4.2|16.7|60.0|" in text


def test_bad_input_is_named(experiment: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = experiment / "exp/decode/mbr_beam8/eval2000/text"
    text.write_text("en_1-A_000000-000200 a\n")
    assert call(experiment, "own") == 0
    assert "not decoded, their words count as deleted: en_1-A_000200-000400" in caplog.text
    text.write_text("en_9-A_000000-000200 a\n")
    assert call(experiment, "own") == 2
    assert "hypotheses of segments that the references lack: en_9-A" in caplog.text
    stm = experiment / "data/eval2000/stm"
    stm.write_text(STM.replace("(B) C", "(B C"))
    text.write_text("en_1-A_000000-000200 a\n")
    assert call(experiment, "own") == 2
    assert "en_1-A_000000-000200: brackets do not match" in caplog.text
    stm.write_text("en_1 A en_1_A two 2.0 <O> A\n")
    assert call(experiment, "own") == 2
    assert "stm:1: not 'recording channel speaker begin end" in caplog.text
    stm.unlink()
    assert call(experiment, "own") == 2
    assert "Hub5 scoring needs the references" in caplog.text


def test_without_sctk_the_official_scorer_says_what_to_install(
    experiment: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_hub5, "find_hubscr", lambda: None)
    assert call(experiment, "nist") == 2
    assert "apt-get install sctk" in caplog.text
    assert call(experiment, "auto") == 0
    assert "our stand-in" in (experiment / "exp/RESULTS.md").read_text()
