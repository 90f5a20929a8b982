"""LibriSpeech's data preparation on a tiny copy in the corpus's own layout.

What is expected was written by hand from the corpus's README.TXT and Panayotov et al. (2015).
"""

from __future__ import annotations

import gzip
import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from espnet_plugin.data.lexicon import Lexicon
from tests.recipes.librispeech_data.handwritten_corpus import ARPA, write_flac


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

    monkeypatch.setattr("espnet_plugin.data.check.measure_all.measure", refuse)
    assert prepare(corpus) == 0
