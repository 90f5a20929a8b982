"""The command `pack`: what it asks for, what it refuses, and that it keeps only what it tried."""

from __future__ import annotations

import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.bin import pack
from espnet_plugin.packages.package import read_mapping, read_package
from espnet_plugin.search import Hypothesis


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """An experiment of one finished and one unfinished stage, decoded in two ways."""
    exp = tmp_path / "exp/tag"
    (exp / "full_sum").mkdir(parents=True)
    torch.save({"w": torch.ones(3)}, exp / "full_sum/valid.loss.ave.pth")
    config = {"token_list": ["<blank>", "a"], "output_dir": str(exp / "full_sum")}
    (exp / "full_sum/config.yaml").write_text(yaml.safe_dump(config))
    steps: dict[str, dict[str, Any]] = {
        "train:full_sum": {"status": "done", "finished": 1.0e9, "checkpoint": "valid.loss.ave.pth"},
        "train:mbr": {"status": "running"},
    }
    for tag, begun, beam in (("old", 1.0, 4), ("lm", 3.0, 8), ("mid", 2.0, 6)):
        name = f"full_sum_{tag}/dev"
        steps[f"decode:{name}"] = {"status": "done", "started": begun}
        (exp / "decode" / name).mkdir(parents=True)
        search = {"beam_size": beam, "lm": [], "lexicon": None, "word_times": "align"}
        (exp / "decode" / name / "search.yaml").write_text(yaml.safe_dump(search))
    state = {"version": 1, "plan": ["train:full_sum", "train:mbr"], "steps": steps}
    (exp / "pipeline.json").write_text(json.dumps(state))
    return exp


def options(archive: Path) -> Any:
    with zipfile.ZipFile(archive) as file:
        return yaml.safe_load(file.read("decoding/decode.yaml"))


def test_the_last_decodings_options_and_others(exp: Path, tmp_path: Path) -> None:
    plain = ["--exp", str(exp), "--verify", "false"]
    assert pack.main(plain) == 0
    assert options(exp / "tag.zip") == {"beam_size": 8, "lm": [], "word_times": "align"}
    assert pack.main([*plain, "--stage", "full_sum", "--inference_tag", "mid"]) == 0
    assert options(exp / "tag_full_sum.zip")["beam_size"] == 6
    mine = tmp_path / "mine.yaml"
    mine.write_text("beam_size: 2\nbatch_size: 7\n")
    assert pack.main([*plain, "--inference_config", str(mine)]) == 0
    assert options(exp / "tag.zip") == {"beam_size": 2}


def test_decodings_of_a_stage_with_a_longer_name_are_not_taken(exp: Path) -> None:
    state = json.loads((exp / "pipeline.json").read_text())
    name = "full_sum_long_beam2/dev"
    state["steps"] |= {"train:full_sum_long": {"status": "done"}}
    state["steps"] |= {f"decode:{name}": {"status": "done", "started": 9.0}}  # after all others
    (exp / "pipeline.json").write_text(json.dumps(state))
    (exp / "decode" / name).mkdir(parents=True)
    (exp / "decode" / name / "search.yaml").write_text("beam_size: 2\n")
    assert pack.main(["--exp", str(exp), "--verify", "false"]) == 0
    assert options(exp / "tag.zip")["beam_size"] == 8


def test_a_package_that_espnet_reads(exp: Path, tmp_path: Path) -> None:
    from espnet2.main_funcs.pack_funcs import unpack

    assert pack.main(["--exp", str(exp), "--verify", "false"]) == 0
    arguments = unpack(exp / "tag.zip", tmp_path / "unpacked")
    assert sorted(arguments) == ["asr_model_file", "asr_train_config"]
    assert torch.load(arguments["asr_model_file"], weights_only=True)["w"].tolist() == [1, 1, 1]
    assert read_mapping(Path(arguments["asr_train_config"]))["token_list"] == ["<blank>", "a"]
    assert read_package(tmp_path / "unpacked").extra["stage"] == "full_sum"
    assert read_mapping(tmp_path / "unpacked/meta.yaml")["timestamp"] == 1.0e9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stage", "mbr"], "stage mbr is not finished; finished: full_sum"),
        (["--inference_tag", "beam9"], "no decoding full_sum_beam9 that tells its options"),
        (["--outpath", "model.tar"], "model.tar: its name must end in .zip"),
        (["--inference_config", "none.yaml"], "none.yaml: no such decoding configuration"),
        ([], "give --valid_data FOLDER to try the package out on, or --verify false"),
    ],
)
def test_refused(
    exp: Path, more: list[str], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert pack.main(["--exp", str(exp), *more]) == 2
    assert message in caplog.text
    assert not (exp / "tag.zip").exists()


def test_where_no_pipeline_ran(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert pack.main(["--exp", str(tmp_path)]) == 2
    assert "no pipeline has run here (pipeline.json is missing)" in caplog.text


def test_a_package_that_gives_another_result_is_not_kept(
    exp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Any] = []

    class Speech2Text:
        """Its score tells how many were made before it."""

        def __init__(self, **given: Any) -> None:
            made.append(given)
            self.asr_train_args, self.score = None, -1.0 - drift * len(made)

        def __call__(self, speech: Any) -> list[Any]:
            return [("A", ["a"], [1], Hypothesis((1,), self.score, self.score))]

    fake = types.ModuleType("fake")
    fake.Speech2Text = Speech2Text  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "espnet_plugin.inference.speech2text", fake)
    monkeypatch.setattr(pack, "first_utterance", lambda data, args: ("utt1", None))
    command = ["--exp", str(exp), "--valid_data", str(exp)]
    killed = exp / ".tag.zip.packing/old"  # what a killed run leaves
    killed.mkdir(parents=True)
    drift = 1e-3
    assert pack.main(command) == 2
    assert "does not give the model's result for utterance utt1: 'A' (-1.002000)" in caplog.text
    assert not list(exp.glob("*.zip")) and not list(exp.glob(".*"))
    drift = 1e-7
    assert pack.main(command) == 0
    assert (exp / "tag.zip").is_file() and not list(exp.glob(".*"))
    original, packed = made[-2:]
    assert original["beam_size"] == packed["beam_size"] == 8
    assert "word_times" not in original and "word_times" not in packed
    assert str(exp) not in str(packed["asr_model_file"])
