"""Mboshi's data preparation on tiny copies in both forms, whole and broken."""

from __future__ import annotations

import subprocess
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_plugin.pipeline.plan.config import load_pipeline_config
from tests.recipes.librispeech_corpus import table
from tests.recipes.local_data import REPO, run_data_py
from tests.recipes.mboshi_corpus import (
    DEV,
    REST,
    TEST,
    TRAIN,
    length,
    make_repository,
    make_tar_folder,
    name,
    write_audio,
)

soundfile = pytest.importorskip("soundfile")

CONF = REPO / "egs2/mboshi/asr1/conf"
FORMS = {"repository": make_repository, "tar": make_tar_folder}


def prepare(root: Path, *options: str, subset: bool = True) -> subprocess.CompletedProcess[str]:
    output = root.parent / "data"
    given = ["--dev_sessions", DEV, *(["--allow_subset"] if subset else []), *options]
    downloads = ("--downloads", root.parent / "downloads")
    return run_data_py("mboshi", "--mboshi", root, "--output", output, *downloads, *given)


@pytest.mark.parametrize("form", FORMS)
def test_the_split_is_by_session_and_no_sentence_of_dev_is_in_train(
    tmp_path: Path, form: str
) -> None:
    done = prepare(FORMS[form](tmp_path / "mboshi"))
    assert done.returncode == 0, done.stderr
    data = tmp_path / "data"
    assert table(data / "dev/text") == {name(DEV, n): TRAIN[name(DEV, n)] for n in (1, 2)}
    # the first utterance of this session reads a sentence of dev
    assert table(data / "train/text") == {name(REST, n): TRAIN[name(REST, n)] for n in (2, 3)}
    assert "1 utterances left out" in done.stderr
    assert table(data / "test/text") == TEST
    assert set(table(data / "train/utt2spk").values()) == {REST}
    assert table(data / "test/spk2utt")[REST] == name(REST, 4)


@pytest.mark.parametrize("form", FORMS)
def test_transcripts_are_in_the_composed_form(tmp_path: Path, form: str) -> None:
    done = prepare(FORMS[form](tmp_path / "mboshi"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "data/train/text").read_text()
    assert unicodedata.is_normalized("NFC", text)
    assert "mósώsώώ ngá εbέ" in text and "\u0301" not in text


@pytest.mark.parametrize("form", FORMS)
def test_the_audio_is_readable_where_wav_scp_says(tmp_path: Path, form: str) -> None:
    done = prepare(FORMS[form](tmp_path / "mboshi"))
    assert done.returncode == 0, done.stderr
    for utterance, path in table(tmp_path / "data/train/wav.scp").items():
        samples, rate = soundfile.read(path)
        assert (len(samples), rate) == (length(utterance), 16000)
    # Opus is slow to decode: as segments, step 2 writes it as FLAC once
    segments = tmp_path / "data/train/segments"
    assert segments.exists() == (form == "tar")
    if form == "tar":
        assert table(segments) == {key: f"{key} 0 -1" for key in table(segments)}


def test_the_tar_itself_may_be_given(tmp_path: Path) -> None:
    make_tar_folder(tmp_path / "mboshi")
    with tarfile.open(tmp_path / "mboshi_opus.tar", "w") as tar:
        tar.add(tmp_path / "mboshi", "mboshi")
    done = prepare(tmp_path / "mboshi_opus.tar")
    assert done.returncode == 0, done.stderr
    path = Path(table(tmp_path / "data/test/wav.scp")[name(REST, 4)])
    assert path.is_file() and (tmp_path / "downloads") in path.parents


@pytest.mark.parametrize("below", [".", "full_corpus_newsplit", ".."])
def test_the_repository_may_be_given_at_any_height(tmp_path: Path, below: str) -> None:
    root = make_repository(tmp_path / "clones" / "mboshi-french-parallel-corpus")
    done = run_data_py(
        "mboshi", "--mboshi", root / below, "--output", tmp_path / "data", "--allow_subset",
        "--dev_sessions", DEV,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path / "data/test/text")) == 2


def spoil_repository(root: Path) -> list[str]:
    train, dev = (root / "full_corpus_newsplit" / part for part in ("train", "dev"))
    first, second, third, fourth = (name(REST, n) for n in (1, 2, 3, 4))
    (train / f"{first}.wav").unlink()
    (train / f"{second}.mb.cleaned").unlink()
    (train / f"{third}.mb.cleaned").write_text("Yeékirá, ikóó\n")
    (train / f"{name(DEV, 1)}.mb.cleaned").write_text("\n")
    (train / f"{name(DEV, 2)}.mb.cleaned").write_bytes("bána".encode("latin-1"))
    write_audio(dev / f"{fourth}.wav", 8000, rate=8000)
    (dev / "take7.mb.cleaned").write_text("wa\n")
    return [
        f"{first}.wav: missing, though it has a transcript; fetch it again",
        f"{second}.wav: audio without a transcript; fetch that, or remove the audio",
        f"{third}.mb.cleaned: ',' (U+002C), 'Y' (U+0059) in the transcript",
        f"{name(DEV, 1)}.mb.cleaned: no words; fetch it again",
        f"{name(DEV, 2)}.mb.cleaned: not UTF-8; fetch it again",
        f"{fourth}.wav: 8000 Hz, 1 channel(s), where the corpus has 16000 Hz mono; fetch",
        "take7.mb.cleaned: take7: not <speaker>_<date-and-time>",
    ]


def spoil_tar(root: Path) -> list[str]:
    audio = root / "audio"
    first, second, third, fourth = (audio / f"{name(REST, n)}.opus" for n in (1, 2, 3, 4))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    third.write_bytes(b"<html>404</html>")
    write_audio(fourth, 16000, channels=2)
    write_audio(audio / f"{name(REST, 99)}.opus", 16000)
    with (root / "train.text").open("a") as file:
        file.write(f"{name(DEV, 1)} wa\n{fourth.stem} wa\n{name(DEV, 3)}\n")
    return [
        f"{first.name}: missing, though it has a transcript",
        f"{second.name}: cut off in the page at byte",
        f"{third.name}: unreadable (",
        f"{fourth.name}: 16000 Hz, 2 channel(s)",
        f"{name(REST, 99)}.opus: audio without a transcript",
        f"train.text:6: second line of {name(DEV, 1)}; remove one",
        f"test.text:1: {fourth.stem} is in the training part as well; remove one",
        "train.text:8: no words",
    ]


@pytest.mark.parametrize(("form", "spoil"), [("repository", spoil_repository), ("tar", spoil_tar)])
def test_everything_that_is_wrong_is_listed_at_once_and_nothing_written(
    tmp_path: Path, form: str, spoil: Callable[[Path], list[str]]
) -> None:
    root = FORMS[form](tmp_path / "mboshi")
    messages = spoil(root)
    done = prepare(root, subset=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for expected in [*messages, "usable utterances for train, the corpus has 4616; fetch"]:
        assert expected in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder or archive"),
        (lambda root: root.mkdir(), "neither full_corpus_newsplit/{train,dev} nor train.text"),
        (lambda root: root.write_text("no archive"), "cannot be unpacked"),
    ],
)
def test_places_without_the_corpus_are_explained(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "mboshi")
    done = prepare(tmp_path / "mboshi")
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_one_part_alone_names_the_folder_above(tmp_path: Path) -> None:
    parts = make_repository(tmp_path / "mboshi") / "full_corpus_newsplit"
    done = prepare(parts / "dev")
    assert done.returncode == 1
    assert f"give the folder above: --mboshi {parts}" in done.stderr


def test_sessions_that_are_not_there_are_refused_with_those_that_are(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "mboshi")
    done = prepare(root, "--dev_sessions", DEV, "abiayi_2016")
    assert done.returncode == 1
    assert "is of abiayi_2016" in done.stderr and f"choose some of {REST}, {DEV}" in done.stderr
    done = prepare(root, "--dev_sessions", DEV, REST)
    assert "nothing is left for train" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_quick_configuration_is_the_proper_one_with_fewer_epochs() -> None:
    proper = load_pipeline_config(CONF / "train_progressive.yaml").train_stages
    quick = load_pipeline_config(CONF / "tuning/train_progressive_quick.yaml").train_stages
    for stage, options in proper.items():
        differing = {key for key in options if options[key] != quick[stage][key]}
        assert differing <= {"max_epoch"} and quick[stage].keys() - options.keys() <= {"max_steps"}
        assert quick[stage]["max_epoch"] <= options["max_epoch"]


def test_the_baseline_has_the_stages_epochs_together() -> None:
    stages = load_pipeline_config(CONF / "train_progressive.yaml").train_stages
    (baseline,) = load_pipeline_config(CONF / "train_full_sum_only.yaml").train_stages.values()
    together = sum(stages[name]["max_epoch"] for name in ("align", "viterbi", "full_sum"))
    assert baseline["max_epoch"] == together
