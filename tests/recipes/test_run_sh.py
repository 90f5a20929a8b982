"""run.sh of AN4, Mboshi and Switchboard, and `make an4`, with stand-ins for what they call."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PLACES = ("AN4", "MBOSHI", "SWBD", "SWBD_MS98", "EVAL2000_AUDIO", "EVAL2000_TEXT", "HUB5E01",
          "RT03", "FISHER_P1", "FISHER_P2")  # fmt: skip


def stand_in(corpus: str, folder: Path) -> Path:
    """The corpus' run.sh with a progressive.sh that writes its arguments down."""
    recipe = REPO / "egs2" / corpus / "asr1"
    for name in ("run.sh", "db.sh"):
        shutil.copy(recipe / name, folder)
    (folder / "progressive.sh").write_text(
        '#!/bin/bash\nprintf "%s\\n" "$@" >arguments\n[ ! -d local ] || bash local/data.sh\n'
    )
    (folder / "progressive.sh").chmod(0o755)
    return folder


def options(folder: Path, *given: str, **places: str) -> dict[str, str]:
    """What progressive.sh is called with; the last of several values counts, as there."""
    environment = {**os.environ, **dict.fromkeys(PLACES, ""), **places}
    subprocess.run(["bash", "run.sh", *given], cwd=folder, env=environment, check=True)
    arguments = [a for a in (folder / "arguments").read_text().splitlines() if a != "--"]
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def as_pairs(given: dict[str, str]) -> list[str]:
    return [word for pair in given.items() for word in pair]


def with_equals(given: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in given.items()]


def with_dashes(given: dict[str, str]) -> list[str]:
    return as_pairs({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize("form", [as_pairs, with_equals, with_dashes])
def test_an4_adds_the_users_data_options_to_its_own(
    tmp_path: Path, form: Callable[[dict[str, str]], list[str]]
) -> None:
    folder = stand_in("an4", tmp_path)
    place = folder / "with space"
    place.mkdir()
    given = {"--an4_root": str(place), "--local_data_opts": "--dev_utts 50", "--nj": "3"}
    asked = options(folder, *form(given))
    assert shlex.split(asked["--local_data_opts"]) == [
        "--mel_channels", "26", "--an4_root", str(place), "--dev_utts", "50",
    ]  # fmt: skip
    assert asked["--nj"] == "3"


@pytest.mark.parametrize("form", [as_pairs, with_equals, with_dashes])
def test_mboshi_takes_a_place_with_spaces_and_the_users_labels(
    tmp_path: Path, form: Callable[[dict[str, str]], list[str]]
) -> None:
    folder = stand_in("mboshi", tmp_path)
    place = folder / "with space"
    place.mkdir()
    given = {"--mboshi": str(place), "--token_type": "bpe", "--local_data_opts": "--nj 1"}
    asked = options(folder, *form(given))
    assert shlex.split(asked["--local_data_opts"]) == ["--mboshi", str(place), "--nj", "1"]
    assert asked.get("--token-type", asked["--token_type"]) == "bpe" and asked["--nbpe"] == "500"
    assert f"--mboshi {folder}" in options(folder, MBOSHI=str(folder))["--local_data_opts"]


@pytest.mark.parametrize("form", [as_pairs, with_equals, with_dashes])
def test_switchboards_options_count_in_every_form(
    tmp_path: Path, form: Callable[[dict[str, str]], list[str]]
) -> None:
    folder = stand_in("swbd", tmp_path)
    given = {"--rt03": "rt", "--token_type": "bpe", "--mbr_args": "--optim_conf lr=1"}
    asked = options(folder, *form(given))
    assert asked["--test_sets"].split() == ["rt03"]
    assert asked["--token_type"] == "bpe" and "--lexicon" not in asked
    assert asked.get("--mbr_args", asked.get("--mbr-args")) == "--optim_conf lr=1"


def test_switchboards_options_go_before_an_edited_db_sh(tmp_path: Path) -> None:
    folder = stand_in("swbd", tmp_path)
    (folder / "local").mkdir()
    shutil.copy(REPO / "egs2/swbd/asr1/local/data.sh", folder / "local")
    (folder / "path.sh").write_text(f"PATH={folder}:$PATH\n")
    (folder / "python3").write_text('#!/bin/bash\nprintf "%s\\n" "${@:2}" >data_arguments\n')
    (folder / "python3").chmod(0o755)
    (folder / "db.sh").write_text(
        "".join(f"export {name}=/db/{name}\n" for name in PLACES if name != "RT03")
        + "export RT03=${RT03:-}\n"
    )
    asked = options(folder, "--swbd", "my swbd", "--hub5e01", "/o/h", SWBD_MS98="/environment")
    assert asked["--test_sets"].split() == ["eval2000", "hub5e01"]
    arguments = (folder / "data_arguments").read_text().splitlines()
    prepared = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert prepared["--swbd"] == str(folder / "my swbd") and prepared["--hub5e01"] == "/o/h"
    assert prepared["--swbd_ms98"] == "/db/SWBD_MS98" and prepared["--rt03"] == ""
    # by hand, without run.sh, db.sh is asked
    environment = {**os.environ, **dict.fromkeys(PLACES, "")}
    subprocess.run(["bash", "local/data.sh"], cwd=folder, env=environment, check=True)
    assert "/db/SWBD" in (folder / "data_arguments").read_text().splitlines()


def test_make_an4_takes_a_path_with_spaces(tmp_path: Path) -> None:
    shutil.copy(REPO / "Makefile", tmp_path)
    for name, text in (("tools/setup_env.sh", ""), ("egs2/an4/asr1/run.sh", 'printf "<%s>" "$@"')):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"#!/bin/bash\n{text} >called\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "my dir").mkdir()
    (tmp_path / "my dir/an4.tar.gz").touch()
    called = tmp_path / "egs2/an4/asr1/called"
    make = ["make", "-s", "-C", str(tmp_path), "an4", "ARGS=--nj 3"]
    subprocess.run([*make, "AN4_ROOT=my dir/an4.tar.gz"], check=True)
    assert called.read_text() == f"<--an4_root><{tmp_path}/my dir/an4.tar.gz><--nj><3>"
    subprocess.run(make, check=True, env={**os.environ, "AN4_ROOT": ""})
    assert called.read_text() == "<--nj><3>"
    done = subprocess.run([*make, "AN4_ROOT=gone"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "gone" in done.stderr
