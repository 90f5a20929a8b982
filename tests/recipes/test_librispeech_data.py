"""LibriSpeech's data preparation on tiny copies in the corpus's own layout, whole and broken.

What is expected was written by hand from the corpus's README.TXT and Panayotov et al. (2015).
"""

from __future__ import annotations

import gzip
import importlib.machinery
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from espnet_plugin.data.lexicon import Lexicon

soundfile = pytest.importorskip("soundfile")

REPO = Path(__file__).resolve().parents[2]
LOCAL = REPO / "egs2" / "librispeech" / "asr1" / "local"
MODULES = ("acquire", "language", "openslr", "parts")

TRANSCRIPTS = {
    "train-clean-100/103/1240": ["CHAPTER ONE", "MISSUS RACHEL LYNDE'S SURPRISE"],
    "train-clean-100/40/222": ["THE  FOURTH"],
    "dev-clean/1272/128104": ["MISTER QUILTER IS THE APOSTLE"],
    "dev-other/116/288045": ["AS I APPROACHED THE CITY"],
    "test-clean/1089/134686": ["HE HOPED THERE WOULD BE STEW"],
    "test-other/1688/142285": ["THERE'S IRON THEY SAY"],
}
SPEAKERS = """\
; Some pseudo-comments about the columns
;ID  |SEX| SUBSET           |MINUTES| NAME
40   | F | train-clean-100  | 25.22 | Vicki Barbour
103  | F | train-clean-100  | 24.00 | Karen Savage
116  | M | dev-other        |  8.00 | Someone | with a | bar
1089 | M | test-clean       |  8.03 | Peter Bobbe
1272 | M | dev-clean        |  8.00 | John Rose
1688 | F | test-other       |  8.00 | Somebody Else
19   | F | train-clean-100  | 25.19 | Not in this copy
"""
LEXICON = "A\tAH0\nA\tEY1\nREAD\tR EH1 D\nREAD\tR IY1 D\nREADS  R IY1 D Z\nUH\tAH1\nUH\tAH0\n"
ARPA = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1.0 </s>\n\n\\end\\\n"


@pytest.fixture
def data_py(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe's local/data.py, its neighbours importable only for the length of a test."""
    monkeypatch.syspath_prepend(str(LOCAL))
    specification = importlib.util.spec_from_file_location("librispeech_data", LOCAL / "data.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def write_flac(path: Path, samples: int = 1600, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).standard_normal((samples, channels)) * 0.1
    soundfile.write(path, noise, rate, subtype="PCM_16")


def make_corpus(root: Path) -> Path:
    """LibriSpeech/ with a few utterances in each part."""
    for place, texts in TRANSCRIPTS.items():
        folder = root / place
        name = "-".join(place.split("/")[1:])
        lines = []
        for number, text in enumerate(texts):
            write_flac(folder / f"{name}-{number:04d}.flac", 1600 + 160 * number)
            lines.append(f"{name}-{number:04d} {text}\n")
        (folder / f"{name}.trans.txt").write_text("".join(lines))
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (root / "README.TXT").write_text("LibriSpeech\n")
    return root


def make_resources(folder: Path) -> Path:
    """The files of OpenSLR 11 that the preparation asks for."""
    folder.mkdir(parents=True)
    (folder / "librispeech-lexicon.txt").write_text(LEXICON)
    for name in ("4-gram.arpa.gz", "3-gram.pruned.3e-7.arpa.gz"):
        (folder / name).write_bytes(gzip.compress(ARPA.encode()))
    text = gzip.compress(b"A READ\n\nREADS  A\n")
    (folder / "librispeech-lm-norm.txt.gz").write_bytes(text)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    make_resources(tmp_path / "slr11")
    return make_corpus(tmp_path / "LibriSpeech")


@pytest.fixture
def prepare(data_py: ModuleType, tmp_path: Path) -> Callable[..., int]:
    def call(root: Path, *options: str, subset: bool = True) -> int:
        arguments = ["--librispeech", str(root), "--lm_resources", str(tmp_path / "slr11")]
        arguments += ["--output", str(tmp_path / "data"), "--train_parts", "100", "--nj", "1"]
        status: int = data_py.main([*arguments, *options, *(["--allow_subset"] if subset else [])])
        return status

    return call


def test_data_directories_are_as_written_by_hand(corpus: Path, prepare: Callable) -> None:
    assert prepare(corpus) == 0
    train = corpus.parent / "data" / "train_clean_100"
    assert (train / "text").read_text() == (
        "103-1240-0000 CHAPTER ONE\n"
        "103-1240-0001 MISSUS RACHEL LYNDE'S SURPRISE\n"
        "40-222-0000 THE FOURTH\n"
    )
    assert (train / "utt2spk").read_text() == (
        "103-1240-0000 103\n103-1240-0001 103\n40-222-0000 40\n"
    )
    assert (train / "spk2utt").read_text() == ("103 103-1240-0000 103-1240-0001\n40 40-222-0000\n")
    assert (train / "spk2gender").read_text() == "103 f\n40 f\n"
    assert (train / "wav.scp").read_text() == (
        f"103-1240-0000 {corpus}/train-clean-100/103/1240/103-1240-0000.flac\n"
        f"103-1240-0001 {corpus}/train-clean-100/103/1240/103-1240-0001.flac\n"
        f"40-222-0000 {corpus}/train-clean-100/40/222/40-222-0000.flac\n"
    )


def test_dev_is_both_development_parts_and_all_four_stand_alone(
    corpus: Path, prepare: Callable
) -> None:
    assert prepare(corpus) == 0
    data = corpus.parent / "data"
    assert (data / "dev" / "text").read_text() == (
        "116-288045-0000 AS I APPROACHED THE CITY\n1272-128104-0000 MISTER QUILTER IS THE APOSTLE\n"
    )
    assert (data / "dev" / "spk2gender").read_text() == "116 m\n1272 m\n"
    for name in ("dev_clean", "dev_other", "test_clean", "test_other"):
        assert len((data / name / "text").read_text().splitlines()) == 1
    assert (data / "test_other" / "spk2gender").read_text() == "1688 f\n"


def test_training_sets_of_460_and_960_hours_are_unions(corpus: Path, prepare: Callable) -> None:
    for part, place in (("train-clean-360", "14/208"), ("train-other-500", "20/205")):
        name = place.replace("/", "-")
        write_flac(corpus / part / place / f"{name}-0000.flac")
        (corpus / part / place / f"{name}.trans.txt").write_text(f"{name}-0000 MORE\n")
        with (corpus / "SPEAKERS.TXT").open("a") as file:
            file.write(f"{place.split('/')[0]} | F | {part} | 25.03 | Kristin LeMoine\n")
    assert prepare(corpus, "--train_parts", "460") == 0
    data = corpus.parent / "data"
    keys = [line.split()[0] for line in (data / "train_clean_460/text").read_text().splitlines()]
    assert keys == ["103-1240-0000", "103-1240-0001", "14-208-0000", "40-222-0000"]
    assert not (data / "train_960").exists()
    assert prepare(corpus, "--train_parts", "960") == 0
    keys = [line.split()[0] for line in (data / "train_960/text").read_text().splitlines()]
    assert keys == ["103-1240-0000", "103-1240-0001", "14-208-0000", "20-205-0000", "40-222-0000"]
    assert (data / "train_other_500/text").read_text() == "20-205-0000 MORE\n"


def test_lexicon_without_stress_word_lm_and_text(corpus: Path, prepare: Callable) -> None:
    assert prepare(corpus, "--lm_text", "--word_lm", "3-gram.pruned.3e-7") == 0
    local = corpus.parent / "data" / "local"
    assert (local / "lexicon.txt").read_text() == (
        "A AH\nA EY\nREAD R EH D\nREAD R IY D\nREADS R IY D Z\nUH AH\n"
    )
    assert (local / "lm_train.txt").read_text() == (
        "librispeech_lm_00000001 A READ\nlibrispeech_lm_00000002 READS A\n"
    )
    with gzip.open(local / "word_lm.arpa.gz", "rt") as file:
        assert file.read() == ARPA
    stamp = (local / "lm_train.txt").stat().st_mtime_ns
    assert prepare(corpus, "--lm_text", "--word_lm", "3-gram.pruned.3e-7") == 0
    assert (local / "lm_train.txt").stat().st_mtime_ns == stamp


def test_the_official_lexicon_makes_the_papers_labels(data_py: ModuleType) -> None:
    # The ARPAbet of the CMU dictionary: 15 vowels, which carry stress, and 24 consonants.
    vowels = {
        "AA",
        "AE",
        "AH",
        "AO",
        "AW",
        "AY",
        "EH",
        "ER",
        "EY",
        "IH",
        "IY",
        "OW",
        "OY",
        "UH",
        "UW",
    }
    consonants = {
        "B",
        "CH",
        "D",
        "DH",
        "F",
        "G",
        "HH",
        "JH",
        "K",
        "L",
        "M",
        "N",
        "NG",
        "P",
        "R",
        "S",
    }
    consonants |= {"SH", "T", "TH", "V", "W", "Y", "Z", "ZH"}
    stressed = {v + digit for v in vowels for digit in "012"} | consonants
    lexicon = Lexicon({p: ((p,),) for p in stressed})
    plain = sys.modules["language"].without_stress(lexicon)
    assert plain.phonemes == sorted(vowels | consonants)
    assert len(plain.label_set) == 78


def test_a_path_to_the_folder_above_is_the_same(corpus: Path, prepare: Callable) -> None:
    assert prepare(corpus.parent) == 0
    assert str(corpus) in (corpus.parent / "data/dev_clean/wav.scp").read_text()


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (
            "LibriSpeech/dev-clean",
            "this is (in) the part dev-clean; give the folder above it: ",
        ),
        ("LibriSpeech/dev-clean/1272", "this is (in) the part dev-clean; give the folder above"),
        ("..", "the corpus is one level further down; give --librispeech"),
        ("nowhere", "no such folder"),
        ("slr11", "none of dev-clean, dev-other, "),
    ],
)
def test_a_path_off_by_one_level_is_recognised(
    corpus: Path, prepare: Callable, caplog: pytest.LogCaptureFixture, given: str, advice: str
) -> None:
    assert prepare(corpus.parent / given) == 1
    assert advice in caplog.text
    assert not (corpus.parent / "data").exists()


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


def test_lacking_resources_are_named_before_anything_is_read(
    corpus: Path,
    prepare: Callable,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kenlm = ModuleType("kenlm")  # whether it is installed or not: it is asked for first
    kenlm.__spec__ = importlib.machinery.ModuleSpec("kenlm", None)
    monkeypatch.setitem(sys.modules, "kenlm", kenlm)
    (corpus.parent / "slr11/4-gram.arpa.gz").unlink()
    assert prepare(corpus) == 1
    assert "slr11/4-gram.arpa.gz: missing; fetch it from OpenSLR 11" in caplog.text
    assert prepare(corpus, "--word_lm", "none") == 0


def test_a_large_word_model_needs_kenlm_from_the_start(
    corpus: Path,
    prepare: Callable,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with (corpus.parent / "slr11/4-gram.arpa.gz").open("r+b") as file:
        file.truncate(10**9)  # sparse: it takes no space
    assert prepare(corpus) == 1
    assert "--word_lm 4-gram: a model of 1.00 GB is read by KenLM, which is not" in caplog.text
    assert prepare(corpus, "--word_lm", "3-gram.pruned.3e-7") == 0


def test_a_text_that_was_cut_off_is_named(
    corpus: Path, prepare: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    path = corpus.parent / "slr11/librispeech-lm-norm.txt.gz"
    path.write_bytes(path.read_bytes()[:-12])
    assert prepare(corpus, "--lm_text") == 1
    assert "librispeech-lm-norm.txt.gz: cannot be read (" in caplog.text
    assert not list((corpus.parent / "data/local").glob("lm_train*"))


def test_audio_is_measured_once(
    corpus: Path, prepare: Callable, data_py: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(corpus) == 0

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("espnet_plugin.data.measure_all.measure", refuse)
    assert prepare(corpus) == 0
