"""Arguments of ESPnet's training from the command line: of all stages, of one, of the features."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.bin import train
from espnet_plugin.pipeline.launch.commands import stage_config, train_command
from espnet_plugin.pipeline.plan.command_line import parse_with_stage_args, run_options
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.fingerprint import arguments_named, relevant_arguments
from espnet_plugin.pipeline.steps.statistics import collect_stats

STAGE = TrainStage("viterbi", "viterbi", {"batch_type": "folded"}, None)


def options_of(*given: str) -> RunOptions:
    command = [
        "--config",
        "t.yaml",
        "--train_data",
        "tr",
        "--valid_data",
        "dev",
        "--stats_dir",
        "s",
    ]
    args, stage_args = parse_with_stage_args(train.get_parser(), [*command, *given])
    return run_options(args, stage_args, ())


def test_those_of_all_stages_come_before_a_stages_own() -> None:
    options = options_of("--asr_args", "--max_epoch 3", "--viterbi_args=--max_epoch 5")
    assert options.arguments_of("align") == ["--max_epoch", "3"]
    command = train_command(STAGE, options, Path("c.yaml"), Path("exp"), None, None)
    assert command[-4:] == ["--max_epoch", "3", "--max_epoch", "5"]


def test_fold_lengths_are_espnets() -> None:
    assert stage_config(STAGE, options_of(), {})["fold_length"] == [80000, 150]
    options = options_of("--asr_speech_fold_length", "400", "--asr_text_fold_length", "99")
    assert stage_config(STAGE, options, {})["fold_length"] == [40000, 99]
    own = TrainStage("viterbi", "viterbi", {"fold_length": [7, 7]}, None)
    assert stage_config(own, options, {})["fold_length"] == [7, 7]


def test_tokens_of_options() -> None:
    given = ["--frontend_conf", "n_mels=40", "n_fft=256", "--ngpu=2", "--nj", "3", "--max_epoch=1"]
    assert arguments_named(given, {"frontend_conf"}) == given[:3]
    assert relevant_arguments(given) == [*given[:3], "--max_epoch=1"]


def test_the_plan_knows_the_name(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = [*arguments, "--dry_run", "true"]
    assert train.main([*given, "--asr_args", "--max_epoch 1"]) == 0
    assert train.main([*given, "--vitrebi_args", "--max_epoch 1"]) == 2
    assert "--vitrebi_args: no such stage is planned" in caplog.text


def test_statistics_see_other_features_and_nothing_else(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_run_parts", "_append_vocabulary"):
        monkeypatch.setattr(f"espnet_plugin.pipeline.steps.statistics.{name}", lambda *given: None)
    data = {"train_data": corpus / "dump/train", "valid_data": corpus / "dump/valid"}

    def collect(*arguments: str) -> bool:
        options = RunOptions(
            exp=corpus / "exp",
            stats_dir=corpus / "stats",
            stage_args={"asr": arguments},
            feats_type="extracted",
            **data,
        )
        return collect_stats(STAGE, options, lambda line: None, lambda: None)

    assert collect() and not collect("--max_epoch", "3")
    assert collect("--frontend_conf", "n_mels=40") and not collect("--frontend_conf", "n_mels=40")
