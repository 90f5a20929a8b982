"""The probe itself: operations and memory of tiny models against what they must be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.jobs import step_probe as command
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.reference_system import (
    REFERENCE_SECONDS,
    measure_reference_step,
    measurement_stamp,
    read_reference_step,
    reference_hours,
    write_reference_step,
)
from espnet_plugin.planning.data_size import assumed
from espnet_plugin.planning.probe_job import probe_arguments
from espnet_plugin.planning.probe_result import Probe
from espnet_plugin.tasks.step_probe import ProbeBatch, flop_counter, probe_stage

MODEL = {
    "frontend_conf": {"n_fft": 400, "hop_length": 160, "n_mels": 20},
    "encoder": "progressive_conformer",
    "encoder_conf": {
        "output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 2,
        "vgg_channels": [2, 2, 2], "macaron_style": True, "rel_pos_type": "latest",
        "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn",
        "cnn_module_kernel": 3, "interctc_layer_idx": [1],
    },
    "decoder": "feedforward_prediction",
    "decoder_conf": {"embed_size": 4, "hidden_size": 8, "num_layers": 1},
    "model": "progressive_transducer",
    "model_conf": {"joint_conf": {"joint_size": 8}},
    "optim": "nadam",
}  # fmt: skip


def arguments(folder: Path, loss: str, **conf: object) -> list[str]:
    options = RunOptions(folder / "exp", folder, folder, folder / "stats")
    train = assumed(1.0, 1.0, 5.0, 23, options)
    stage = TrainStage(loss, loss, {**MODEL, "loss": loss, "loss_conf": conf}, None)
    return probe_arguments(stage, train, options, folder)


@pytest.mark.parametrize(
    ("loss", "conf"),
    [
        ("ctc", {}),
        ("viterbi", {"chunk_size": 8, "chunk_hop": 4}),
        ("full_sum", {}),
        ("mbr", {}),
        ("lf_mmi", {}),
    ],
)
def test_every_loss_is_probed(loss: str, conf: dict[str, int], tmp_path: Path) -> None:
    given = arguments(tmp_path, loss, **conf)
    batches = [ProbeBatch(n, 16000, 5, n * 100.0) for n in (1, 3)]
    one, three = (probe_stage(given, batch, 1, torch.device("cpu")) for batch in batches)
    assert one.error is None and one.seconds > 0 and one.optimizer_seconds > 0
    # NAdam keeps two moments: parameters, their gradients (of the ones in use) and both moments
    assert 4 * one.parameters < one.state_bytes < 5 * 4 * one.parameters
    assert one.launches > 100
    # work and memory grow with the batch, not more than it does
    assert 2.0 < three.flops / one.flops < 3.2
    assert 2.0 < three.activation_bytes / one.activation_bytes < 3.5
    assert one.peak_bytes is None


def test_accelerators_are_in_the_probed_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plan promises must be what training does: bfloat16 products, in this case."""
    seen = set()
    from espnet_plugin.nn.joint import JointNetwork
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    build = ProgressiveASRTask.build_model

    def spied(args):  # type: ignore[no-untyped-def]
        model = build(args)
        assert isinstance(model.joint_network, JointNetwork)
        layer = model.encoder.encoders[0].feed_forward.w_1
        layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        return model

    monkeypatch.setattr(ProgressiveASRTask, "build_model", spied)
    given = arguments(tmp_path, "full_sum")
    path = Path(given[given.index("--config") + 1])
    config = {**yaml.safe_load(path.read_text()), "accelerators": {"precision": {}}}
    path.write_text(yaml.safe_dump(config))
    probe_stage(given, ProbeBatch(2, 16000, 5, 200.0), 1, torch.device("cpu"))
    assert seen == {torch.bfloat16}


def test_operations_are_those_of_the_products(tmp_path: Path) -> None:
    """Twice the blocks: the difference is two blocks' products, forward and twice backward."""
    batch = ProbeBatch(1, 16000, 5, 100.0)
    deep = {**MODEL["encoder_conf"], "num_blocks": 4}
    shallow = probe_stage(arguments(tmp_path, "ctc"), batch, 1, torch.device("cpu"))
    MODEL["encoder_conf"], before = deep, MODEL["encoder_conf"]
    try:
        more = probe_stage(arguments(tmp_path, "ctc"), batch, 1, torch.device("cpu"))
    finally:
        MODEL["encoder_conf"] = before
    weights = 4 * 16 * 32 + 4 * 16 * 16 + 3 * 16 * 16  # two FF, attention, convolution module
    frames = 26  # ceil(101 / 4)
    least = 2 * 3 * 2 * weights * frames
    # the rest is attention over 26 x 51 positions and the depthwise convolution
    assert least < more.flops - shallow.flops < 2.0 * least


@pytest.mark.parametrize(
    ("layer", "products"),
    [
        (torch.nn.Conv1d(8, 12, 5, padding=2), 8 * 12 * 5 * 20),
        (torch.nn.Conv1d(8, 8, 5, padding=2, groups=8), 8 * 5 * 20),
        (torch.nn.ConvTranspose1d(8, 6, 5, stride=2), 8 * 6 * 5 * 20),
        (torch.nn.Conv1d(8, 12, 3, stride=2, padding=1, groups=4), 2 * 12 * 3 * 10),
    ],
    ids=["plain", "depthwise", "transposed", "strided groups"],
)
def test_convolutions_count_their_groups(layer: torch.nn.Module, products: int) -> None:
    """Forward, gradient of the input, gradient of the weight: the same number of products each."""
    inputs = torch.randn(3, 8, 20, requires_grad=True)
    with flop_counter() as counter:
        layer(inputs).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 3 * products


def test_the_command_writes_a_probe(tmp_path: Path) -> None:
    spec = {
        "ngpu": 0,
        "steps": 1,
        "output": str(tmp_path / "probe.json"),
        "stages": {
            "s": {
                "arguments": arguments(tmp_path, "ctc"),
                "batch": {"utterances": 1, "length": 16000, "labels": 5, "frames": 100.0},
            }
        },
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert command.main([str(tmp_path / "spec.json")]) == 0
    found = Probe.load(tmp_path / "probe.json")
    assert found.kind == "cpu" and found.memory_bytes > 1 << 28 and found.product_rate > 1e8
    assert found.stages["s"].frames == 100.0 and found.stages["s"].error is None


def test_configurations_do_not_wait_for_data(tmp_path: Path) -> None:
    given = arguments(tmp_path, "ctc")
    config = yaml.safe_load((tmp_path / "ctc.yaml").read_text())
    assert config["normalize"] is None and config["frontend_conf"]["fs"] == 16000
    assert len(Path(given[given.index("--token_list") + 1]).read_text().split()) == 23


def test_reference_step(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first, second = tmp_path / "exp/align", tmp_path / "exp/viterbi"
    write_reference_step(first, "cpu")
    assert torch.equal(torch.get_rng_state(), state), "a training must not notice it"
    seconds = read_reference_step(first)
    assert seconds is not None and seconds > 0
    assert read_reference_step(first, measurement_stamp(first)) is None  # no newer one
    assert read_reference_step(tmp_path) is None
    # a stage that begins minutes later need not measure again; another machine must
    (first / "reference_step.json").write_text(
        (first / "reference_step.json").read_text().replace(str(seconds), "12.5")
    )
    write_reference_step(second, "cpu")
    assert read_reference_step(second) == 12.5
    for path in (first, second):
        text = (path / "reference_step.json").read_text()
        (path / "reference_step.json").write_text(text.replace('"host": "', '"host": "other'))
    write_reference_step(second, "cpu")
    assert read_reference_step(second) != 12.5
    # ten hours on a machine that is twice as slow as the reference system
    assert reference_hours(36000, 2 * REFERENCE_SECONDS) == pytest.approx(5)
    with pytest.raises(ValueError, match="must be positive"):
        reference_hours(1.0, 0.0)
    assert measure_reference_step(repeats=1) > 0
