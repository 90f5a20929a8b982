"""docs/espnet_checkout.md: ESPnet's own asr.sh, unchanged, in an environment with our wheel.

ESPnet's `mini_an4`: seven recordings of AN4. The model learns the four of the training set by
heart; the validation set is made a copy of it, so that both searches have to find its texts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.installation import ROOT, Environment
from tests.integration.espnet_source import checkout

soundfile = pytest.importorskip("soundfile")
pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs/espnet_checkout.md").read_text(encoding="utf-8")


def block(beginning: str, language: str = "sh") -> str:
    """The page's code that begins so."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    (found,) = (text for text in blocks if text.startswith(beginning))
    return found.strip()


def table(path: Path) -> dict[str, str]:
    """A Kaldi table; the values' spaces stay."""
    rows = (line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines())
    return {key: value for key, _, value in rows}


@pytest.fixture(scope="module")
def recipe(
    installed: Environment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """`mini_an4` after stages 1 to 13 by the page's command."""
    folder = checkout(tmp_path_factory.mktemp("espnet"))
    name = re.search(r"--asr_config (\S+)", block("./asr.sh"))
    assert name
    (folder / name[1]).write_text(block("encoder:", "yaml"))

    def asr_sh(*more: str) -> str:
        command = " ".join([block("./asr.sh"), *more])
        return installed.run("bash", "-euc", command, cwd=folder)

    asr_sh("--stop_stage 1")
    shutil.rmtree(folder / "data/train_dev")
    installed.run("utils/copy_data_dir.sh", "data/train_nodev", "data/train_dev", cwd=folder)
    output = asr_sh("--stage 2 --eval_valid_set true")
    assert "Successfully finished" in output
    yield folder
    shutil.rmtree(folder.parents[2])


def experiment(recipe: Path) -> Path:
    (config,) = recipe.glob("exp/asr_*/config.yaml")
    return config.parent


def test_asr_sh_trains_our_classes(recipe: Path) -> None:
    config = yaml.safe_load((experiment(recipe) / "config.yaml").read_text())
    assert config["model"] == "progressive_transducer" and config["optim"] == "nadam"
    log = (experiment(recipe) / "train.log").read_text()
    losses = [float(x) for x in re.findall(r"\[train\].*? loss_full_sum=([\d.e+-]+)", log)]
    assert len(losses) == config["max_epoch"] and losses[-1] < 0.1 * losses[0]


def test_asr_sh_decodes_and_scores(recipe: Path) -> None:
    (decoded,) = experiment(recipe).glob("*/org/train_dev/text")
    assert table(decoded) == table(recipe / "data/train_dev/text")
    # ESPnet's table: words of the references, errors in per cent; of words, then of characters
    row = re.compile(r"^\|\S+/(train_dev|test)\|\d+\|(\d+)\|.*\|([\d.]+)\|[\d.]+\|$", re.M)
    rows = row.findall((experiment(recipe) / "RESULTS.md").read_text())
    for name in ("train_dev", "test"):
        words = sum(len(text.split()) for text in table(recipe / f"data/{name}/text").values())
        assert (name, str(words)) in [(found, count) for found, count, _ in rows]
    assert {error for name, _, error in rows if name == "train_dev"} == {"0.0"}


def test_our_search_decodes_what_asr_sh_has_trained(
    recipe: Path,
    installed: Environment,
) -> None:
    command = block("exp=exp/").replace("raw/test/", "raw/org/train_dev/")
    assert command.count("train_dev") == 2
    installed.run("bash", "-euc", command, cwd=recipe)
    (found,) = experiment(recipe).glob("decode_ours/test/1best_recog/text")
    assert table(found) == table(recipe / "data/train_dev/text")


def test_the_pipeline_goes_on_with_what_asr_sh_has_formatted(
    recipe: Path,
    installed: Environment,
) -> None:
    command = block("cd ..") + " --stage 2 --stop_stage 4 --nj 1"
    installed.run("bash", "-euc", command, cwd=recipe)
    made = recipe.parent / "progressive1"
    assert not (made / "local").exists()
    for name, size in (("train_nodev", 4), ("train_dev", 4), ("test", 2)):
        assert len(table(made / f"dump/raw/{name}/text")) == size
    assert (made / "data/token_list/char/tokens.txt").read_text() == (
        next((recipe / "data").glob("*token_list/char/tokens.txt")).read_text()
    )


def test_our_an4_recipe_reads_the_same_recordings(
    recipe: Path,
    installed: Environment,
    tmp_path: Path,
) -> None:
    """Texts, speakers and samples of its SPHERE files, read in place, as ESPnet's have them."""
    installed.run("espnet-progressive", "clone", "an4/asr1", tmp_path / "an4")
    options = ["--an4_root", recipe / "downloads/an4", "--allow_subset", "--dev_utts", "1"]
    installed.run("bash", "local/data.sh", *options, cwd=tmp_path / "an4")
    for name, theirs in (("train_nodev", "train_nodev"), ("test", "test")):
        ours = tmp_path / "an4/data" / name
        for file in ("text", "utt2spk"):
            assert table(ours / file) == table(recipe / "data" / theirs / file)
        place = "org/train_nodev" if name == "train_nodev" else "test"
        formatted = table(recipe / "dump/raw" / place / "wav.scp")
        recordings = table(ours / "wav.scp")
        assert recordings.keys() == formatted.keys()
        for utterance, path in recordings.items():
            samples, rate = soundfile.read(path, dtype="int16")
            wanted, wanted_rate = soundfile.read(recipe / formatted[utterance], dtype="int16")
            assert path.endswith(".sph") and rate == wanted_rate == 16000
            np.testing.assert_array_equal(samples, wanted)
