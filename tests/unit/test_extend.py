"""What a package of one's own registers: losses in the plan, ESPnet's tables, stage schedulers."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin import extend
from espnet_plugin.models import criteria
from espnet_plugin.nn.prediction import FeedForwardPrediction
from espnet_plugin.pipeline.plan import losses
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.losses import BUILT_IN, find_loss, register_loss
from espnet_plugin.pipeline.plan.scheduler import make_plan, stage_scheduler_classes


class Contrast(criteria.FullSumCriterion):
    """A loss that needs an alignment, and variants of words where its option `smooth` is set."""

    needs = ("alignment",)
    option_needs = {"smooth": ("variants",)}  # noqa: RUF012


class Ranked(criteria.FullSumCriterion):
    needs = ("nbest", "nbest_lm", "nbest_risk")


class OnEncoder(criteria.FullSumCriterion):
    searches_encoder = True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Names registered in a test are gone after it."""
    before = dict(losses._losses)
    yield
    losses._losses.clear()
    losses._losses.update(before)


def plan(stages: dict[str, dict[str, Any]], scheduler: str = "progressive") -> Any:
    conf = {"stages": list(stages)} if scheduler == "progressive" else {}
    return make_plan(PipelineConfig(Path("p.yaml"), scheduler, conf, stages))


def test_every_name_of_the_public_module_is_there() -> None:
    for name in extend.__all__:
        assert getattr(extend, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        extend.no_such_name  # noqa: B018


def test_registering_a_loss_imports_no_espnet_and_planning_no_torch() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from espnet_plugin.pipeline.plan.config import PipelineConfig\n"
        "from espnet_plugin.pipeline.plan.scheduler import make_plan\n"
        "names = dict.fromkeys(('align', 'viterbi', 'full_sum', 'mbr'), {})\n"
        "plan = make_plan(PipelineConfig(Path('p'), 'progressive', {}, names))\n"
        "assert [s.needs for s in plan] == [None, 'alignment', None, 'nbest']\n"
        "assert 'torch' not in sys.modules\n"
        "from espnet_plugin.extend import Criterion, register_encoder, register_loss\n"
        "register_loss('plain', type('Plain', (Criterion,), {}))\n"
        "register_encoder('lazy', 'no_such_module:Encoder')\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('espnet', 'espnet2')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_classes_of_this_package_say_what_the_plan_knows_of_them() -> None:
    for name, loss in BUILT_IN.items():
        found: Any = loss.load()
        assert found.needs == loss.needs and found.searches_encoder == loss.searches_encoder, name
        assert dict(found.option_needs) == dict(loss.option_needs), name
    from espnet_plugin.tasks.progressive import build_criterion

    options = {"variants": True}
    built = build_criterion(argparse.Namespace(loss="ctc", loss_conf=options))
    assert built.needs == ("variants",) and criteria.CTCCriterion.needs == ()


def test_the_plan_reads_a_losss_needs_off_its_class() -> None:
    register_loss("Contrast", Contrast)
    register_loss("ranked", Ranked)
    register_loss("on_encoder", OnEncoder)
    stages = {"align": {"loss": "ctc"}, "mine": {"loss": "contrast"}, "list": {"loss": "ranked"}}
    assert [stage.needs for stage in plan(stages)] == [None, "alignment", "nbest"]
    with pytest.raises(ValueError, match="stage mine needs an alignment"):
        plan({"mine": {"loss": "contrast"}})
    with pytest.raises(ValueError, match="no transducer stage"):
        plan({"first": {"loss": "on_encoder"}, "list": {"loss": "ranked"}})
    loss = find_loss("contrast")
    assert loss.needs_with({"smooth": 0.1}) == ("alignment", "variants")
    assert loss.needs_with({"smooth": 0}) == ("alignment",)


def test_a_loss_that_wants_both_kinds_of_data_is_refused() -> None:
    register_loss("both", type("Both", (Ranked,), {"needs": ("alignment", "nbest")}))
    with pytest.raises(ValueError, match="needs an alignment and N-best lists"):
        plan({"align": {"loss": "ctc"}, "mine": {"loss": "both"}})


def test_names_that_are_taken_or_unknown() -> None:
    register_loss("contrast", Contrast)
    register_loss("contrast", Contrast)  # the same once more
    with pytest.raises(ValueError, match=r"'contrast' is .*Contrast.* already"):
        register_loss("CONTRAST", Ranked)
    with pytest.raises(ValueError, match=r"'full_sum' is .* already"):
        register_loss("full_sum", Contrast)
    with pytest.raises(ValueError, match=r"derived from espnet_plugin\.extend\.Criterion"):
        register_loss("odd", dict)
    with pytest.raises(ValueError, match=r"'contras' \(did you mean contrast\?\).*imports:"):
        plan({"mine": {"loss": "contras"}})


def test_the_task_trains_with_a_registered_loss() -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask, build_criterion

    parser = ProgressiveASRTask.get_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["--loss", "contrast"])
    register_loss("contrast", Contrast)  # after the task was imported
    args = ProgressiveASRTask.get_parser().parse_args(
        ["--output_dir", "o", "--loss", "contrast", "--loss_conf", "encoder_scale=0.5"]
    )
    criterion = build_criterion(args)
    assert isinstance(criterion, Contrast) and criterion.encoder_scale == 0.5
    register_loss("odd", type("Odd", (), {"needs": ()}))
    with pytest.raises(ValueError, match="does not derive from Criterion"):
        build_criterion(argparse.Namespace(loss="odd"))


class Sum(FeedForwardPrediction):
    """A prediction network of another package."""

    def __init__(self, vocab_size: int, size: int = 6) -> None:
        super().__init__(vocab_size, 4, size)


def test_classes_for_espnets_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    from espnet2.asr.encoder.rnn_encoder import RNNEncoder
    from espnet2.tasks import abs_task, asr
    from torch.optim.lr_scheduler import StepLR

    from espnet_plugin.models.progressive import ProgressiveTransducerModel
    from espnet_plugin.tasks import registry
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    monkeypatch.setattr(registry, "_theirs", {})
    added = {
        "mine_model": (asr.model_choices.classes, extend.register_model),
        "mine_encoder": (asr.encoder_choices.classes, extend.register_encoder),
        "mine_network": (asr.decoder_choices.classes, extend.register_prediction_network),
        "mine_curve": (abs_task.scheduler_classes, extend.register_scheduler),
    }
    classes: dict[str, Any] = {
        "mine_model": type("Model", (ProgressiveTransducerModel,), {}),
        "mine_encoder": f"{RNNEncoder.__module__}:RNNEncoder",  # imported only where it is needed
        "mine_network": Sum,
        "mine_curve": StepLR,
    }
    try:
        for name, (_, add) in added.items():
            add(name, classes[name])
            add(name.upper(), classes[name])  # the same once more; ESPnet lower-cases
        assert asr.encoder_choices.classes["mine_encoder"] is RNNEncoder
        decoder = asr.decoder_choices.get_class("mine_network")(9, encoder_output_size=5, size=7)
        assert decoder.odim == 9 and decoder.dunits == 7
        assert decoder(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 4, 7)
        args = ["--output_dir", "o", "--decoder", "mine_network", "--encoder", "mine_encoder"]
        args += ["--model", "mine_model", "--scheduler", "mine_curve"]
        assert ProgressiveASRTask.get_parser().parse_args(args).model == "mine_model"
        with pytest.raises(ValueError, match=r"is .* already"):
            extend.register_encoder("mine_encoder", dict)
        with pytest.raises(ValueError, match=r"'conformer' is .* already"):
            extend.register_encoder("conformer", RNNEncoder)
        with pytest.raises(ValueError, match="must derive from PredictionNetwork"):
            extend.register_prediction_network("odd", RNNEncoder)
    finally:
        for name, (table, _) in added.items():
            table.pop(name, None)


def test_what_was_registered_before_espnet_came_is_there_when_it_has_come() -> None:
    code = (
        "from espnet_plugin.extend import register_scheduler\n"
        "register_scheduler('mine', 'torch.optim.lr_scheduler:StepLR')\n"
        "import espnet2.tasks.asr\n"
        "from espnet2.tasks import abs_task\n"
        "assert abs_task.scheduler_classes['mine'].__name__ == 'StepLR'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_stage_scheduler_without_the_decorator() -> None:
    class Backwards(extend.StageScheduler):  # type: ignore[misc]
        def stages(self, config: PipelineConfig) -> Any:
            return [extend.make_stage("full_sum", config, None, "full_sum")]

    try:
        extend.register_stage_scheduler("only_last", Backwards)
        assert [stage.name for stage in plan({"full_sum": {}}, "only_last")] == ["full_sum"]
    finally:
        del stage_scheduler_classes["only_last"]


class BySpeaker(criteria.FullSumCriterion):
    """A loss that needs data of its own, with an option."""

    option_needs = {"speakers": ("speaker",)}  # noqa: RUF012

    def __init__(self, speakers: bool = False) -> None:
        super().__init__()

    def __call__(self, model: Any, batch: Any) -> Any:
        loss, stats, weight = super().__call__(model, batch)
        return loss + batch.data["speaker"].float().mean(), stats, weight


def test_a_loss_with_data_of_its_own() -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from tests.unit.models.test_progressive import build, data

    assert "speaker" not in ProgressiveASRTask.optional_data_names()
    register_loss("by_speaker", BySpeaker)
    assert "speaker" in ProgressiveASRTask.optional_data_names()
    assert plan({"mine": {"loss": "by_speaker"}})[0].needs is None, "the pipeline makes none of it"
    model, plain = build("by_speaker", {"speakers": True}), build()
    speaker = {"speaker": torch.tensor([[3], [5]]), "speaker_lengths": torch.tensor([1, 1])}
    torch.testing.assert_close(model(**data(), **speaker)[0], plain(**data())[0] + 4.0)
    with pytest.raises(ValueError, match="needs the data 'speaker'"):
        model(**data())
