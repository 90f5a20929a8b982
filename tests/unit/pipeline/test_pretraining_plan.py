"""Stages that pretrain: their place, their data, what starts from them, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.bin import plan as plan_command
from espnet_plugin.bin import status, train
from espnet_plugin.data.frame_limit import too_short
from espnet_plugin.pipeline.decoding import finished_stages
from espnet_plugin.pipeline.launch.commands import stage_config, train_command
from espnet_plugin.pipeline.plan.inputs import check_foreign_checkpoints
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import UNTRAINED, all_options, options_for
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import build_steps, make_stage
from tests.unit.pipeline.helpers import change, set_keys, states
from tests.unit.pipeline.test_pipeline_plan import ALL, PATHS, config

PRETRAIN: dict[str, dict[str, Any]] = {"pretrain": {}, **ALL}


def test_it_comes_first_and_hands_on_its_encoder() -> None:
    cfg = config(PRETRAIN)
    plan = make_plan(cfg)
    assert [(s.name, s.loss) for s in plan][:2] == [("pretrain", "best_rq"), ("align", "ctc")]
    assert plan[0].init_from is None
    assert plan[0].pretrains and not plan[0].trains_transducer
    start = plan[1].init_from
    assert start is not None
    assert start.stage == "pretrain"
    assert set(start.exclude) == {"specaug", *UNTRAINED}
    assert plan[2].init_from is not None
    assert plan[2].init_from.exclude == ("specaug",)
    steps = {step.name: step for step in build_steps(plan, cfg)}
    assert steps["train:align"].upstream == ("train:pretrain",)
    assert steps["job:alignment"].stage == "align"


@pytest.mark.parametrize(
    ("stages", "conf", "message"),
    [
        (
            {"align": {}, "pretrain": {}},
            {"stages": ["align", "pretrain"]},
            r"stage pretrain \(loss best_rq\) .* has to come first, before align",
        ),
        ({"pretrain": {}, "viterbi": {}}, {}, "stage viterbi needs an alignment, but no stage"),
        (
            {"pretrain": {"encoder_conf": {"chunk_sizes": [4]}}, "align": {}},
            {},
            "align starts from the encoder of pretrain, but has encoder_conf.chunk_sizes None",
        ),
        (
            {
                "pretrain": {"frontend_conf": {"n_mels": 80}},
                "align": {"frontend_conf": {"n_mels": 40}},
            },
            {},
            r"has frontend_conf \{'n_mels': 40\} instead of \{'n_mels': 80\}",
        ),
        (
            {"pretrain": {"encoder": "conformer"}, "align": {"encoder": "e_branchformer"}},
            {},
            "has encoder e_branchformer instead of conformer",
        ),
        (
            {"pretrain": {"encoder_conf": {"num_blocks": 2}}, "align": {}},
            {},
            "has encoder_conf.num_blocks None instead of 2",
        ),
        ({"align": {"data": {"train": "x"}}}, {}, "stage align: data: is for stages that learn"),
        ({"pretrain": {"data": {"dev": "x"}}, "align": {}}, {}, "data: maps train and valid"),
        ({"pretrain": {"data": "x"}, "align": {}}, {}, "data: maps train and valid"),
    ],
)
def test_impossible_plans_are_refused(
    stages: dict[str, Any], conf: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(config(stages, conf=conf))


def test_what_may_differ_between_pretraining_and_the_next_stage() -> None:
    stages: dict[str, dict[str, Any]] = {
        "pretrain": {"encoder_conf": {"dropout_rate": 0.1, "chunk_sizes": [4, 0], "num_blocks": 2}},
        "align": {
            "encoder_conf": {"interctc_layer_idx": [2], "chunk_sizes": [8], "num_blocks": 4},
            "init_from": {"blocks": [0, 0, 1, 1]},
        },
    }
    plan = make_plan(config(stages))
    assert plan[1].init_from is not None
    assert plan[1].init_from.blocks == (0, 0, 1, 1)


def test_realignment_cannot_follow_it() -> None:
    with pytest.raises(ValueError, match=r"no planned stage: pretrain; those that can.* align, v"):
        make_plan(config(PRETRAIN, alignment={"realign": {"after": "pretrain"}}))


def test_its_command_names_no_transcripts(tmp_path: Path) -> None:
    own = {"train": "lots", "valid": "few"}
    stage = make_stage("pretrain", config({"pretrain": {"data": own}}), None, "best_rq")
    options = RunOptions(*PATHS, feats_type="raw")
    command = train_command(stage, options, Path("c.yaml"), tmp_path, None, None)
    given = [command[n + 1] for n, token in enumerate(command) if "data_path" in token]
    assert given == ["lots/wav.scp,speech,sound", "few/wav.scp,speech,sound"]
    shapes = [command[n + 1] for n, token in enumerate(command) if "shape_file" in token]
    assert shapes == ["stats_pretrain/train/speech_shape", "stats_pretrain/valid/speech_shape"]
    made = stage_config(stage, options, {})
    assert made["fold_length"] == [80000]  # speech alone
    assert "data" not in made
    # normalised as all other stages are
    assert made["normalize_conf"]["stats_file"] == "stats/train/feats_stats.npz"


def test_without_data_of_its_own_it_hears_the_pipelines() -> None:
    stages = make_plan(config({"pretrain": {}, "align": {}}))
    options = RunOptions(*PATHS)
    own = options_for(stages[0], options)
    assert own.train_data == options.train_data
    assert own.data_files() == [Path("train/wav.scp"), Path("dev/wav.scp")]
    assert all_options(stages, options) == [options]
    assert all_options(stages[:1], options) == [own]  # nobody needs transcripts then


def test_utterances_without_room_for_a_mask() -> None:
    lengths = {"a": 39, "b": 40, "c": 41}
    assert too_short(lengths, {}, "extracted", True) == {"a": 39}
    assert too_short(lengths, {"loss_conf": {"mask_frames": 41}}, "extracted", True).keys() == {
        "a",
        "b",
    }
    assert too_short(lengths, {}, "extracted", False) == {}
    raw = {"a": 128 * 39 - 1, "b": 128 * 39}  # 39 and 40 frames
    assert too_short(raw, {"frontend_conf": {"hop_length": 128}}, "raw", True).keys() == {"a"}


@pytest.fixture
def pretraining(corpus: Path) -> Path:
    """The corpus with a stage `pretrain`, which has untranscribed data."""
    for part, source in (("lots", "train"), ("lots_dev", "valid")):
        folder, stats = corpus / part, corpus / "stats_pretrain" / source
        for each in (folder, stats):
            each.mkdir(parents=True)
        keys = [f"{part}{n}" for n in range(4)]
        (folder / "feats.scp").write_text("".join(f"{k} feats.ark:1\n" for k in keys))
        (stats / "speech_shape").write_text("".join(f"{k} 80,13\n" for k in keys))
    set_keys(corpus, train_stages={"pretrain": {}, "align": {"max_epoch": 2}})
    data = {"train": str(corpus / "lots"), "valid": str(corpus / "lots_dev")}
    change(corpus, "pretrain", max_epoch=2, data=data)
    return corpus


def test_the_pipeline_runs_it_and_notices_new_recordings(
    pretraining: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(arguments) == 0
    done = {name: step["status"] for name, step in states(pretraining).items()}
    assert done == {"train:pretrain": "done", "train:align": "done"}
    capsys.readouterr()
    assert status.main(["--exp", str(pretraining / "exp/t")]) == 0
    shown = capsys.readouterr().out
    assert shown.index("train:pretrain") < shown.index("train:align")
    with (pretraining / "lots/feats.scp").open("a") as table:
        table.write("lots9 feats.ark:1\n")
    assert train.main(arguments) == 2
    pipeline, _ = train.build_pipeline(arguments, print)
    assert finished_stages(pipeline, None) == ["align"]
    with pytest.raises(ValueError, match="stage pretrain learns from speech alone"):
        finished_stages(pipeline, ["pretrain"])


def test_features_of_another_size_are_refused(
    pretraining: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (pretraining / "lots/feats_dim").write_text("40\n")
    assert train.main([*arguments, "--dry_run", "true"]) == 2
    assert "features of different sizes cannot train one model" in caplog.text
    assert "lots/feats_dim: 40" in caplog.text


def test_missing_recordings_are_named(
    pretraining: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (pretraining / "lots/feats.scp").unlink()
    assert train.main([*arguments, "--dry_run", "true"]) == 2
    assert str(pretraining / "lots/feats.scp") in caplog.text


def test_plan_counts_its_own_data(
    pretraining: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(pretraining, "pretrain", batch_type="sorted", batch_size=2)
    assert plan_command.main([*arguments, "--probe_steps", "0"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    # 4 utterances of 80 frames in batches of 2; the pipeline's are 6 of 50
    assert rows["pretrain"][1:6] == ["best_rq", "2", "2", "4", "160"]
    (pretraining / "stats_pretrain/train/speech_shape").unlink()
    with caplog.at_level(logging.WARNING):
        assert plan_command.main([*arguments, "--probe_steps", "0"]) == 0
    assert "is not measured yet (collect-stats)" in caplog.text
    change(pretraining, "pretrain", loss_conf={"mask_frames": 60})
    caplog.clear()
    assert plan_command.main([*arguments, "--probe_steps", "0"]) == 2
    assert "every utterance is shorter than loss_conf.mask_frames" in caplog.text


def test_a_pretrained_model_is_no_start_for_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("loss: masked_spectrogram\n")
    model = tmp_path / "model.pth"
    model.write_bytes(b"")
    options = RunOptions(*PATHS)

    def check(start: dict[str, Any]) -> None:
        stages = make_plan(config({"align": {"init_from": {"file": str(model), **start}}}))
        check_foreign_checkpoints(stages, options)

    with pytest.raises(ValueError, match=r"pretrained on speech alone .* parts: \[encoder\]"):
        check({})
    check({"parts": ["encoder"]})


def test_labels_are_no_part_of_the_sizes(pretraining: Path, arguments: list[str]) -> None:
    from espnet_plugin.planning.data_size import measured, of_stage

    pipeline, _ = train.build_pipeline(arguments, print)
    whole = measured(pipeline.options, "train")
    stages = list(pipeline.stages.values())
    found = of_stage(stages[0], whole, pipeline.options, "train")
    assert found.lengths.tolist() == [80] * 4
    assert not np.any(found.labels)
    assert of_stage(stages[1], whole, pipeline.options, "train") is whole
