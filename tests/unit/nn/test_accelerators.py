"""Accelerators: names and options, schedules, draws, and what they leave alone."""

from __future__ import annotations

import argparse
import copy
import math

import pytest
import torch
from torch import nn

from espnet_plugin.nn.accelerators import (
    Accelerator,
    AttachedAccelerators,
    Host,
    Progress,
    build_accelerators,
    register_accelerator,
)
from espnet_plugin.nn.accelerators.attached import AnnouncedBatches
from espnet_plugin.nn.accelerators.base import stateless_generator
from espnet_plugin.nn.accelerators.fast_dropout import draw_keep
from espnet_plugin.nn.accelerators.layer_drop import keep_probabilities


class Block(nn.Module):
    """A residual block with ESPnet's signature."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(6, 6), nn.Dropout(0.5)

    def forward(self, x, mask):
        return x + self.dropout(self.linear(x)), mask


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x):
        for block in self.encoders:
            x, _ = block(x, None)
        return x


def attached(model, options, loss="full_sum", **host):
    given = Host(model, list(model.encoders), loss, seed=1, **host)
    return AttachedAccelerators(options, given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layerdrop": {}}, "did you mean layer_drop"),
        ({"layer_drop": {"teta": 0.5}}, "did you mean theta"),
        ({"layer_drop": {"theta": 0.0}}, "above 0"),
        ({"layer_drop": {"first": 2}}, "first is 0 or 1"),
        ({"layer_drop": 0.5}, "must be a mapping"),
        ({"precision": {"autocast": "float16"}}, "must be one of"),
        ({"precision": {"until": 1.5}}, "share of the stage"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message) as error:
        build_accelerators(options)
    assert f"accelerators.{next(iter(options))}" in str(error.value)


def test_none_switches_one_off():
    assert build_accelerators({"layer_drop": None, "precision": {}}).keys() == {"precision"}


def test_a_loss_that_an_accelerator_does_not_serve_is_refused():
    class OnlyCTC(Accelerator):
        losses = ("ctc",)

        def attach(self, host):
            pass

    register_accelerator("only_ctc_of_this_test", OnlyCTC)
    register_accelerator("only_ctc_of_this_test", OnlyCTC)  # the same once more
    with pytest.raises(ValueError, match="works with loss ctc, not with full_sum"):
        attached(Model(), {"only_ctc_of_this_test": {}})
    assert attached(Model(), {"only_ctc_of_this_test": {}}, loss="ctc")
    with pytest.raises(ValueError, match=r"is .*OnlyCTC already"):
        register_accelerator("only_ctc_of_this_test", type("Other", (OnlyCTC,), {}))


def test_use_amp_and_precision_together_are_refused():
    with pytest.raises(ValueError, match=r"accelerators.precision: use_amp"):
        attached(Model(), {"precision": {}}, use_amp=True)


def test_state_dict_is_the_plain_models():
    plain, model = Model(), Model()
    attached(model, {"layer_drop": {}, "precision": {}, "fast_dropout": {}})
    assert list(model.state_dict()) == list(plain.state_dict())
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_progress_counts_batches_and_updates():
    assert Progress(1, 0, 10, 5).fraction == 0.0
    assert Progress(3, 5, 10, 5).fraction == 0.5
    assert [Progress(1, i, 10, 5, accum_grad=3).update for i in range(5)] == [0, 0, 0, 1, 1]


def test_draws_depend_on_the_update_alone():
    def draw(*place, purpose="a", seed=1):
        return torch.rand(3, generator=stateless_generator(seed, Progress(*place), purpose))

    first = draw(2, 4, 10, 5, 2)
    torch.rand(7)  # the global generator does not matter
    assert torch.equal(first, draw(2, 5, 10, 5, 2))  # the other batch of the same update
    for other in (draw(2, 6, 10, 5, 2), draw(3, 4, 10, 5, 2), draw(2, 4, 10, 5, 2, purpose="b")):
        assert not torch.equal(first, other)
    assert not torch.equal(first, draw(2, 4, 10, 5, 2, seed=2))


def test_layer_drop_leaves_the_global_generator_alone():
    accelerators = attached(Model(), {"layer_drop": {}})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    accelerators.before_batch(Progress(1, 3, 10, 5))
    assert torch.equal(before, torch.get_rng_state())


def test_keep_probabilities_by_hand():
    # theta(0.5) = 0.5 + 0.5 exp(-50), so p_i = 1 - i/4 * 0.5
    found = keep_probabilities(4, theta=0.5, warm=100.0, first=1, t=0.5)
    assert found == pytest.approx([0.875, 0.75, 0.625, 0.5])
    assert keep_probabilities(4, 0.5, 100.0, 0, 0.5) == pytest.approx([1.0, 0.875, 0.75, 0.625])
    assert keep_probabilities(4, 0.5, 100.0, 1, 0.0) == [1.0] * 4
    now = 0.5 * math.exp(-2.0) + 0.5
    assert keep_probabilities(1, 0.5, 100.0, 1, 0.02) == pytest.approx([now])


@pytest.mark.parametrize("t", [0.0, 0.02, 0.5])
def test_layer_drop_runs_blocks_as_often_as_it_says(t):
    accelerators = attached(Model(), {"layer_drop": {}})
    (layer_drop,) = accelerators._by_name.values()
    draws = 10_000
    counts = torch.zeros(4)
    for update in range(draws):
        # the same progress each time, another update
        layer_drop._seed = update
        accelerators.before_batch(Progress(1, round(t * 1000), 1000, 1))
        counts += torch.tensor(layer_drop._kept)
    for count, p in zip(counts.tolist(), keep_probabilities(4, 0.5, 100.0, 1, t), strict=True):
        assert abs(count - draws * p) <= 3 * math.sqrt(draws * p * (1 - p)) + 1e-9


def test_a_skipped_block_hands_on_its_input():
    model = Model()
    accelerators = attached(model, {"layer_drop": {"theta": 0.01, "warm": 1e6}})
    accelerators.before_batch(Progress(1, 5, 10, 1))
    (layer_drop,) = accelerators._by_name.values()
    layer_drop._kept = [True, False, True, False]
    model.train()
    x = torch.randn(2, 3, 6)
    model(x).sum().backward()
    ran = [block.linear.weight.grad is not None for block in model.encoders]
    assert ran == [True, False, True, False]
    assert model.encoders[1](x, "mask")[0] is x
    model.eval()
    assert not torch.equal(model.encoders[1](x, None)[0], x)  # decoding runs all blocks


@pytest.mark.parametrize(
    "options", [{"layer_drop": {"theta": 1.0}}, {"precision": {"autocast": "float32"}}]
)
def test_strength_zero_is_bitwise_plain(options):
    plain, model = Model(), Model()
    accelerators = attached(model, options)
    accelerators.before_batch(Progress(1, 5, 10, 1))
    x = torch.randn(2, 3, 6)
    for either in (plain, model):
        either.train()
        torch.manual_seed(3)
        either(x).square().sum().backward()
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_precision_follows_progress_and_spares_validation():
    model = Model()
    accelerators = attached(model, {"precision": {"until": 0.5}})
    x = torch.randn(2, 3, 6)
    seen = []
    hook = model.encoders[0].linear.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    for iteration, training in ((4, True), (4, False), (5, True)):
        accelerators.before_batch(Progress(1, iteration, 10, 1))
        model.train(training)
        model(x)
    hook.remove()
    assert seen == [torch.bfloat16, torch.float32, torch.float32]


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_fast_dropout_keeps_each_unit_with_its_probability(p):
    torch.manual_seed(0)
    kept = round((1 - p) * 2**16)
    keep = draw_keep(torch.Size([1003, 997]), kept, torch.device("cpu")).double()
    n, q = keep.numel(), kept / 2**16
    assert abs(keep.sum() - n * q) < 4 * math.sqrt(n * q * (1 - q))
    # units of one word and of neighbouring words are independent
    flat = keep.flatten() - q
    for lag in (1, 2, 3, 4):
        covariance = (flat[:-lag] * flat[lag:]).mean().item()
        assert abs(covariance) < 4 * q * (1 - q) / math.sqrt(n)


def test_fast_dropout_is_dropout():
    model = Model()
    attached(model, {"fast_dropout": {}})
    dropout = model.encoders[0].dropout
    x = torch.randn(300, 200, requires_grad=True)
    torch.manual_seed(2)
    out = dropout(x)
    out.sum().backward()
    kept = out != 0
    assert torch.equal(x.grad != 0, kept)
    torch.testing.assert_close(out[kept], (2 * x)[kept])
    torch.manual_seed(2)
    assert torch.equal(dropout(x), out)
    dropout.p = 0.0
    assert dropout(x) is x
    model.eval()
    assert dropout(x) is x


def test_batches_are_announced_before_they_are_yielded():
    places, logged = [], []

    class Spy(Accelerator):
        def attach(self, host):
            pass

        def before_batch(self, progress):
            places.append((progress.epoch, progress.iteration))

        def strength(self):
            return {"place": float(places[-1][1])}

    register_accelerator("spy_of_this_test", Spy)
    accelerators = attached(Model(), {"spy_of_this_test": {}})
    batches = AnnouncedBatches(
        ["a", "b"], accelerators, lambda n: Progress(2, n, 2, 3), logged.append
    )
    assert len(batches) == 2
    for number, batch in enumerate(batches):
        assert batch == "ab"[number]
        assert places[-1] == (2, number)
    assert logged == [{"spy_of_this_test_place": 0.0}, {"spy_of_this_test_place": 1.0}]


def task_args(**changes):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from tests.unit.models.test_progressive import ENCODER, TOKENS

    defaults = ProgressiveASRTask.get_default_config()
    options = {
        "token_list": TOKENS,
        "input_size": 8,
        "specaug": None,
        "normalize": None,
        "encoder": "progressive_conformer",
        "encoder_conf": dict(ENCODER),
        "decoder": "feedforward_prediction",
        "decoder_conf": {"embed_size": 4, "hidden_size": 6, "num_layers": 1},
        "model_conf": {"joint_conf": {"joint_size": 7}},
        **changes,
    }
    return argparse.Namespace(**{**defaults, **options})


def test_the_conformers_layer_drop_rate_is_refused():
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = task_args()
    args.encoder_conf["layer_drop_rate"] = 0.5
    with pytest.raises(ValueError, match=r"no effect on a conformer.*layer_drop"):
        ProgressiveASRTask.build_model(args)


def test_dropped_blocks_do_not_shift_the_intermediate_outputs():
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    encoder = {
        "output_size": 8, "attention_heads": 2, "linear_units": 8, "cgmlp_linear_units": 8,
        "num_blocks": 4, "input_layer": "conv2d2", "layer_drop_rate": 0.5,
        "interctc_layer_idx": [1, 3],
    }  # fmt: skip
    args = task_args(encoder="e_branchformer", encoder_conf=encoder, loss="ctc", loss_conf={})
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    feats, lengths = torch.randn(1, 48, 8), torch.tensor([48])
    partial = 0
    for _ in range(40):
        given = {}

        def remember(module, inputs, output, given=given):
            out = output[0]
            given.update(dict(out[1]) if isinstance(out, tuple) else {})

        hook = model.encoder.register_forward_hook(remember)
        found = model.train().encode_features(feats, lengths).intermediate
        hook.remove()
        assert {
            place: given[block] for place, block in enumerate((1, 3)) if block in given
        } == found
        partial += list(found) == [1]
    assert partial > 0  # block 3 alone did occur, and went to the second output layer


def test_a_term_of_the_loss_is_added_while_training_and_logged():
    class Term(Accelerator):
        def attach(self, host):
            self.model = host.model

        def loss_term(self, batch, weight):
            return batch["x"].new_tensor(6.0) / weight if batch["x"].numel() else None

    class Loss(Model):
        def forward(self, x):
            value = super().forward(x).mean()
            return value, {"loss": value.detach()}, torch.tensor([2.0])

    register_accelerator("term_of_this_test", Term)
    plain, model = Loss(), Loss()
    attached(model, {"term_of_this_test": {}})
    x = torch.randn(2, 3, 6)
    for either in (plain, model):
        either.eval()
    assert torch.equal(model(x=x)[0], plain(x=x)[0])
    model.train()
    with torch.no_grad():
        assert "loss_term_of_this_test" not in model(x=x)[1]
    for block in model.encoders:
        block.dropout.p = 0.0
    loss, stats, _ = model(x=x)
    assert stats["loss_term_of_this_test"].tolist() == [3.0]  # of the weight's shape
    torch.testing.assert_close(loss, plain(x=x)[0] + 3.0)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("loss", ["ctc", "viterbi", "full_sum"])
def test_bfloat16_gradients_point_where_float32s_do(topology, loss):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from tests.unit.models.test_progressive import aligned

    if topology == "rnnt" and loss == "viterbi":
        pytest.skip("the alignment of this test is monotonic")
    grads = {}
    for name, options in (("plain", {}), ("bfloat16", {"precision": {}})):
        args = task_args(loss=loss, loss_conf={}, accelerators=options)
        args.model_conf["topology"] = topology
        if loss == "viterbi":
            args.loss_conf["chunk_size"] = 0
        torch.manual_seed(0)
        model = ProgressiveASRTask.build_model(args)
        ProgressiveASRTask.build_optimizers(args, model)
        model.train()
        model.accelerators.before_batch(Progress(1, 0, 2, 1))
        data = (
            aligned()
            if loss == "viterbi"
            else {k: v for k, v in aligned().items() if not k.startswith("alignment")}
        )
        value = model(**data)[0]
        assert value.dtype == torch.float32
        value.backward()
        grads[name] = torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        )
    plain, low = grads["plain"], grads["bfloat16"]
    assert not torch.equal(plain, low)
    assert nn.functional.cosine_similarity(plain, low, dim=0) > 0.999
    assert (low.norm() / plain.norm() - 1).abs() < 0.02


def test_the_plan_probe_and_inference_see_the_same_model():
    """A model that was trained under accelerators is an ordinary one once it is built again."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = task_args(accelerators={"layer_drop": {}, "precision": {}, "fast_dropout": {}})
    model = ProgressiveASRTask.build_model(args)
    plain = copy.deepcopy(model)
    ProgressiveASRTask.build_optimizers(args, model)
    plain.load_state_dict(model.state_dict())
    speech, lengths = torch.randn(1, 48, 8), torch.tensor([48])
    out = [m.eval().encode(speech, lengths)[0] for m in (model, plain)]
    assert torch.equal(*out)
