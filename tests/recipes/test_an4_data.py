"""AN4's data preparation on tiny copies of both distributions, whole and broken."""

from __future__ import annotations

import struct
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.local_data import run_data_py

NAMES = {
    "train": ["an251-fash-b", "cen1-fash-b", "an1-mabc-b", "an2-mabc-b", "cen8-fzzz-b"],
    "test": ["an406-fcaw-b", "cen3-mxyz-b"],
}
FOLDERS = {"train": "an4_clstk", "test": "an4test_clstk"}


def mfc_bytes(frames: int, start: float = 0.0) -> bytes:
    values = start + np.arange(frames * 13)
    return struct.pack(">i", values.size) + values.astype(">f4").tobytes()


def sphere_bytes(samples: int, rate: int = 16000, coding: str = "pcm") -> bytes:
    lines = [
        "NIST_1A", "   1024", f"sample_count -i {samples}", "sample_n_bytes -i 2",
        "channel_count -i 1", "sample_byte_format -s2 10", f"sample_rate -i {rate}",
        f"sample_coding -s{len(coding)} {coding}", "end_head", "",
    ]  # fmt: skip
    header = "\n".join(lines).encode().ljust(1024)
    return header + (np.arange(samples) % 1000).astype(">i2").tobytes()


def make_corpus(root: Path, folder: str) -> Path:
    """Write a tiny an4/ whose i-th file of a subset has i + 5 frames (or 160 times the samples)."""
    for subset, names in NAMES.items():
        lines = []
        for index, name in enumerate(names):
            path = root / folder / FOLDERS[subset] / name.split("-")[1] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "feat":
                path.with_suffix(".mfc").write_bytes(mfc_bytes(index + 5, index))
            else:
                path.with_suffix(".sph").write_bytes(sphere_bytes(160 * (index + 5)))
            # The two distributions write their transcripts differently.
            words = f"go {index}" if folder == "feat" else f"<s> GO {index} </s>"
            lines.append(f"{words} ({name})\n")
        etc = root / "etc"
        etc.mkdir(exist_ok=True)
        (etc / f"an4_{subset}.transcription").write_text("".join(lines))
        ids = [f"{FOLDERS[subset]}/{name.split('-')[1]}/{name}\n" for name in names]
        (etc / f"an4_{subset}.fileids").write_text("".join(ids))
    (etc / "an4.dic").write_text("A              AH\nA(2)           EY\nGO             G OW\n")
    return root


def prepare(root: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_data_py(
        "an4", "--an4_root", root, "--output", output, "--dev_utts", "2",
        "--downloads", output / "dl", *options,
    )  # fmt: skip


def column(path: Path, index: int = 0) -> list[str]:
    return [line.split()[index] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("folder", ["feat", "wav"])
def test_split_and_texts_are_espnets(tmp_path: Path, folder: str) -> None:
    root = make_corpus(tmp_path / "an4", folder)
    done = prepare(root, tmp_path / "data", "--allow_subset")
    assert done.returncode == 0, done.stderr
    data = tmp_path / "data"
    assert column(data / "train_dev" / "text") == ["fash-an251-b", "fash-cen1-b"]
    assert column(data / "train_nodev" / "text") == ["fzzz-cen8-b", "mabc-an1-b", "mabc-an2-b"]
    assert (data / "test" / "text").read_text() == "fcaw-an406-b GO 0\nmxyz-cen3-b GO 1\n"
    assert (data / "train_nodev" / "spk2utt").read_text() == (
        "fzzz fzzz-cen8-b\nmabc mabc-an1-b mabc-an2-b\n"
    )
    assert (data / "local" / "lexicon.txt").read_text() == "A AH\nA EY\nGO G OW\n"


def test_cepstra_become_an_ark_with_the_same_numbers(tmp_path: Path) -> None:
    kaldi = pytest.importorskip("omniio").kaldi
    archive = tmp_path / "an4_mfcc.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(make_corpus(tmp_path / "an4", "feat"), "an4")
    done = prepare(archive, tmp_path / "data", "--allow_subset")
    assert done.returncode == 0, done.stderr
    nodev = tmp_path / "data" / "train_nodev"
    features = kaldi.load_scp(str(nodev / "feats.scp"))
    # cen8-fzzz-b is the fifth file: nine frames, counting up from four.
    expected = 4 + np.arange(9 * 13, dtype=np.float32).reshape(9, 13)
    np.testing.assert_array_equal(features["fzzz-cen8-b"], expected)
    assert column(nodev / "utt2num_frames", 1) == ["9", "7", "8"]
    assert not (nodev / "wav.scp").exists()


def test_sphere_files_are_readable_where_wav_scp_says(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    done = prepare(make_corpus(tmp_path / "an4", "wav"), tmp_path / "data", "--allow_subset")
    assert done.returncode == 0, done.stderr
    paths = column(tmp_path / "data" / "test" / "wav.scp", 1)
    samples, rate = soundfile.read(paths[1], dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, np.arange(960) % 1000)
    assert not (tmp_path / "data" / "test" / "feats.scp").exists()


def test_every_broken_cepstra_file_is_listed_at_once(tmp_path: Path) -> None:
    root = make_corpus(tmp_path / "an4", "feat")
    train = root / "feat" / "an4_clstk"
    whole = mfc_bytes(5)
    (train / "fash" / "an251-fash-b.mfc").write_bytes(whole[:-4])
    (train / "fash" / "cen1-fash-b.mfc").write_bytes(b"")
    (train / "mabc" / "an1-mabc-b.mfc").unlink()
    (train / "mabc" / "an2-mabc-b.mfc").write_bytes(whole[:-4] + struct.pack(">f", np.nan))
    (train / "fzzz" / "cen8-fzzz-b.mfc").write_bytes(struct.pack(">i5f", 5, *range(5)))
    done = prepare(root, tmp_path / "data", "--allow_subset")
    assert done.returncode == 1
    for expected in (
        "5 problem(s)",
        "an251-fash-b.mfc: truncated: header says 65 floats, file holds 64",
        "cen1-fash-b.mfc: 0 bytes, too short",
        "an1-mabc-b.mfc: missing, though it has a transcript",
        "an2-mabc-b.mfc: holds values that are not finite",
        "cen8-fzzz-b.mfc: 5 floats are not frames of 13",
    ):
        assert expected in done.stderr
    assert not (tmp_path / "data").exists()


def test_every_broken_recording_is_listed_at_once(tmp_path: Path) -> None:
    root = make_corpus(tmp_path / "an4", "wav")
    train = root / "wav" / "an4_clstk"
    (train / "fash" / "an251-fash-b.sph").write_bytes(sphere_bytes(400)[:-2])
    (train / "fash" / "cen1-fash-b.sph").write_bytes(sphere_bytes(0))
    (train / "mabc" / "an1-mabc-b.sph").write_bytes(sphere_bytes(9, rate=8000))
    (train / "mabc" / "an2-mabc-b.sph").write_bytes(sphere_bytes(9, coding="pcm,embedded-shorten"))
    (train / "fzzz" / "cen8-fzzz-b.sph").write_bytes(b"RIFF")
    test = root / "wav" / "an4test_clstk"
    garbled = sphere_bytes(9).replace(b"count -i 9", b"count -i x")
    (test / "fcaw" / "an406-fcaw-b.sph").write_bytes(garbled)
    (test / "mxyz" / "cen3-mxyz-b.sph").write_bytes(sphere_bytes(9)[:500])
    done = prepare(root, tmp_path / "data", "--allow_subset")
    assert done.returncode == 1
    for expected in (
        "7 problem(s)",
        "an251-fash-b.sph: truncated: header says 800 bytes, file holds 798",
        "cen1-fash-b.sph: holds no sample",
        "an1-mabc-b.sph: sampling rate 8000 Hz, expected 16000 Hz",
        "an2-mabc-b.sph: coding pcm,embedded-shorten",
        "cen8-fzzz-b.sph: not a NIST SPHERE file",
        "an406-fcaw-b.sph: sample_count is 'x', not a number",
    ):
        assert expected in done.stderr


def test_ids_in_one_list_only_and_bad_lines_are_named(tmp_path: Path) -> None:
    root = make_corpus(tmp_path / "an4", "feat")
    with (root / "etc" / "an4_train.transcription").open("a") as file:
        file.write("HELLO (an9-only-b)\nno name here\n(an1-mabc-b)\n")
    with (root / "etc" / "an4_test.fileids").open("a") as file:
        file.write("an4test_clstk/more/an7-more-b\n")
    done = prepare(root, tmp_path / "data", "--allow_subset")
    assert done.returncode == 1
    assert "an4_train.fileids: no line for an9-only-b" in done.stderr
    assert "an4_test.transcription: no line for an7-more-b" in done.stderr
    assert "an4_train.transcription:7: not 'WORDS (name)': 'no name here'" in done.stderr
    assert "an4_train.transcription:8: not 'WORDS (name)'" in done.stderr


def test_an_incomplete_copy_is_refused_unless_wanted(tmp_path: Path) -> None:
    done = prepare(make_corpus(tmp_path / "an4", "feat"), tmp_path / "data")
    assert done.returncode == 1
    assert "train: 5 usable utterances, the corpus has 948" in done.stderr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder or archive"),
        (lambda root: root.mkdir(), "no etc/ here nor in an4/"),
        (lambda root: (root / "etc").mkdir(parents=True), "neither wav/ (audio) nor feat/"),
        (lambda root: root.write_text("no archive"), "cannot be unpacked"),
    ],
)
def test_places_without_the_corpus_are_explained(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "an4")
    done = prepare(tmp_path / "an4", tmp_path / "data")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_dev_set_must_leave_training_data(tmp_path: Path) -> None:
    root = make_corpus(tmp_path / "an4", "feat")
    done = prepare(root, tmp_path / "data", "--allow_subset", "--dev_utts", "5")
    assert done.returncode == 1
    assert "--dev_utts 5 must lie between 1 and 4" in done.stderr
