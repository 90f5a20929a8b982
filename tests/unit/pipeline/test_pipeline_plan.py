"""Stage schedulers and steps: what follows what, and which plans are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.init_from import Ticket
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import (
    StageScheduler,
    make_plan,
    register_stage_scheduler,
    stage_scheduler_classes,
)
from espnet_plugin.pipeline.plan.stage_plan import (
    InitFrom,
    TrainStage,
    build_steps,
    make_stage,
    with_init,
)
from espnet_plugin.pipeline.steps.data_jobs import job_checks


def config(
    stages: dict[str, dict[str, Any]],
    scheduler: str = "progressive",
    conf: dict[str, Any] | None = None,
    **sections: Any,
) -> PipelineConfig:
    return PipelineConfig(Path("p.yaml"), scheduler, conf or {}, stages, **sections)


PATHS = [Path("exp"), Path("train"), Path("dev"), Path("stats")]
ALL: dict[str, dict[str, Any]] = {"align": {}, "viterbi": {}, "full_sum": {}, "mbr": {}}


def test_chosen_pronunciations_are_upstream_of_all_that_uses_them() -> None:
    sections: Any = {"alignment": {"variants": True, "realign": {"after": "full_sum"}}}
    cfg = config(ALL, **sections)
    steps = {step.name: step for step in build_steps(make_plan(cfg), cfg)}
    later = ("train:viterbi", "train:full_sum", "job:realignment", "job:nbest", "train:mbr")
    for name, step in steps.items():
        assert step.labels_step == ("job:alignment" if name in later else None), name
        assert ("job:alignment" in step.upstream) == (name in later), name
    sections["alignment"] = {"variants": True, "from_file": "somewhere"}
    with pytest.raises(ValueError, match="variants"):
        make_plan(config(ALL, **sections))


def test_progressive_chain() -> None:
    plan = make_plan(config(ALL))
    assert [(s.name, s.loss) for s in plan] == [
        ("align", "ctc"),
        ("viterbi", "viterbi"),
        ("full_sum", "full_sum"),
        ("mbr", "mbr"),
    ]
    assert plan[0].init_from is None
    assert plan[2].init_from == InitFrom("viterbi", exclude=("specaug",))


def test_steps_and_what_they_read() -> None:
    cfg = config(ALL)
    steps = build_steps(make_plan(cfg), cfg)
    assert [(s.name, s.stage, s.upstream) for s in steps] == [
        ("train:align", "align", ()),
        ("job:alignment", "align", ("train:align",)),
        ("train:viterbi", "viterbi", ("train:align", "job:alignment")),
        ("train:full_sum", "full_sum", ("train:viterbi",)),
        ("job:nbest", "full_sum", ("train:full_sum",)),
        ("train:mbr", "mbr", ("train:full_sum", "job:nbest")),
    ]


def test_realignment_feeds_the_viterbi_stages_after_it() -> None:
    cfg = config(
        {"align": {}, "viterbi": {}, "again": {"loss": "viterbi"}},
        conf={"stages": ["align", "viterbi", "again"]},
        alignment={"realign": {"after": "viterbi"}},
    )
    steps = {step.name: step for step in build_steps(make_plan(cfg), cfg)}
    assert steps["job:realignment"].upstream == ("train:viterbi", "job:alignment")
    assert steps["train:viterbi"].data_step == "job:alignment"
    assert steps["train:again"].data_step == "job:realignment"


def test_several_realignments() -> None:
    names = ["align", "viterbi", "again", "last"]
    losses = {"align": {}, "viterbi": {}, "again": {"loss": "viterbi"}, "last": {"loss": "viterbi"}}
    entries = [{"after": "viterbi"}, {"after": "again", "batch_size": 2}]
    cfg = config(losses, conf={"stages": names}, alignment={"realign": entries})
    steps = {step.name: step for step in build_steps(make_plan(cfg), cfg)}
    assert list(steps) == [
        *("train:align", "job:alignment", "train:viterbi", "job:realignment", "train:again"),
        *("job:realignment_again", "train:last"),
    ]
    assert steps["job:realignment"].upstream == ("train:viterbi", "job:alignment")
    assert steps["job:realignment_again"].upstream == ("train:again", "job:realignment")
    assert steps["train:last"].data_step == "job:realignment_again"


@pytest.mark.parametrize(
    ("realign", "message"),
    [
        ([{"after": "viterbi"}, {"after": "x"}], "realign.after names no planned stage: x"),
        ([{"after": "viterbi"}, {"after": "viterbi"}], "names a stage twice"),
        (["viterbi"], "must be {after: STAGE"),
        ([{"batch_size": 2}], "must be {after: STAGE"),
    ],
)
def test_impossible_realignments(realign: Any, message: str) -> None:
    cfg = config(ALL, alignment={"realign": realign})
    with pytest.raises(ValueError, match=message):
        build_steps(make_plan(cfg), cfg)


def test_every_mbr_stage_has_lists_of_the_model_before_it() -> None:
    names = ["align", "viterbi", "full_sum", "mbr", "second"]
    cfg = config({**ALL, "second": {"loss": "mbr"}}, conf={"stages": names})
    steps = {step.name: step for step in build_steps(make_plan(cfg), cfg)}
    assert list(steps)[-4:] == ["job:nbest", "train:mbr", "job:nbest_second", "train:second"]
    lists = steps["job:nbest_second"]
    assert (lists.kind, lists.folder, lists.stage) == ("nbest", "nbest_second", "mbr")
    assert (lists.consumer, steps["job:nbest"].consumer) == ("second", "mbr")
    assert steps["train:second"].data_step == "job:nbest_second"
    assert steps["train:mbr"].data_step == "job:nbest"


def test_full_sum_only_ignores_other_stages() -> None:
    plan = make_plan(config(ALL, "full_sum_only"))
    assert [s.name for s in plan] == ["full_sum"] and plan[0].init_from is None


def test_init_from_forms() -> None:
    def init(value: Any) -> InitFrom | None:
        stages = {"full_sum": {"loss": "full_sum", "init_from": value}}
        return make_stage("full_sum", config(stages), "v").init_from

    assert init(None) is None
    assert init("align") == InitFrom("align")
    assert init({"exclude": "a,b"}) == InitFrom("v", exclude=("a", "b"))
    assert init({"file": "x.pth", "exclude": []}) == InitFrom(None, file="x.pth", exclude=())
    with pytest.raises(ValueError, match="unknown keys"):
        init({"stge": "align"})


def test_stacked_starts_fit_their_stage_and_their_source() -> None:
    def plan(blocks: Any, own: int = 4) -> InitFrom | None:
        stages = {
            "align": {"encoder_conf": {"num_blocks": 2}},
            "viterbi": {"init_from": {"blocks": blocks}, "encoder_conf": {"num_blocks": own}},
        }
        return make_plan(config(stages, conf={"stages": list(stages)}))[1].init_from

    assert plan([0, 0, 1, 1]) == InitFrom("align", blocks=(0, 0, 1, 1))
    for blocks, own, message in (
        ([0, 0, 1], 4, "lists 3 blocks, but its encoder_conf.num_blocks is 4"),
        ([0, 1, 2, 1], 4, "names block 2, but stage align has blocks 0 to 1"),
        ([0, -1], 2, "counted from 0"),
        ([], 0, "counted from 0"),
        ("0,1", 2, "must be a list"),
        ([0, True], 2, "must be a list"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(blocks, own)


def test_a_ticket_fits_its_stage_and_the_search() -> None:
    def plan(ticket: Any, own: int = 64, there: int = 128, slim: Any = None, **more: Any) -> Any:
        stages = {
            "align": {"encoder_conf": {"linear_units": there}, "accelerators": {"slim": slim}},
            "viterbi": {
                "init_from": {"ticket": ticket, **more},
                "encoder_conf": {"linear_units": own},
            },
        }
        return make_plan(config(stages, conf={"stages": list(stages)}))[1].init_from

    assert plan({"units": 64}, slim={}) == InitFrom("align", ticket=Ticket(64))
    for message, given in (
        ("makes 64 units, but its encoder_conf.linear_units is 32", {"own": 32, "slim": {}}),
        ("keeps 64 units, but stage align has only 64", {"there": 64, "slim": {}}),
        (r"stage align has none; give it accelerators: {slim", {}),
        ("does not go together with", {"slim": {}, "blocks": [0]}),
        ("does not go together with", {"slim": {}, "file": "x.pth"}),
    ):
        with pytest.raises(ValueError, match=message):
            plan({"units": 64}, **given)
    for ticket in (64, {}, {"units": 64, "layers": 3}):
        with pytest.raises(ValueError, match="must be a mapping with units"):
            plan(ticket, slim={})
    for ticket, message in (({"units": 0}, "number of units"), ({"units": 1, "rank": "x"}, "rank")):
        with pytest.raises(ValueError, match=message):
            plan(ticket, slim={})


def test_extended_vocabularies_start_stages_without_alignment() -> None:
    def plan(loss: str, **init: Any) -> Any:
        stages = {"first": {"loss": loss, "init_from": {"vocabulary": "extend", **init}}}
        return make_plan(config(stages, conf={"stages": ["first"]}))[0].init_from

    assert plan("full_sum", model="m.zip") == InitFrom(None, model="m.zip", vocabulary="extend")
    with pytest.raises(ValueError, match="needs an alignment"):
        plan("viterbi", model="m.zip")
    with pytest.raises(ValueError, match="vocabulary is extend, with model or file"):
        plan("full_sum", model="m.zip", vocabulary="shrink")
    with pytest.raises(ValueError, match="vocabulary is extend, with model or file"):
        plan("full_sum", stage="align")


def test_models_from_elsewhere() -> None:
    def init(value: Any) -> InitFrom:
        stages = {"full_sum": {"loss": "full_sum", "init_from": value}}
        made = make_stage("full_sum", config(stages), "v").init_from
        assert made is not None
        return made

    for place in ("owner/name", "owner/name@v1", "model.zip", "exp/tag", "a/b.pth"):
        assert init(place) == InitFrom(None, model=place) and init(place).external
    assert not init("align").external
    encoder = init({"model": "m.zip", "parts": "encoder"})
    assert encoder.fits_any_vocabulary and not init("m.zip").fits_any_vocabulary
    left_out = ("specaug", "ctc.", "intermediate_output.", "decoder.", "joint_network.")
    assert encoder.exclude == left_out
    joint = init({"model": "m.zip", "parts": ["encoder", "joint"]})
    assert "joint_network." not in joint.exclude and not joint.fits_any_vocabulary
    with pytest.raises(ValueError, match="parts must name some of encoder, encoder_output"):
        init({"parts": "decoder"})
    with pytest.raises(ValueError, match="one of stage, file and model"):
        init({"model": "m.zip", "file": "x.pth"})


def test_a_first_stage_has_its_data_made_by_the_model_it_starts_from() -> None:
    cfg = config({"viterbi": {"init_from": "m.zip"}, "mbr": {}}, alignment={"source": "transducer"})
    steps = {step.name: step for step in build_steps(make_plan(cfg), cfg)}
    assert list(steps) == ["job:alignment", "train:viterbi", "job:nbest", "train:mbr"]
    job = steps["job:alignment"]
    assert (job.stage, job.start, job.upstream) == (None, "viterbi", ())
    assert (steps["job:nbest"].stage, steps["job:nbest"].start) == ("viterbi", None)
    alone = config({"mbr": {"init_from": "owner/name"}})
    assert build_steps(make_plan(alone), alone)[0].start == "mbr"
    after_aligner = config({"align": {}, "mbr": {"init_from": "owner/name"}})
    assert build_steps(make_plan(after_aligner), after_aligner)[1].start == "mbr"
    encoder = config({"mbr": {"init_from": {"model": "m.zip", "parts": "encoder"}}})
    with pytest.raises(ValueError, match="needs N-best lists, but no transducer stage"):
        make_plan(encoder)


def test_init_from_on_the_command_line() -> None:
    changed = with_init(config(ALL), "viterbi", "m.zip", "encoder")
    plan = {stage.name: stage for stage in make_plan(changed)}
    assert plan["viterbi"].init_from is not None and plan["viterbi"].init_from.model == "m.zip"
    assert plan["full_sum"].init_from == InitFrom("viterbi")
    with pytest.raises(ValueError, match="--init_from_stage mbrr: the stages are align"):
        with_init(config(ALL), "mbrr", "m.zip", None)


def test_external_alignment_needs_no_aligner() -> None:
    cfg = config({"viterbi": {}}, alignment={"from_file": "mine"})
    steps = build_steps(make_plan(cfg), cfg)
    assert [s.name for s in steps] == ["job:alignment", "train:viterbi"]
    assert steps[0].stage is None
    # and yet a misspelt key of its section is found before anything runs
    wrong = config({"viterbi": {}}, alignment={"from_file": "mine", "prior_scal": 0.3})
    stages = {stage.name: stage for stage in make_plan(wrong)}
    found = job_checks(build_steps(make_plan(wrong), wrong), wrong, stages, RunOptions(*PATHS))
    assert found["job:alignment"][-2:] == ["--prior_scal", "0.3"]


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (config({"viterbi": {}}), "needs an alignment, but no stage before it"),
        (config({"align": {}, "mbr": {}}), "needs N-best lists, but no transducer stage"),
        (config(ALL, conf={"stages": ["align", "nothing"]}), "stage 'nothing', but train_stages"),
        (config({**ALL, "extra": {}}), "train_stages has extra"),
        (config(ALL, conf={"order": []}), "stage_scheduler_conf"),
        (config(ALL, "progresive"), "unknown stage_scheduler 'progresive'; known: full_sum_only"),
        (config({"align": {"loss": "ctcc"}}), "unknown loss 'ctcc'"),
        (config({"align": {"max_steps": 3, "hours": 1}}), "one budget"),
        (config({"full_sum": {"init_from": "mbr"}}), "starts from stage mbr, which does not come"),
        (config(ALL, alignment={"realign": {"after": "x"}}), "realign.after names no planned"),
    ],
)
def test_impossible_plans(cfg: PipelineConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(cfg)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((n, "keeps things of its own") for n in ("conf", "decode", "plan", "probe", "report")),
        *((n, "keeps things of its own") for n in ("scales", "word_times", "..", "realignment")),
        *((n, "keeps things of its own") for n in ("alignment", "nbest", "nbest_second")),
        *((n, f"--{n}_args are not those of one") for n in ("asr", "inference", "lm")),
    ],
)
def test_names_that_mean_something_else_are_no_stages(name: str, message: str) -> None:
    cfg = config({name: {"loss": "ctc"}}, conf={"stages": [name]})
    with pytest.raises(ValueError, match=rf"p\.yaml: train_stages\..*stage .*{message}"):
        make_plan(cfg)


@pytest.mark.parametrize("name", ["aligner", "nbests", "asr2", "reports", "full_sum_long"])
def test_names_that_only_look_alike_are_free(name: str) -> None:
    assert make_plan(config({name: {"loss": "ctc"}}, conf={"stages": [name]}))[0].name == name


def test_own_scheduler_can_be_registered() -> None:
    @register_stage_scheduler("Backwards")
    class Backwards(StageScheduler):
        def stages(self, config: PipelineConfig) -> list[TrainStage]:
            return [make_stage("full_sum", config, None, "full_sum")]

    try:
        assert [s.name for s in make_plan(config(ALL, "backwards"))] == ["full_sum"]
        assert make_plan(config(ALL, "pathlib:backwards"))[0].name == "full_sum"
        with pytest.raises(ValueError, match="cannot import no_such_module"):
            make_plan(config(ALL, "no_such_module:backwards"))
        with pytest.raises(ValueError, match="is taken"):
            register_stage_scheduler("backwards")(type("Other", (Backwards,), {}))
    finally:
        del stage_scheduler_classes["backwards"]
