"""LibriSpeech's data preparation on copies that are not whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.librispeech_data.handwritten_corpus import SPEAKERS, write_flac


def remove_part(root: Path) -> None:
    shutil.rmtree(root / "test-other")


def truncate_audio(root: Path) -> None:
    path = root / "dev-clean/1272/128104/1272-128104-0000.flac"
    path.write_bytes(path.read_bytes()[:-50])


def garble_audio(root: Path) -> None:
    (root / "dev-clean/1272/128104/1272-128104-0000.flac").write_bytes(b"<html>404</html>")


def remove_audio(root: Path) -> None:
    (root / "dev-other/116/288045/116-288045-0000.flac").unlink()


def remove_transcript(root: Path) -> None:
    path = root / "train-clean-100/103/1240/103-1240.trans.txt"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def remove_transcripts(root: Path) -> None:
    (root / "train-clean-100/103/1240/103-1240.trans.txt").unlink()


def other_rate(root: Path) -> None:
    write_flac(root / "test-clean/1089/134686/1089-134686-0000.flac", rate=8000)


def two_channels(root: Path) -> None:
    write_flac(root / "test-clean/1089/134686/1089-134686-0000.flac", channels=2)


def lower_case(root: Path) -> None:
    (root / "train-clean-100/40/222/40-222.trans.txt").write_text("40-222-0000 The FOURTH\n")


def foreign_id(root: Path) -> None:
    (root / "train-clean-100/40/222/40-222.trans.txt").write_text("41-222-0000 THE FOURTH\n")


def second_transcript(root: Path) -> None:
    with (root / "train-clean-100/40/222/40-222.trans.txt").open("a") as file:
        file.write("40-222-0000 THE FIFTH\n")


def remove_speakers(root: Path) -> None:
    (root / "SPEAKERS.TXT").unlink()


def unknown_reader(root: Path) -> None:
    (root / "SPEAKERS.TXT").write_text(SPEAKERS.replace("40   |", "41   |"))


def reader_of_another_part(root: Path) -> None:
    (root / "SPEAKERS.TXT").write_text(SPEAKERS.replace("train-clean-100  | 25.22", "x | 1"))


def bad_speakers(root: Path) -> None:
    (root / "SPEAKERS.TXT").write_text(SPEAKERS + "40 F train-clean-100\n")


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (
            remove_part,
            ["/test-other: no such folder; unpack test-other.tar.gz of OpenSLR 12"],
        ),
        (truncate_audio, ["1272-128104-0000.flac: ", "unpack its archive again"]),
        (garble_audio, ["1272-128104-0000.flac: unreadable (", "unpack its archive again"]),
        (
            remove_audio,
            ["116-288045-0000.flac: missing, though it has a transcript; unpack"],
        ),
        (
            remove_transcript,
            ["103-1240-0001.flac: audio without a transcript; add its line"],
        ),
        (remove_transcripts, ["103-1240.trans.txt: missing; unpack the archive again"]),
        (
            other_rate,
            ["1089-134686-0000.flac: 8000 Hz, 1 channel(s), where the corpus has"],
        ),
        (two_channels, ["1089-134686-0000.flac: 16000 Hz, 2 channel(s), where the corpus has"]),
        (
            lower_case,
            ["40-222.trans.txt:1: 'h' in the transcript of 40-222-0000;"],
        ),
        (foreign_id, ["40-222.trans.txt:1: not '40-222-NNNN WORDS': '41-222-0000 THE FOURTH'"]),
        (second_transcript, ["40-222.trans.txt:2: second transcript of 40-222-0000; remove one"]),
        (remove_speakers, ["SPEAKERS.TXT: missing; every archive of OpenSLR 12 holds it"]),
        (unknown_reader, ["/train-clean-100/40: ", "SPEAKERS.TXT does not know the reader; take"]),
        (
            reader_of_another_part,
            ["SPEAKERS.TXT puts the reader in x; take the folder out"],
        ),
        (bad_speakers, ["SPEAKERS.TXT:10: not 'reader | sex | part | minutes | name': 40 F train"]),
    ],
)
def test_broken_copies_stop_here_with_file_and_remedy(
    corpus: Path,
    prepare: Callable,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    messages: list[str],
) -> None:
    spoil(corpus)
    assert prepare(corpus) == 1
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
    for message in messages:
        assert message in caplog.text
    assert not (corpus.parent / "data" / "dev").exists()


def test_all_problems_are_told_at_once(
    corpus: Path, prepare: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    for spoil in (truncate_audio, remove_audio, remove_transcript, lower_case):
        spoil(corpus)
    assert prepare(corpus) == 1
    # the lower-case transcript is not used, so that its audio has none
    assert "5 problem(s) with LibriSpeech" in caplog.text


def test_an_incomplete_part_is_refused_unless_wanted(
    corpus: Path, prepare: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    official = " ".join(f"AA{n % 3} B" for n in range(3))
    (corpus.parent / "slr11/librispeech-lexicon.txt").write_text(f"A {official}\n")
    assert prepare(corpus, subset=False) == 1
    assert "2 phonemes without stress, the official lexicon has 39" in caplog.text


def test_counts_of_the_complete_parts(
    corpus: Path, prepare: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    phonemes = "".join(f"W{n} P{chr(65 + n // 26)}{chr(65 + n % 26)}\n" for n in range(39))
    (corpus.parent / "slr11/librispeech-lexicon.txt").write_text(phonemes)
    assert prepare(corpus, subset=False) == 1
    assert "/train-clean-100: 3 usable utterances, the part has 28539; unpack" in caplog.text
    assert "/dev-clean: 1 usable utterances, the part has 2703" in caplog.text
