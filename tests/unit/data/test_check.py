"""Every rule about bad input: what is refused, what is left out, and what is said about it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.data.check import check_data_dir, measure_all
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lexicon import Lexicon
from espnet_plugin.data.model_frames import ModelFrames
from tests.checked_data import (
    CHARACTERS,
    RAW,
    TEXT,
    UTTERANCES,
    audio_dir,
    feature_dir,
    the_error,
)


def test_sound_data_pass(tmp_path: Path) -> None:
    report = check_data_dir(feature_dir(tmp_path / "d"), CHARACTERS)
    assert (report.errors, report.warnings, report.skipped) == ([], [], {})
    assert report.usable == list(UTTERANCES) and report.speech == 4 * 23
    report.raise_errors()
    audio = check_data_dir(audio_dir(tmp_path / "wav"), RAW)
    assert (audio.errors, audio.skipped, audio.speech) == ([], {}, 4 * 4000)


@pytest.mark.parametrize("name", ["text", "feats.scp"])
def test_missing_and_empty_files(tmp_path: Path, name: str) -> None:
    folder = feature_dir(tmp_path / "d")
    (folder / name).write_text("")
    assert f"{folder / name}: empty" in the_error(check_data_dir(folder, CHARACTERS))
    (folder / name).unlink()
    assert f"{folder / name}: no such file" in the_error(check_data_dir(folder, CHARACTERS))
    nothing = check_data_dir(tmp_path / "nothing", CHARACTERS)
    assert "no such data directory; run the data preparation" in the_error(nothing)


def test_ids_that_not_every_file_has(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")
    write_table(folder / "text", {k: TEXT[k] for k in ("a-1", "b-1", "b-2")} | {"c-1": "A"})
    report = check_data_dir(folder, CHARACTERS)
    assert [error.split(";")[0] for error in report.errors] == [
        f"{folder}/text: lacks utterances that feats.scp, utt2spk has: a-2",
        f"{folder}/feats.scp: lacks utterances that text has: c-1",
        f"{folder}/utt2spk: lacks utterances that text has: c-1",
    ]
    lenient = check_data_dir(folder, replace(CHARACTERS, allow_missing=True))
    assert not lenient.errors and lenient.usable == ["a-1", "b-1", "b-2"]
    assert lenient.skipped == {
        "a-2": f"{folder}/text: not there",
        "c-1": f"{folder}/feats.scp: not there",
    }


def test_only_the_first_ids_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")
    write_table(folder / "text", TEXT | {f"c-{n:02d}": "A" for n in range(15)})
    message = check_data_dir(folder, CHARACTERS).errors[0]
    assert "c-09, ... (15 in all)" in message and "c-10" not in message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a-1 A\na-1 B\na-2 A\n", r":2: utterance a-1 stands there twice"),
        ("a-2 A\na-1 B\n", r": not sorted: a-1 stands after a-2; sort it with `LC_ALL=C sort"),
        ("a-1 A\n\na-2 B\n", r":2: blank line"),
        (b"a-1 \xff\n", r":1: not UTF-8 text"),
    ],
)
def test_malformed_tables(tmp_path: Path, lines: str | bytes, message: str) -> None:
    folder = feature_dir(tmp_path / "d")
    (folder / "text").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(ValueError, match=f"{folder}/text{message}"):
        check_data_dir(folder, CHARACTERS).raise_errors()


def test_commands_in_place_of_audio(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    write_table(folder / "wav.scp", dict.fromkeys(UTTERANCES, "sph2pipe -f wav a.sph |"))
    assert "commands, which ESPnet cannot run" in the_error(check_data_dir(folder, RAW))


def test_tokens_outside_the_vocabulary(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")
    write_table(folder / "text", TEXT | {"a-2": "AÉ", "b-1": "ÉX"})
    message = the_error(check_data_dir(folder, CHARACTERS))
    assert "outside the vocabulary: 'X' (first in b-1), 'É' (first in a-2); make" in message
    decoded = check_data_dir(folder, replace(CHARACTERS, evaluation=True))
    assert not decoded.errors and "'X' (first in b-1)" in decoded.warnings[0]


def test_words_without_a_pronunciation(tmp_path: Path) -> None:
    lexicon = Lexicon({"AB": (("AH", "B"),), "A": (("AH",),)}, "lex.txt")
    options = replace(CHARACTERS, lexicon=lexicon, tokens=None)
    message = the_error(check_data_dir(feature_dir(tmp_path / "d"), options))
    assert f"lex.txt: 2 words of {tmp_path}/d/text have no pronunciation: B BA; add" in message


def test_more_labels_than_encoder_frames(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d", {"b-2": np.ones((2, 3), np.float32)})
    write_table(folder / "text", TEXT | {"a-1": "ABABA", "a-2": "ABABAB"})
    report = check_data_dir(folder, CHARACTERS)
    assert not report.errors
    assert report.skipped == {
        "a-2": "6 labels, but only 5 encoder frames to put them on",
        "b-2": "too short for the encoder, which makes no frame of it",
    }
    standard = check_data_dir(folder, replace(CHARACTERS, topology="rnnt"))
    assert list(standard.skipped) == ["b-2"]
    decoded = check_data_dir(folder, replace(CHARACTERS, evaluation=True))
    assert list(decoded.skipped) == ["b-2"] and "a-2; they cannot be" in decoded.warnings[0]


def test_empty_transcripts(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")
    write_table(folder / "text", TEXT | {"b-1": ""})
    report = check_data_dir(folder, CHARACTERS)
    assert report.skipped == {"b-1": f"{folder}/text: empty transcript"} and not report.errors
    assert not check_data_dir(folder, replace(CHARACTERS, evaluation=True)).skipped


def test_features_of_no_use(tmp_path: Path) -> None:
    broken = np.ones((23, 3), np.float32)
    broken[7, 2] = np.nan
    folder = feature_dir(tmp_path / "d", {"a-2": broken, "b-1": np.zeros((0, 3), np.float32)})
    report = check_data_dir(folder, CHARACTERS)
    assert not report.errors and list(report.skipped) == ["a-2", "b-1"]
    assert "feats.ark" in report.skipped["a-2"]
    assert report.skipped["a-2"].endswith(": nan in frame 7, channel 2")
    assert report.skipped["b-1"].endswith(": zero length")
    # without reading the values, what the headers say is still checked
    assert list(check_data_dir(folder, replace(CHARACTERS, scan=0.0)).skipped) == ["b-1"]


@pytest.mark.parametrize("scan", [0.0, 1.0])
def test_archives_cut_off_or_gone(tmp_path: Path, scan: float) -> None:
    folder = feature_dir(tmp_path / "d")
    os.truncate(folder / "feats.ark", (folder / "feats.ark").stat().st_size - 10)
    rows = read_table(folder / "feats.scp")
    write_table(folder / "feats.scp", rows | {"a-1": f"{folder}/other.ark:4"})
    report = check_data_dir(folder, replace(CHARACTERS, scan=scan))
    assert report.skipped["a-1"] == f"{folder}/other.ark: no such file"
    assert report.skipped["b-2"].endswith(": the archive is cut off there")
    assert report.usable == ["a-2", "b-1"]


def test_double_precision_and_text_archives(tmp_path: Path) -> None:
    pytest.importorskip("omniio")
    folder = feature_dir(tmp_path / "d")
    rows = read_table(folder / "feats.scp")
    (folder / "text.ark").write_text("a-1  [\n  1 2 3\n  4 5 nan ]\n")
    double = np.arange(18.0).reshape(6, 3)
    sizes = b"\4" + (6).to_bytes(4, "little") + b"\4" + (3).to_bytes(4, "little")
    (folder / "double.ark").write_bytes(b"a-2 \0BDM " + sizes + double.tobytes())
    new = {"a-1": f"{folder}/text.ark:4", "a-2": f"{folder}/double.ark:4"}
    write_table(folder / "feats.scp", rows | new)
    report = check_data_dir(folder, replace(CHARACTERS, frames=ModelFrames()))
    assert report.skipped == {"a-1": f"{folder}/text.ark:4: nan in frame 1, channel 2"}
    assert report.speech == 6 + 2 * 23


def test_features_of_several_widths(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d", {"b-1": np.ones((23, 4), np.float32)})
    message = the_error(check_data_dir(folder, CHARACTERS))
    assert "most feature matrices have 3 columns, those of b-1 have not" in message


def test_data_of_which_hardly_anything_is_left(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")
    write_table(folder / "text", dict.fromkeys(UTTERANCES, "ABABAB"))
    message = the_error(check_data_dir(folder, CHARACTERS))
    assert "4 of 4 utterances are of no use" in message and "first, a-1: 6 labels" in message
    write_table(folder / "text", TEXT | {"a-1": "ABABAB"})
    assert not check_data_dir(folder, CHARACTERS).errors
    assert check_data_dir(folder, replace(CHARACTERS, max_skipped=0.2)).errors


def test_alignments_that_disagree(tmp_path: Path) -> None:
    folder = feature_dir(tmp_path / "d")  # 5 encoder frames each
    alignment = tmp_path / "alignment"
    good = {"a-1": "0 2 0 3 0", "a-2": "3 4 2 0 0 0", "b-1": "0 0 2 0 0", "b-2": "3 0 0 0 2"}
    options = replace(CHARACTERS, alignment=alignment)
    write_table(alignment, good)
    assert check_data_dir(folder, options).skipped == {}  # one frame more is ESPnet's padding

    def reason(**changed: str) -> str:
        write_table(alignment, good | {"b-2": "3 0 0 0 2", **changed})
        (found,) = check_data_dir(folder, options).skipped.items()
        assert found[0] == next(iter(changed)) and found[1].endswith("token list and model")
        return found[1]

    assert "3 labels that are not the 2 of the transcript" in reason(**{"a-1": "2 0 3 0 2"})
    assert "2 labels that are not the 2" in reason(**{"a-1": "3 0 2 0 0"})
    assert "9 frames, of 5 that the encoder makes" in reason(**{"a-1": "2 0 3 0 0 0 0 0 0"})
    assert "several labels on one frame" in reason(**{"a-1": "0 0 -2 3 0 0"})
    assert "labels outside 0..5" in reason(**{"a-1": "2 0 6 0 0"})
    write_table(alignment, {key: good[key] for key in UTTERANCES[1:]})
    assert check_data_dir(folder, options).skipped == {"a-1": f"{alignment}: not there"}
    write_table(alignment, good | {"a-1": "2 0 x"})
    assert "utterance a-1: not integers: '2 0 x'" in the_error(check_data_dir(folder, options))
    assert "no such file" in the_error(
        check_data_dir(folder, replace(options, alignment=tmp_path / "nothing"))
    )


def test_nbest_lists_that_disagree(tmp_path: Path) -> None:
    folder, lists = feature_dir(tmp_path / "d"), tmp_path / "nbest"
    good = dict.fromkeys(UTTERANCES, "2 2 1 2 3 3")  # two hypotheses: AB, B
    options = replace(CHARACTERS, nbest=lists)
    write_table(tmp_path / "nbest_risk", dict.fromkeys(UTTERANCES, "0 1"))
    for line, message in {
        "2 2 1 2 3 3": "",
        "1 0": "2 values in nbest_risk",
        "2 2 1 2 3": "2 tokens where the lengths say 3",
        "2 2 1 2 0 3": "tokens outside 1..5",
        "3 1": "not N, N lengths and their tokens",
    }.items():
        write_table(lists, good | {"b-1": line})
        report = check_data_dir(folder, options)
        assert not report.errors and list(report.skipped) == (["b-1"] if message else [])
        assert message in report.skipped.get("b-1", "")
    write_table(lists, {key: good[key] for key in UTTERANCES[1:]})
    assert "not there; make" in check_data_dir(folder, options).skipped["a-1"]


def test_measurements_are_remembered_while_the_files_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = feature_dir(tmp_path / "d"), []
    original = measure_all.measure

    def counting(requests):  # type: ignore[no-untyped-def]
        asked.extend(requests)
        return original(requests)

    monkeypatch.setattr(measure_all, "measure", counting)
    options = replace(CHARACTERS, cache=tmp_path / "cache.json", scan=0.0)
    first = check_data_dir(folder, options)
    assert len(asked) == 4
    assert check_data_dir(folder, options) == first and len(asked) == 4
    check_data_dir(folder, replace(options, scan=1.0))  # headers only are not enough now
    assert len(asked) == 8
    os.utime(folder / "feats.ark", (1, 1))
    check_data_dir(folder, options)
    assert len(asked) == 12
    (tmp_path / "cache.json").write_text("{")
    assert check_data_dir(folder, options) == first and len(asked) == 16


def test_several_processes_measure_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = feature_dir(tmp_path / "d", {"b-1": np.zeros((0, 3), np.float32)})
    alone = check_data_dir(folder, CHARACTERS)
    monkeypatch.setattr(measure_all, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(measure_all, "_CHUNK", 3)
    assert check_data_dir(folder, replace(CHARACTERS, nj=2)) == alone
    assert list(alone.skipped) == ["b-1"]
