"""NIST's STM files: names, repairs, plain references."""

from __future__ import annotations

import pytest

from espnet_plugin.scoring.stm import parse_stm, plain_reference

TEXT = """\
;; LABEL "O" "Overall" "Overall"
en_4156 A en_4156_A 357.64 359.64 <O,en,F,en-F>  HE IS A POLICE OFFICER
fsh_60262 2 fsh_60262_B 1.005 2.0 <o,f,m> yes <B_ASIDE> ((i-)) know <E_ASIDE>
fsh_60262 1 inter_segment_gap 2.0 2.5 <o,,unknown>
sw_4390 B sw_4390_B 3.0 4.0
sw_4390 B sw_4390_B 4.0 5.0 <O> IGNORE_TIME_SEGMENT_IN_SCORING
"""


def test_segments() -> None:
    stm = parse_stm(TEXT, "x.stm")
    assert [segment.name for segment in stm.segments] == [
        "en_4156-A_035764-035964", "fsh_60262-B_000100-000200", "sw_4390-B_000300-000400",
        "sw_4390-B_000400-000500",
    ]  # fmt: skip
    first, second, third, fourth = stm.segments
    assert first.labels == "<O,en,F,en-F>" and first.text == "HE IS A POLICE OFFICER"
    assert second.text == "yes (i-) know"
    assert third.text == "" and not third.ignored and fourth.ignored


def test_written_files_read_the_same() -> None:
    stm = parse_stm(TEXT, "x.stm")
    again = parse_stm(stm.text(), "y.stm")
    assert again == stm and again.comments == (';; LABEL "O" "Overall" "Overall"',)
    assert [s.recording for s in stm.part(["sw_4390"]).segments] == ["sw_4390"] * 2
    assert "en_4156 A en_4156_A 357.640 359.640 <O,en,F,en-F> HE IS" in stm.text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("en_1 C x 0 1 <O> A", "x.stm:1: not 'recording channel"),
        ("en_1 A x zero 1 <O> A", "x.stm:1: not 'recording channel"),
        ("en_1 A x 2", "x.stm:1: not 'recording channel"),
        ("en_1 A x 2 1 <O> A", "x.stm:1: impossible times 2.0 to 1.0"),
    ],
)
def test_bad_lines_are_named(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_stm(line + "\n", "x.stm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HE IS (%HESITATION) OLD", "he is old"),
        ("{ GOING TO / GONNA } GO", "going to go"),
        ("{ A / @ } B", "a b"),
        ("(TH-) THE <foreign> X", "th- the x"),
        ("%HESITATION", ""),
        ("", ""),
    ],
)
def test_plain_references(text: str, words: str) -> None:
    assert plain_reference(text) == words
