"""Switchboard's data preparation on tiny packages: golden files written by hand, broken copies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.swbd_corpus import Conversation, Corpus, Turn, sphere_bytes, write_all

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "egs2" / "swbd" / "asr1"

DICTIONARY = """\
# made up
[silence] sil
hi hh ay
um ah m
yeah y ae
i ay
i'd ay d
work w er k
ab[out]- ax b
at ae t
IBM ay b iy eh m
{yuppiedom} y ah p iy d ax m
-[y]es eh s
[laughter-no] n ow
AT&amp;T ey t iy ae n t iy
"""
TRAINING = [
    Conversation(
        "2001",
        [
            Turn("A", 0.0, 0.977625, "[silence]"),
            Turn("A", 0.977625, 11.561375, "hi um yeah [laughter-i'd] work ab[out]- at IBM"),
            Turn("A", 11.561375, 12.0, "[noise]"),
            Turn("B", 0.0, 1.5, "<b_aside> yeah <e_aside>"),
            Turn("B", 1.5, 12.25, "{yuppiedom} -[y]es [laughter] AT&T [vocalized-noise] zyzzyva"),
        ],
    ),
    Conversation(
        "2002",
        [
            Turn("A", 1.0056, 2.0, "yeah"),
            Turn("A", 2.0, 3.0, "yeah"),
            Turn("A", 3.0, 4.0, "yeah"),
            Turn("B", 0.0, 4.0, "[silence]"),
        ],
    ),
]
EVAL2000 = [
    Conversation(
        "en_4156",
        [
            Turn("A", 0.05, 2.0, "(%HESITATION) HE IS A POLICE OFFICER"),
            Turn("A", 2.04, 3.5, "{ GOING TO / GONNA } ((TH-) THE <B_ASIDE> UH-HUH"),
            Turn("B", 3.57, 5.0, ""),
            Turn("B", 5.5, 6.0, "IGNORE_TIME_SEGMENT_IN_SCORING"),
        ],
    ),
    Conversation("sw_4390", [Turn("B", 1.0, 2.0, "HI")]),
]
HUB5E01 = [Conversation("sw_4777", [Turn("A", 1.0, 2.0, "YEAH")])]
RT03 = [
    Conversation("fsh_60262", [Turn("A", 1.0, 2.0, "hi"), Turn("B", 2.5, 3.0, "")]),
    Conversation("sw_46412", [Turn("B", 1.0, 2.0, "yeah")]),
]
GLM = ";; made up\n* format = 'NIST1'\nUH => %HESITATION / [ ] __ [ ]\n"
FISHER = (
    "# fe_03_00001.sph\n# made up\n\n3.76 5.54 A: and i ((work)) at i._b._m.\n\n6.0 7.0 B: hi\n"
)


@pytest.fixture
def corpus() -> Corpus:
    return Corpus(
        list(TRAINING), DICTIONARY, list(EVAL2000), list(HUB5E01), list(RT03), GLM, FISHER
    )


def prepare(
    paths: dict[str, Path], output: Path, *options: str, programs: Path | None = None
) -> subprocess.CompletedProcess[str]:
    arguments = ["--output", str(output), "--allow_subset", "--dev_utts", "2", "--max_repeats", "2"]
    for name, path in paths.items():
        arguments += [f"--{name}", str(path)]
    search = str(programs) if programs else os.environ["PATH"]
    modules = f"{programs}:{REPO}" if programs else str(REPO)
    return subprocess.run(
        [sys.executable, "local/data.py", *arguments, "--max_unknown", "0.2", *options],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1", "PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def paths(tmp_path: Path, corpus: Corpus) -> dict[str, Path]:
    return write_all(tmp_path / "ldc", corpus)


def files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def test_training_data(tmp_path: Path, paths: dict[str, Path]) -> None:
    done = prepare(paths, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    one, two = (f"{paths['swbd']}/swb1_d{n}/data/sw0200{n}.sph" for n in (1, 2))
    assert files(tmp_path / "data/train_dev") == {
        "text": "sw02001-A_000098-001156 hi um yeah i'd work ab- at i b m\n"
        "sw02001-A_001156-001200 [noise]\n",
        "segments": "sw02001-A_000098-001156 sw02001-A 0.98 11.56\n"
        "sw02001-A_001156-001200 sw02001-A 11.56 12.00\n",
        "utt2spk": "sw02001-A_000098-001156 sw02001-A\nsw02001-A_001156-001200 sw02001-A\n",
        "spk2utt": "sw02001-A sw02001-A_000098-001156 sw02001-A_001156-001200\n",
        "wav.scp": f"sw02001-A {one}\n",
        "reco2file_and_channel": "sw02001-A sw02001 A\n",
    }
    # "yeah" was said four times: twice is the limit here
    assert files(tmp_path / "data/train_nodup") == {
        "text": "sw02001-B_000000-000150 yeah\n"
        "sw02001-B_000150-001225 yuppiedom -es [laughter] a t and t [vocalized-noise] <unk>\n"
        "sw02002-A_000101-000200 yeah\n",
        "segments": "sw02001-B_000000-000150 sw02001-B 0.00 1.50\n"
        "sw02001-B_000150-001225 sw02001-B 1.50 12.25\n"
        "sw02002-A_000101-000200 sw02002-A 1.01 2.00\n",
        "utt2spk": "sw02001-B_000000-000150 sw02001-B\nsw02001-B_000150-001225 sw02001-B\n"
        "sw02002-A_000101-000200 sw02002-A\n",
        "spk2utt": "sw02001-B sw02001-B_000000-000150 sw02001-B_000150-001225\n"
        "sw02002-A sw02002-A_000101-000200\n",
        "wav.scp": f"sw02001-B {one}\nsw02002-A {two}\n",
        "reco2file_and_channel": "sw02001-B sw02001 B\nsw02002-A sw02002 A\n",
    }
    assert "1 words (4.167 % of the running ones) have no pronunciation" in done.stderr
    assert "zyzzyva" in done.stderr


def test_lexicon_and_text_of_the_language_model(tmp_path: Path, paths: dict[str, Path]) -> None:
    assert prepare(paths, tmp_path / "data").returncode == 0
    local = tmp_path / "data/local"
    lexicon = (local / "lexicon.txt").read_text().splitlines()
    assert lexicon[:4] == ["-es eh s", "<unk> spn", "[laughter] lau", "[noise] nsn"]
    assert {"yuppiedom y ah p iy d ax m", "no n ow", "ab- ax b", "b's b iy z"} <= set(lexicon)
    assert not [line for line in lexicon if line.startswith(("ibm ", "at&t ", "IBM"))]
    assert (local / "acronyms").read_text() == "IBM i b m\n"
    assert (local / "lm_train.txt").read_text().splitlines()[-2:] == [
        "fisher-00000000 and i work at i b m",
        "fisher-00000001 hi",
    ]


def test_evaluation_sets(tmp_path: Path, paths: dict[str, Path]) -> None:
    assert prepare(paths, tmp_path / "data").returncode == 0
    found = files(tmp_path / "data/eval2000")
    assert found["text"] == (
        "en_4156-A_000005-000200 he is a police officer\n"
        "en_4156-A_000204-000350 going to th- the uh-huh\n"
        "en_4156-B_000357-000500\n"
        "sw_4390-B_000100-000200 hi\n"
    )
    # 0.1 s on both sides, but not before the recording, nor beyond half of the gap to the next
    assert found["segments"] == (
        "en_4156-A_000005-000200 en_4156-A 0.00 2.02\n"
        "en_4156-A_000204-000350 en_4156-A 2.02 3.60\n"
        "en_4156-B_000357-000500 en_4156-B 3.47 5.10\n"
        "sw_4390-B_000100-000200 sw_4390-B 0.90 2.10\n"
    )
    audio = paths["eval2000_audio"] / "english"
    assert found["wav.scp"] == (
        f"en_4156-A {audio}/en_4156.sph\nen_4156-B {audio}/en_4156.sph\n"
        f"sw_4390-B {audio}/sw_4390.sph\n"
    )
    assert found["reco2file_and_channel"] == (
        "en_4156-A en_4156 A\nen_4156-B en_4156 B\nsw_4390-B sw_4390 B\n"
    )
    assert found["utt2spk"].splitlines()[0] == "en_4156-A_000005-000200 en_4156-A"
    # what upsets NIST's programs is mended, everything else is as it was
    assert (
        "en_4156 A en_4156_A 2.040 3.500 <O,en> { GOING TO / GONNA } (TH-) THE UH-HUH\n"
        in found["stm"]
    )
    assert "IGNORE_TIME_SEGMENT_IN_SCORING" in found["stm"]
    assert found["glm"] == GLM


def test_other_evaluation_sets(tmp_path: Path, paths: dict[str, Path]) -> None:
    assert prepare(paths, tmp_path / "data").returncode == 0
    assert files(tmp_path / "data/hub5e01")["text"] == "sw_4777-A_000100-000200 yeah\n"
    assert files(tmp_path / "data/hub5e01")["glm"] == GLM
    rt03 = files(tmp_path / "data/rt03")
    assert rt03["text"] == (
        "fsh_60262-A_000100-000200 hi\nfsh_60262-B_000250-000300\nsw_46412-B_000100-000200 yeah\n"
    )
    assert "sw_46412 B sw_46412_B 1.000 2.000 <O,sw> yeah\n" in rt03["stm"]


def test_only_training_data_is_required(tmp_path: Path, paths: dict[str, Path]) -> None:
    wanted = {name: paths[name] for name in ("swbd", "swbd_ms98")}
    assert prepare(wanted, tmp_path / "data").returncode == 0
    made = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert made == ["local", "train_dev", "train_nodup"]


def test_compressed_recordings_are_expanded(tmp_path: Path, paths: dict[str, Path]) -> None:
    """A stand-in for sph2pipe, which writes 16-bit WAV files."""
    packed = paths["swbd"] / "swb1_d1/data/sw02001.sph"
    samples = np.tile(np.array([100, 200], np.int16), (13 * 8000, 1))
    packed.write_bytes(sphere_bytes(samples, coding="ulaw,embedded-shorten-v2.00")[:5000])
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sph2pipe").write_text(
        f"#!{sys.executable}\nimport sys, wave\n"
        "assert sys.argv[1:4] == ['-f', 'wav', '-p']\n"
        "with wave.open(sys.argv[5], 'wb') as file:\n"
        "    file.setparams((2, 2, 8000, 0, 'NONE', ''))\n"
        "    file.writeframes(b'\\1\\0\\2\\0' * 13 * 8000)\n"
    )
    (programs / "sph2pipe").chmod(0o755)
    done = prepare(paths, tmp_path / "data", programs=programs)
    assert done.returncode == 0, done.stderr
    expanded = tmp_path / "data/local/expanded/swbd/sw02001.wav"
    assert expanded.stat().st_size > 13 * 8000 * 4
    assert f"sw02001-A {expanded}\n" in files(tmp_path / "data/train_dev")["wav.scp"]


def rewrite(name: str, old: str, new: str) -> Callable[[Path, dict[str, Path]], None]:
    def change(ldc: Path, paths: dict[str, Path]) -> None:
        text = (ldc / name).read_text()
        assert old in text
        (ldc / name).write_text(text.replace(old, new))

    return change


def overwrite(name: str, rate: int = 8000, channels: int = 2, cut: int = 0, coding: str = "ulaw"):
    """A recording of 1.125 s, or, if its length cannot be checked, of 13 s."""

    def change(ldc: Path, paths: dict[str, Path]) -> None:
        length = 9000 if "," not in coding else 13 * 8000
        data = sphere_bytes(np.ones((length, channels), np.int16), rate, coding)
        (ldc / name).write_bytes(data[: len(data) - cut])

    return change


def remove(name: str) -> Callable[[Path, dict[str, Path]], None]:
    return lambda ldc, paths: (ldc / name).unlink()


def move(option: str, change: Callable[[Path], Path | None]):
    def apply(ldc: Path, paths: dict[str, Path]) -> None:
        moved = change(paths[option])
        if moved is None:
            del paths[option]
        else:
            paths[option] = moved

    return apply


SPH = "LDC97S62/swb1_d1/data/sw02001.sph"
TRANS = "swb_ms98_transcriptions/20/2001/sw2001A-ms98-a-trans.text"
REFERENCE = "LDC2002T43/2000_hub5_eng_eval_tr/reference"
ENGLISH = "LDC2002S09/hub5e_00/english"


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        # audio
        (overwrite(SPH, rate=16000), "sw02001.sph: sampling rate 16000 Hz, expected 8000 Hz"),
        (overwrite(SPH, channels=1), "sw02001.sph: 1 channels, expected 2"),
        (overwrite(SPH, cut=7), "truncated: header says 18000 bytes, file holds 17993; copy it"),
        (overwrite(SPH, coding="ulaw,embedded-shorten-v2.00"), "install sph2pipe"),
        (lambda ldc, paths: (ldc / SPH).write_bytes(b"RIFF"), "not a NIST SPHERE file"),
        (overwrite(SPH), "sw02001.sph: has 1.12 s, but sw02001-A_001156-001200 begins later"),
        (rewrite(f"{REFERENCE}/hub5e00.english.000405.stm", "B 1.00 2.00", "B 9.00 9.50"),
         "sw_4390.sph: has 2.50 s, but sw_4390-B_000900-000950 begins later"),
        (overwrite(f"{ENGLISH}/sw_4390.sph", rate=16000), "sw_4390.sph: sampling rate 16000 Hz"),
        (remove(f"{ENGLISH}/sw_4390.sph"), "no audio of 1 of 2 conversations of eval2000: sw_4390"),
        # transcripts
        (rewrite(TRANS, "0.977625 11.561375", "eleven"), "A-ms98-a-trans.text:2: not 'sw2001A"),
        (rewrite(TRANS, "0.977625 11.561375", "11.561375 0.977625"), "impossible times 11.56"),
        (remove(TRANS), "no transcript of side A of sw02001; unpack the archive again"),
        (rewrite("swb_ms98_transcriptions/sw-ms98-dict.text", "hh ay", "hh aj"), "aj (in hi)"),
        (rewrite("swb_ms98_transcriptions/sw-ms98-dict.text", "yeah y ae\n", ""),
         "have no pronunciation: yeah (5)"),
        # tests
        (remove(f"{REFERENCE}/en20000405_hub5.glm"), "en20000405_hub5.glm: missing"),
        (rewrite(f"{REFERENCE}/hub5e00.english.000405.stm", "en_4156 A", "en_4156 C"),
         "hub5e00.english.000405.stm:7: not 'recording channel speaker"),
        (rewrite(f"{ENGLISH}/hub5e_00.pem", "3.57 5.00", "3.57 5.10"),
         "hub5e_00.pem: 2 segments are not both here and in the references"),
        # paths
        (move("swbd_ms98", lambda path: path.parent), "one level too high: sw-ms98-dict.text"),
        (move("swbd_ms98", lambda path: path / "20"), "one level too deep: sw-ms98-dict.text"),
        (move("swbd", lambda path: path / "swb1_d1"), "the folder above has them: give --swbd"),
        (move("swbd", lambda path: path / "nowhere"), "nowhere: no such folder"),
        (move("eval2000_audio", lambda path: path.parent), "one level too high: english of"),
        (move("eval2000_text", lambda path: path / "reference"), "one level too deep"),
        (move("eval2000_text", lambda path: path.parent), "give that folder"),
        (move("rt03", lambda path: path.parent), "one level too high: data/references/eval03"),
        (move("hub5e01", lambda path: path / "data"), "one level too deep"),
        (move("fisher_p1", lambda path: path.parent), "one level too high: data/trans"),
        (move("eval2000_audio", lambda path: None), "Hub5'00 needs both"),
    ],
)  # fmt: skip
def test_a_broken_copy_stops_with_one_message(
    tmp_path: Path, paths: dict[str, Path], breakage: Callable, message: str
) -> None:
    breakage(tmp_path / "ldc", paths)
    nothing = tmp_path / "bin"  # neither sph2pipe nor ffmpeg, and no desphere:
    nothing.mkdir()
    (nothing / "sitecustomize.py").write_text("import sys\nsys.modules['desphere'] = None\n")
    done = prepare(paths, tmp_path / "data", "--max_unknown", "0.05", programs=nothing)
    assert done.returncode == 1
    assert done.stderr.count(" ERROR ") == 1 and "Traceback" not in done.stderr
    assert message in done.stderr, done.stderr
    assert re.findall(r"(\d+) problem", done.stderr) in (["1"], []), done.stderr
    assert not (tmp_path / "data").exists()


def test_all_problems_are_listed_at_once(tmp_path: Path, paths: dict[str, Path]) -> None:
    for change in (overwrite(SPH, rate=16000), remove(f"{REFERENCE}/en20000405_hub5.glm")):
        change(tmp_path / "ldc", paths)
    paths["rt03"] = paths["rt03"].parent
    done = prepare(paths, tmp_path / "data")
    assert done.returncode == 1
    assert "3 problem(s) with Switchboard" in done.stderr


def test_conversations_without_audio_can_be_left_out(
    tmp_path: Path, paths: dict[str, Path]
) -> None:
    (tmp_path / "ldc" / SPH).rename(tmp_path / "elsewhere.sph")
    done = prepare(paths, tmp_path / "data", "--dev_utts", "1", "--allow_missing_audio")
    assert done.returncode == 0, done.stderr
    assert "no audio of 1 conversations: sw02001" in done.stderr
    assert {line[:7] for line in files(tmp_path / "data/train_nodup")["text"].splitlines()} == {
        "sw02002"
    }


def test_an_incomplete_copy_is_refused_unless_wanted(
    tmp_path: Path, paths: dict[str, Path]
) -> None:
    arguments = [f"--{name}={path}" for name, path in paths.items()]
    done = subprocess.run(
        [sys.executable, "local/data.py", *arguments, f"--output={tmp_path / 'data'}"],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "transcripts of 2 conversations, the corpus has 2438" in done.stderr


def test_without_paths_the_recipe_says_what_to_set() -> None:
    empty = {name: value for name, value in os.environ.items() if not name.startswith("SWBD")}
    done = subprocess.run(
        ["bash", "local/data.sh"], cwd=RECIPE, env=empty, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "SWBD is empty; set it in db.sh, or give run.sh --swbd" in done.stderr


def test_run_sh_tests_on_what_it_has(tmp_path: Path) -> None:
    for name in ("run.sh", "db.sh"):
        (tmp_path / name).write_bytes((RECIPE / name).read_bytes())
    (tmp_path / "progressive.sh").write_text(
        '#!/bin/bash\nprintf "<%s>" "$SWBD" "$RT03" "$EVAL2000_TEXT" "$@"\n'
    )
    (tmp_path / "progressive.sh").chmod(0o755)
    command = ["bash", str(tmp_path / "run.sh")]
    options = ["--swbd", "a b", "--rt03", "r", "--nj", "3"]
    environment = {**os.environ, "EVAL2000_AUDIO": "/e", "EVAL2000_TEXT": "/t", "HUB5E01": ""}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"<{tmp_path}/a b><{tmp_path}/r></t>")
    assert "<--test_sets><eval2000  rt03>" in done.stdout
    assert "<--fs><8000>" in done.stdout and done.stdout.endswith("<--nj><3>")
    assert "<--lexicon><data/local/lexicon.txt>" in done.stdout
    done = subprocess.run([*command, "--token_type", "bpe"], capture_output=True, text=True)
    assert "<--token_type><bpe>" in done.stdout and "--lexicon" not in done.stdout
