"""A front-end's samples against the sampling rate: refused by name before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.bin import show_config
from espnet_plugin.pipeline.launch.commands import stage_config
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.front_end import check_front_end
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("conf", "fs", "named"),
    [
        ({"n_mels": 40}, 8000, ["n_fft 512, ESPnet's default for 16000 Hz, is 64 ms"]),
        (
            {"n_fft": 400, "win_length": 400, "hop_length": 160},
            8000,
            ["win_length 400 is 50 ms", "hop_length 160 is 20 ms, where 5 to 16 are usual"],
        ),
        ({"n_fft": 200, "win_length": 200, "hop_length": 80}, 16000, ["win_length 200 is 12.5 ms"]),
        ({"fs": "16k"}, 8000, ["fs 16000", "n_fft 512"]),
        ({"fmax": 7600, "n_fft": 256, "hop_length": 80}, 8000, ["fmax 7600 Hz is above 4000 Hz"]),
        ({}, 44100, ["n_fft 512", "hop_length 128"]),
    ],
)
def test_values_of_another_rate_are_refused(
    conf: dict[str, Any], fs: int, named: list[str]
) -> None:
    options = {"frontend": "default", "frontend_conf": conf}
    with pytest.raises(ValueError, match=f"stage align: frontend_conf does not fit --fs {fs}") as e:
        check_front_end(options, fs, "stage align")
    assert all(text in str(e.value) for text in named), e.value
    window, hop = round(0.025 * fs), round(0.01 * fs)
    assert f"win_length: {window}, hop_length: {hop}}}" in str(e.value)


@pytest.mark.parametrize(
    ("conf", "fs"),
    [
        ({}, 16000),
        ({"n_fft": 512, "hop_length": 256}, 16000),
        ({"n_fft": 256, "win_length": 200, "hop_length": 80}, 8000),
        ({"fs": "8k", "n_fft": 200, "hop_length": 80}, 8000),
        ({"n_fft": 1024, "win_length": 1024, "hop_length": 256}, 22050),
    ],
)
def test_usual_values_pass(conf: dict[str, Any], fs: int) -> None:
    check_front_end({"frontend_conf": conf}, fs, "stage align")


def test_whoever_names_the_rate_means_it(caplog: pytest.LogCaptureFixture) -> None:
    check_front_end({"frontend_conf": {"fs": 8000, "hop_length": 160}}, 8000, "stage align")
    assert "stage align: frontend_conf: hop_length 160 is 20 ms" in caplog.text


def test_front_ends_that_count_no_samples_pass() -> None:
    check_front_end({"frontend": None}, 8000, "stage align")
    check_front_end({"frontend": "s3prl", "frontend_conf": {"upstream": "x"}}, 8000, "stage align")


def test_training_and_statistics_are_refused(tmp_path: Path) -> None:
    stage = TrainStage("align", "ctc", {"frontend_conf": {"n_mels": 40}}, None)
    (tmp_path / "feats_dim").write_text("40\n")
    folders = [tmp_path] * 4
    with pytest.raises(ValueError, match="stage align: frontend_conf does not fit --fs 8000"):
        stage_config(stage, RunOptions(*folders, fs=8000), {})
    extracted = RunOptions(*folders, fs=8000, feats_type="extracted")
    assert stage_config(stage, extracted, {})["input_size"] == 40


def test_show_config_refuses_any_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "t.yaml"
    config.write_text(
        "train_stages:\n  align: {loss: ctc, max_epoch: 1}\n"
        "  viterbi: {max_epoch: 1, frontend_conf: {hop_length: 400}}\n"
        "stage_scheduler_conf: {stages: [align, viterbi]}\n"
    )
    assert show_config.main(["--config", str(config)]) == 0
    assert "loss: ctc" in capsys.readouterr().out
    assert show_config.main(["--config", str(config), "--fs", "16k"]) == 2
    assert "t.yaml: stage viterbi: frontend_conf does not fit" in caplog.text


def test_the_recipes_front_ends_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"librispeech": 16000, "swbd": 8000, "mini_tts": 16000}
    for corpus, fs in rates.items():
        monkeypatch.chdir(ROOT / "egs2" / corpus / "asr1")
        for path in Path("conf").rglob("train_progressive*.yaml"):
            if path.is_symlink():  # the paper's for the other rate is linked as well
                continue
            for stage in make_plan(load_pipeline_config(path)):
                check_front_end(stage.options, fs, str(path))
