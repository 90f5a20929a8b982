"""Arguments of ESPnet's training from the command line: of all stages, of one, of the features."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.bin import train
from espnet_plugin.pipeline.launch.commands import stage_config, train_command
from espnet_plugin.pipeline.plan.command_line import (
    parse_with_stage_args,
    read_command_line,
    run_options,
)
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.fingerprint import arguments_named, relevant_arguments
from espnet_plugin.pipeline.state.freshness import _train_settings
from espnet_plugin.pipeline.steps.statistics import collect_stats
from tests.unit.pipeline.helpers import change

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


def test_other_fold_lengths_make_a_stage_stale(corpus: Path, arguments: list[str]) -> None:
    change(corpus, "align", batch_type="numel")
    change(corpus, "full_sum", fold_length=[7, 7])

    def stale(*given: str, usual: tuple[str, ...] = ()) -> list[str]:
        """Stages whose own settings are others than without the arguments `given`."""
        made = []
        for more in (usual, (*usual, *given)):
            args, stage_args = parse_with_stage_args(train.get_parser(), [*arguments, *more])
            config, options = read_command_line(args, stage_args)
            stages = make_plan(config)
            made.append({stage.name: _train_settings(stage, options) for stage in stages})
        return [name for name in made[0] if made[0][name] != made[1][name]]

    assert stale("--asr_text_fold_length", "99") == ["viterbi", "mbr"]
    assert stale("--asr_speech_fold_length", "99") == ["viterbi", "mbr"]
    assert stale("--asr_speech_fold_length", "800", "--asr_text_fold_length", "150") == []
    own = ("--mbr_args", "--fold_length 9 9")
    assert stale("--asr_text_fold_length", "99", usual=own) == ["viterbi"]
    assert stale("--asr_text_fold_length", "99", usual=("--asr_args", "--batch_type=numel")) == []


def test_fingerprints_of_earlier_versions_hold() -> None:
    known = {"options", "arguments", "init", "budget", "checkpoint"}
    assert set(_train_settings(STAGE, options_of())) == known
    found = _train_settings(STAGE, options_of("--asr_text_fold_length", "99"))
    assert set(found) - known == {"fold_length"} and found["fold_length"] == [80000, 99]
    alone = TrainStage("pretrain", "best_rq", {}, None)  # batches of speech, which has no text
    assert set(_train_settings(alone, options_of("--asr_text_fold_length", "99"))) == known


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
