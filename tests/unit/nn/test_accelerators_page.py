"""Every YAML of docs/accelerators.md: a pipeline's, and two steps of training with what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.nn.accelerators import Progress, accelerator_names
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from tests.tiny_model import write_model
from tests.unit.data.test_stream_reader import COMMAND
from tests.unit.models.test_progressive import aligned
from tests.unit.nn import test_irreducible
from tests.unit.nn.test_accelerators import task_args
from tests.unit.nn.test_repa import write

PAGE = Path(__file__).parents[3] / "docs" / "accelerators.md"
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def stages(text: str, folder: Path) -> dict[str, Any]:
    """The stages of a snippet's pipeline."""
    raw = yaml.safe_load(text)
    raw.setdefault("train_stages", {"full_sum": {"loss": "full_sum"}})
    raw.setdefault("stage_scheduler_conf", {"stages": list(raw["train_stages"])})
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    config = load_pipeline_config(folder / "pipeline.yaml")
    assert [stage.name for stage in make_plan(config)] == list(config.train_stages)
    return dict(config.train_stages)


def test_the_page_shows_every_accelerator() -> None:
    shown = {
        name
        for text in SNIPPETS
        for section in [yaml.safe_load(text)]
        for options in [section.get("base", {}), *(section.get("train_stages") or {}).values()]
        for name in options.get("accelerators") or {}
    }
    built_in = {name for name in accelerator_names() if "of_this_test" not in name}
    assert built_in <= shown


def streamed(args: Any, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A batch of the stream that a snippet asks for, from a producer of features."""
    from espnet2.train.distributed_utils import DistributedOption

    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args.stream = {**options["stream"], "command": COMMAND, "pool": 4}
    args.num_iters_per_epoch = options["num_iters_per_epoch"]
    args.output_dir, args.token_type, args.use_preprocessor = str(folder), "char", True
    args.token_list = ["<blank>", "<unk>", *"ABC", "<space>", "<sos/eos>"]
    ProgressiveASRTask.check_stream(args)
    factory = ProgressiveASRTask.build_iter_factory(args, DistributedOption(), "train")
    try:
        (names, batch), *_ = factory.build_iter(1)
    finally:
        factory.close()
    return {**batch, "utt_id": names}


def test_the_page_shows_a_stream() -> None:
    assert any("stream:" in text for text in SNIPPETS)


@pytest.mark.parametrize("text", SNIPPETS, ids=range(len(SNIPPETS)))
def test_two_steps_of_each_snippet(text: str, tmp_path: Path) -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    for name, options in stages(text, tmp_path).items():
        loss = options.get("loss", {"align": "ctc", "viterbi": "viterbi"}.get(name, "full_sum"))
        torch.manual_seed(0)
        given = {k: options[k] for k in ("accelerators", "optim", "optim_conf") if k in options}
        args = task_args(loss=loss, loss_conf=options.get("loss_conf", {}), **given)
        if "repa" in args.accelerators:
            frames = torch.zeros(1, 16)
            args.accelerators["repa"]["codes"] = write(
                tmp_path, {"first": frames.expand(12, 16), "second": frames.expand(9, 16)},
                books=16, codes=256,
            )  # fmt: skip
        if "irreducible" in args.accelerators.get("selective", {}):
            folder = test_irreducible.write(tmp_path, {"first": 1.0, "second": 2.0}, loss=loss)
            args.accelerators["selective"]["irreducible"] = folder
        args.encoder_conf |= {"cnn_module_kernel": 15, "dropout_rate": 0.1, "num_blocks": 4}
        args.encoder_conf |= options.get("encoder_conf") or {}
        args.encoder_conf["interctc_layer_idx"] = []
        if "distill" in args.accelerators:
            options = {"token_list": list(args.token_list), "encoder_conf": args.encoder_conf}
            _, trained = write_model(tmp_path / "first", **options)
            args.accelerators["distill"]["model"] = str(trained)
        plain = ProgressiveASRTask.build_model(args)
        model = ProgressiveASRTask.build_model(args)
        (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        batch = aligned()
        if options.get("stream"):
            batch = streamed(args, options, tmp_path)
        if loss != "viterbi":
            batch = {k: v for k, v in batch.items() if not k.startswith("alignment")}
        if loss == "best_rq":
            batch = {k: v for k, v in batch.items() if not k.startswith("text")}
            assert model.criterion.mask_frames == 40  # few of 48 frames can begin a mask
            model.criterion.mask_prob = 0.9
        for number in range(2):
            model.train()
            model.accelerators.before_batch(Progress(1, number, 2, 1))
            optimizer.zero_grad()
            value = model(**batch)[0]
            assert torch.isfinite(value)
            value.backward()
            optimizer.step()
        after = model.state_dict()
        assert list(after) == list(plain.state_dict())
        assert any(not torch.equal(before[key], after[key]) for key in after)
