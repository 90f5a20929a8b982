"""`espnet-progressive continue`: the data folder and the pipeline that it writes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.replay import is_replayed, write_replayed
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.inputs import extended_start
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.state.freshness import teacher_files

INTERPOLATE = importlib.import_module("espnet_plugin.jobs.reuse.interpolate")
CONTINUE = importlib.import_module("espnet_plugin.jobs.reuse.continue")
TOKENS = ["<blank>", "a", "b", "<sos/eos>"]
CONFIG = {
    "loss": "full_sum",
    "loss_conf": {"encoder_scale": 0.1},
    "encoder": "progressive_conformer",
    "encoder_conf": {"output_size": 8},
    "decoder": "feedforward_prediction",
    "model": "progressive_transducer",
    "model_conf": {"topology": "monotonic"},
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "scheduler_conf": {"initial_lr": 5e-4, "decayed_lr": 5e-5, "final_lr": 1e-6},
    "max_epoch": 48,
    "token_list": TOKENS,
    "output_dir": "exp/first/full_sum",
}


def data(folder: Path, prefix: str, count: int) -> Path:
    folder.mkdir()
    keys = [f"{prefix}{n:03d}" for n in range(count)]
    for name, value in (("text", "a b"), ("wav.scp", "x.wav"), ("utt2spk", f"{prefix}spk")):
        (folder / name).write_text("".join(f"{key} {value}\n" for key in keys))
    (folder / "spk2utt").write_text(f"{prefix}spk {' '.join(keys)}\n")
    return folder


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save({"ctc.ctc_lo.bias": torch.zeros(4)}, model / "valid.pth")
    return [
        *("--model", str(model / "valid.pth"), "--new_data", str(data(tmp_path / "new", "n", 5))),
        *("--old_data", str(data(tmp_path / "old", "o", 400)), "--replay", "0.1"),
        *("--output_data", str(tmp_path / "both"), "--config", str(tmp_path / "train.yaml")),
    ]


def test_what_is_replayed_depends_on_the_id_alone() -> None:
    ids = [f"utt{n}" for n in range(20_000)]
    chosen = [key for key in ids if is_replayed(key, 0.1, 7)]
    assert abs(len(chosen) - 2000) < 3 * (20_000 * 0.09) ** 0.5
    assert set(chosen) <= {key for key in ids if is_replayed(key, 0.3, 7)}
    assert chosen != [key for key in ids if is_replayed(key, 0.1, 8)]
    assert not any(is_replayed(key, 0.0, 7) for key in ids)
    assert all(is_replayed(key, 1.0, 7) for key in ids)


def test_data_and_pipeline(arguments: list[str], tmp_path: Path) -> None:
    assert CONTINUE.main(arguments) == 0
    text = read_table(tmp_path / "both/text")
    replayed = {f"o{n:03d}" for n in range(400) if is_replayed(f"o{n:03d}", 0.1, 0)}
    assert 20 < len(replayed) < 60
    assert set(text) == replayed | {f"n{n:03d}" for n in range(5)}
    assert list(text) == sorted(text)
    assert set(read_table(tmp_path / "both/wav.scp")) == set(text)
    speakers = read_table(tmp_path / "both/spk2utt")
    assert set(speakers) == {"nspk", "ospk"} and set(speakers["ospk"].split()) == replayed
    config = load_pipeline_config(tmp_path / "train.yaml")
    (stage,) = make_plan(config)
    assert stage.init_from is not None and stage.init_from.vocabulary == "extend"
    assert stage.init_from.model == str(tmp_path / "model/valid.pth")
    options = stage.options
    assert options["encoder_conf"] == {"output_size": 8} and options["max_epoch"] == 5
    assert options["model_conf"] == {"topology": "monotonic", "freeze_batch_norm": True}
    assert options["loss_conf"] == {"encoder_scale": 0.1} and "token_list" not in options
    assert options["scheduler_conf"]["peak_lr"] == 5e-5


def test_recordings_keep_their_meaning_and_channels(tmp_path: Path) -> None:
    new, old = data(tmp_path / "new", "n", 2), data(tmp_path / "old", "o", 3)
    for folder, name in ((new, "n"), (old, "o")):
        keys = list(read_table(folder / "text"))
        (folder / "wav.scp").write_text(f"tape {folder}/tape.wav\ntape{name} {name}.wav\n")
        pieces = [f"{key} {'tape' if n else f'tape{name}'} 0 1\n" for n, key in enumerate(keys)]
        (folder / "segments").write_text("".join(pieces))
    with pytest.raises(ValueError, match=r"wav.scp: tape mean different recordings; rename"):
        write_replayed(new, old, 1.0, 0, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    (old / "wav.scp").write_text(f"tape {new}/tape.wav\ntapeo o.wav\n")
    (old / "reco2file_and_channel").write_text("tapeo call B\nspare call A\n")
    assert write_replayed(new, old, 1.0, 0, tmp_path / "both") == (2, 3)
    assert read_table(tmp_path / "both/reco2file_and_channel") == {"tapeo": "call B"}
    assert read_table(tmp_path / "both/segments")["o002"] == "tape 0 1"
    assert set(read_table(tmp_path / "both/wav.scp")) == {"tape", "tapen", "tapeo"}


def test_nothing_replayed_and_nothing_distilled_is_plain_fine_tuning(
    arguments: list[str], tmp_path: Path
) -> None:
    assert CONTINUE.main([*arguments, "--replay", "0", "--distill", "0"]) == 0
    for name in ("text", "wav.scp", "utt2spk", "spk2utt"):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
    (stage,) = make_plan(load_pipeline_config(tmp_path / "train.yaml"))
    assert not stage.options.get("accelerators")
    # and where there is no new label, it starts from the model as it is
    source = tmp_path / "model/valid.pth"
    start = torch.load(extended_start(source, TOKENS, tmp_path / "s.pth"), weights_only=True)
    model = torch.load(source, weights_only=True)
    assert list(start) == list(model)
    assert all(torch.equal(value, model[name]) for name, value in start.items())


def test_distillation_is_an_option_of_the_stage(arguments: list[str], tmp_path: Path) -> None:
    assert CONTINUE.main([*arguments, "--distill", "0.25"]) == 0
    (stage,) = make_plan(load_pipeline_config(tmp_path / "train.yaml"))
    assert stage.init_from is not None
    expected = {"distill": {"model": stage.init_from.model, "weight": 0.25}}
    assert stage.options["accelerators"] == expected
    assert teacher_files(stage.options) == [tmp_path / "model/valid.pth"]
    assert CONTINUE.main([*arguments, "--distill", "-1"]) == 2


def write_states(folder: Path, tokens: list[str], value: float, **more: Any) -> str:
    """A model file of a few parameters; returns its name."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "token_list": tokens}))
    states = {
        "encoder.weight": torch.full((2, 3), value),
        "encoder.norm.num_batches_tracked": torch.tensor(int(value)),
        "ctc.ctc_lo.bias": value + torch.arange(float(len(tokens))),
        **more,
    }
    torch.save(states, folder / "model.pth")
    return str(folder / "model.pth")


def test_a_model_between_two(tmp_path: Path) -> None:
    old = write_states(tmp_path / "old", TOKENS, 1.0)
    new = write_states(tmp_path / "new", ["<blank>", "a", "x", "b", "<sos/eos>"], 5.0)
    given = ["--old", old, "--new", new, "--output_dir", str(tmp_path / "between")]
    assert INTERPOLATE.main([*given, "--share", "0.25"]) == 0
    found = torch.load(tmp_path / "between/model.pth", weights_only=True)
    assert found["encoder.weight"].tolist() == [[2.0] * 3] * 2
    assert int(found["encoder.norm.num_batches_tracked"]) == 5
    # the old model's biases are 1, 2, 3, 4, and of the new label the smallest of a and b
    expected = [0.75 * a + 0.25 * b for a, b in zip([1, 2, 2, 3, 4], [5, 6, 7, 8, 9], strict=True)]
    assert found["ctc.ctc_lo.bias"].tolist() == expected
    config = yaml.safe_load((tmp_path / "between/config.yaml").read_text())
    assert config["token_list"][2] == "x"
    for share, value in (("1", 5.0), ("0", 1.0)):
        assert INTERPOLATE.main([*given, "--share", share]) == 0
        found = torch.load(tmp_path / "between/model.pth", weights_only=True)
        assert found["encoder.weight"].unique().tolist() == [value]


def test_models_that_have_no_between(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = write_states(tmp_path / "old", TOKENS, 1.0)
    larger = write_states(tmp_path / "larger", TOKENS, 2.0, **{"encoder.weight": torch.zeros(4, 3)})
    deeper = write_states(tmp_path / "deeper", TOKENS, 2.0, **{"encoder.more": torch.zeros(1)})
    fewer = write_states(tmp_path / "fewer", TOKENS[:2], 2.0)
    output = ["--output_dir", str(tmp_path / "between")]
    for new, message in (
        (larger, "they have encoder.weight in different sizes"),
        (deeper, "only one of them has encoder.more"),
        (fewer, "the token list lacks labels of the model: b"),
    ):
        caplog.clear()
        assert INTERPOLATE.main(["--old", old, "--new", new, *output]) == 2
        assert message in caplog.text
    assert INTERPOLATE.main(["--old", old, "--new", old, *output, "--share", "2"]) == 2
    assert not (tmp_path / "between").exists()


def test_rates() -> None:
    assert CONTINUE.ended_at({"scheduler_conf": {"peak_lr": 1e-3}}) == pytest.approx(1e-4)
    assert CONTINUE.ended_at({"optim_conf": {"lr": 2e-3}}) == pytest.approx(2e-4)
    with pytest.raises(ValueError, match="no learning rate"):
        CONTINUE.ended_at({})


def broken(path: Path, change: str) -> list[str]:
    if change == "both":
        (path / "new/text").write_text("o003 a\n")
    elif change == "kind":
        (path / "new/wav.scp").rename(path / "new/feats.scp")
    elif change == "share":
        return ["--replay", "1.5"]
    elif change == "place":
        return ["--output_data", str(path / "old")]
    return ["--max_epoch", "0"] if change == "epochs" else []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("both", "both have o003"),
        ("kind", "only one of them has feats.scp, wav.scp"),
        ("share", "must be a share"),
        ("place", "must not replace the data"),
        ("epochs", "must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: str,
    message: str,
    arguments: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[Any],
) -> None:
    assert CONTINUE.main([*arguments, *broken(tmp_path, change)]) == 2
    assert message in caplog.text + capsys.readouterr().err
    assert not (tmp_path / "train.yaml").exists()


def test_the_start_has_the_new_labels(arguments: list[str], tmp_path: Path) -> None:
    source = tmp_path / "model/valid.pth"
    target = extended_start(source, [*TOKENS[:2], "x", *TOKENS[2:]], tmp_path / "start.pth")
    assert torch.load(target, weights_only=True)["ctc.ctc_lo.bias"].shape == (5,)
    with pytest.raises(ValueError, match=r"valid.pth: the token list lacks labels of the model: b"):
        extended_start(source, ["<blank>", "a", "<sos/eos>"], tmp_path / "start.pth")


def test_extensions_are_checked_before_anything_trains(
    arguments: list[str], tmp_path: Path
) -> None:
    from espnet_plugin.data.checkpoint_vocabulary import check_extension

    source = tmp_path / "model/valid.pth"
    check_extension(source, [*TOKENS, "x"], "char")
    check_extension(source, TOKENS, "bpe")
    with pytest.raises(ValueError, match="subwords of another model"):
        check_extension(source, [*TOKENS, "x"], "bpe")
    with pytest.raises(ValueError, match="lacks labels that the model has: b"):
        check_extension(source, ["<blank>", "a", "<sos/eos>"], "char")
    (tmp_path / "model/config.yaml").unlink()
    with pytest.raises(ValueError, match=r"no config.yaml beside it"):
        check_extension(source, TOKENS, "char")
