"""run.sh of AN4, Mboshi and Switchboard, and `make an4`, with stand-ins for what they call."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_plugin.pipeline.plan.config import load_pipeline_config

REPO = Path(__file__).resolve().parents[2]
PLACES = ("AN4", "MBOSHI", "SWBD", "SWBD_MS98", "EVAL2000_AUDIO", "EVAL2000_TEXT", "HUB5E01",
          "RT03", "FISHER_P1", "FISHER_P2")  # fmt: skip


def stand_in(corpus: str, folder: Path) -> Path:
    """The corpus' run.sh with a progressive.sh that writes its arguments down."""
    recipe = REPO / "egs2" / corpus / "asr1"
    for name in ("run.sh", "db.sh", "asr_config.sh"):
        if (recipe / name).exists():
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


@pytest.mark.parametrize(
    ("folder", "archived", "config"),
    [
        *(("wav", archived, "_audio") for archived in (True, False)),
        *(("feat", archived, "") for archived in (True, False)),
        (None, False, "_audio"),  # it will be downloaded
    ],
)
def test_an4s_configuration_follows_the_distribution(
    tmp_path: Path, folder: str | None, archived: bool, config: str
) -> None:
    recipe = stand_in("an4", tmp_path)
    given = []
    if folder is not None:
        (tmp_path / f"my copy/an4/{folder}").mkdir(parents=True)
        (tmp_path / f"my copy/an4/{folder}/x").touch()
        given = ["--an4_root", str(tmp_path / "my copy")]
        if archived:
            make = ["tar", "-czf", "an4.tar.gz", "-C", "my copy", "an4"]
            subprocess.run(make, cwd=tmp_path, check=True)
            given = ["--an4_root", str(tmp_path / "an4.tar.gz")]
    assert options(recipe, *given)["--asr_config"] == f"conf/train_progressive{config}.yaml"
    own = options(recipe, *given, "--asr_config", "conf/mine.yaml")
    assert own["--asr_config"] == "conf/mine.yaml"
    if folder is None:
        (recipe / "data/train_nodev").mkdir(parents=True)
        (recipe / "data/train_nodev/feats.scp").touch()
        assert options(recipe)["--asr_config"] == "conf/train_progressive.yaml"


def test_an4_audio_has_the_batches_of_its_cepstra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO / "egs2/an4/asr1")  # where its paths are
    cepstra, audio = (
        load_pipeline_config(Path(f"conf/train_progressive{name}.yaml")).train_stages
        for name in ("", "_audio")
    )
    assert list(cepstra) == list(audio)
    for stage, options in audio.items():
        frames = options["batch_bins"] / options["frontend_conf"]["hop_length"]
        assert frames == cepstra[stage]["batch_bins"] / 26
        assert options["max_epoch"] == cepstra[stage]["max_epoch"]


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
