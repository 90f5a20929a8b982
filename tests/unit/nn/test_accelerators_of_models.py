"""Every accelerator on a whole model: plain at strength zero; alone and in pairs, resumed."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_plugin.nn.accelerators import Progress, accelerator_names
from tests.tiny_model import write_model
from tests.unit.models.test_progressive import ENCODER, TOKENS, aligned
from tests.unit.nn.test_accelerators import task_args
from tests.unit.nn.test_repa import CODES, FRAMES, write

#: Strength zero of each.
ZERO: dict[str, dict[str, Any]] = {
    "distill": {"model": "nowhere.pth", "weight": 0.0},
    "ema": {"decay": 0.0},
    "fast_dropout": {},  # with dropout_rate 0, as here
    "layer_drop": {"theta": 1.0},
    "precision": {"autocast": "float32"},
    "rep_conv": {"kernels": [1], "scale": 0.0, "train_scale": False},
    "repa": {"codes": "nowhere", "weight": 0.0},
    "selective": {"beta": 0.0},
    "slim": {"l1": 0.0},
    "sparse": {"sparsity": 0.0},
}
#: And something else.
SOME: dict[str, dict[str, Any]] = {
    "channels_last": {},
    "distill": {"model": "", "weight": 0.5},
    "ema": {"decay": 0.9},
    "fast_dropout": {},
    "layer_drop": {"theta": 0.3, "warm": 50.0},
    "precision": {"until": 0.6},
    "rep_conv": {"kernels": [1], "scale": 0.25},
    "repa": {"codes": "FOLDER", "block": 1, "hidden": 6},
    "selective": {"history": 3},
    "slim": {"l1": 0.01},
    "sparse": {"sparsity": 0.5, "every": 1, "until": 0.9, "alpha": 0.5},
}
#: From the end of the design's page; ticket and sparse are refused.
PAIRS = [
    ("layer_drop", "repa"),
    ("rep_conv", "sparse"),
    ("repa", "selective"),
    ("distill", "selective"),
    *(("precision", name) for name in SOME if name != "precision"),
]
STEPS, KILLED = 5, 2


def batch() -> dict[str, Any]:
    return {k: v for k, v in aligned().items() if not k.startswith("alignment")}


def build(accelerators: dict[str, Any], dropout: float = 0.0, **options: Any) -> tuple[Any, Any]:
    """A model and its optimizer."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    conf = {**ENCODER, "dropout_rate": dropout}
    given = {"loss": "full_sum", "loss_conf": {}, "encoder_conf": conf, **options}
    args = task_args(**given, accelerators=accelerators, optim="adam", optim_conf={"lr": 0.01})
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
    return model, optimizer


def train(model: Any, optimizer: Any, numbers: range) -> None:
    """Updates, whose random numbers follow from their numbers alone."""
    for number in numbers:
        model.train()
        model.accelerators.before_batch(Progress(1, number, STEPS, 1))
        torch.manual_seed(100 + number)
        optimizer.zero_grad()
        model(**batch())[0].backward()
        optimizer.step()


def assert_equal(one: Any, other: Any) -> None:
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in (one, other)]
    assert list(states[0]) == list(states[1])
    different = [k for k, v in states[0].items() if not torch.equal(v, states[1][k])]
    assert not different


def some(names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Options, with the files that they name."""
    torch.manual_seed(5)
    write(folder, {n: torch.randint(CODES, (frames, 2)) for n, frames in FRAMES.items()})
    if "distill" in names:
        conf = {**ENCODER, "interctc_layer_idx": []}
        first = write_model(folder / "first", token_list=TOKENS, encoder_conf=conf)[1]
    found = {}
    for name in names:
        texts = {k: v for k, v in SOME[name].items() if isinstance(v, str)}
        places = {k: v.replace("FOLDER", str(folder)) for k, v in texts.items()}
        if name == "distill":
            places = {"model": str(first)}
        found[name] = {**SOME[name], **places}
    return found


def test_none_is_forgotten() -> None:
    built_in = {name for name in accelerator_names() if "of_this_test" not in name}
    # an order in memory has no strength
    assert set(ZERO) | {"channels_last"} == built_in == set(SOME)


@pytest.mark.parametrize("name", ZERO)
def test_strength_zero_trains_bit_by_bit_as_without(name: str) -> None:
    plain, ours = build({}), build({name: ZERO[name]})
    for model, optimizer in (plain, ours):
        train(model, optimizer, range(2))
    assert_equal(plain[0], ours[0])


def test_channels_last_changes_the_order_in_memory_alone() -> None:
    plain, ours = build({})[0], build({"channels_last": {}})[0]
    for model in (plain, ours):
        torch.manual_seed(1)
        model(**batch())[0].backward()
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=0.0, rtol=0.0)
        torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4)
    convs = ours.encoder.embed.convs
    images: list[Any] = []
    convs[1].register_forward_hook(lambda module, given, out: images.extend((*given, out)))
    ours(**batch())
    formats = [image.is_contiguous(memory_format=torch.channels_last) for image in images]
    assert formats == [True, True] and not any(image.is_contiguous() for image in images)
    assert all(conv.weight.grad.stride() == conv.weight.stride() for conv in convs)


def test_channels_last_wants_images() -> None:
    with pytest.raises(ValueError, match="channels_last: the encoder's front-end has no 2-d conv"):
        build({"channels_last": {}}, encoder="rnn", encoder_conf={"hidden_size": 8})


@pytest.mark.parametrize("names", [*((name,) for name in SOME), *PAIRS], ids="-".join)
def test_killed_and_resumed_is_the_same_to_the_bit(names: tuple[str, ...], tmp_path: Path) -> None:
    options = some(names, tmp_path)
    plain = build({}, 0.1)[0]
    whole, optimizer = build(options, 0.1)
    begun = {k: v.clone() for k, v in whole.state_dict().items()}
    assert list(begun) == list(plain.state_dict())
    train(whole, optimizer, range(KILLED))
    whole.eval()  # as where an epoch is validated and saved
    kept = [whole.state_dict(), whole.accelerators.state_dict(), optimizer.state_dict()]
    kept = copy.deepcopy(kept)
    train(whole, optimizer, range(KILLED, STEPS))

    resumed, again = build(options, 0.1)
    train(resumed, again, range(1))  # whatever it was
    resumed.eval()
    resumed.load_state_dict(kept[0])
    resumed.accelerators.load_state_dict(kept[1])
    again.load_state_dict(kept[2])
    train(resumed, again, range(KILLED, STEPS))
    for model in (whole, resumed):
        model.eval()
    assert_equal(whole, resumed)
    after = whole.state_dict()
    assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in begun.items()}
    assert any(not torch.equal(after[k], v) for k, v in begun.items())
    plain.load_state_dict(after)
    speech, lengths = torch.randn(1, 48, 8), torch.tensor([48])
    torch.testing.assert_close(
        whole.encode(speech, lengths)[0], plain.eval().encode(speech, lengths)[0]
    )


def test_a_skipped_block_keeps_statistics_and_intermediate_outputs() -> None:
    model, _ = build({"layer_drop": {"theta": 0.5}})
    (layer_drop,) = model.accelerators._by_name.values()
    first = model.encoder.encoders[0]
    entered = []
    first.register_forward_pre_hook(lambda m, i: entered.append(i[0]))
    given = batch()
    model.train()
    for kept in itertools.product([True, False], repeat=2):
        layer_drop._kept = list(kept)
        before = {k: v.clone() for k, v in first.named_buffers()}
        model.zero_grad()
        output = model.encode_features(given["speech"], given["speech_lengths"])
        assert list(output.intermediate) == [0]  # complete in every batch
        output.frames.square().sum().backward()
        moved = [k for k, v in first.named_buffers() if not torch.equal(v, before[k])]
        assert bool(moved) == kept[0]
        gradients = [p.grad for p in first.parameters() if p.grad is not None]
        assert bool(gradients) == kept[0]
        if not kept[0]:
            frames = entered[-1][0] if isinstance(entered[-1], tuple) else entered[-1]
            normal = model.encoder.after_norm  # intermediate outputs go through it, as ESPnet's
            found = output.intermediate[0]
            same = [torch.equal(found, frames), torch.allclose(found, normal(frames), atol=1e-6)]
            assert any(same)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize("loss", ["ctc", "full_sum"])
def test_no_bfloat16_enters_the_recursion(loss: str, topology: str) -> None:
    class Sums(TorchDispatchMode):
        """Types of what is added up over paths, and of the products beside it."""

        sums: list[torch.dtype]
        products: set[torch.dtype]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            if func is torch.ops.aten.logaddexp.out:
                self.sums += [tensor.dtype for tensor in tensors]
            if func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
                self.products |= {tensor.dtype for tensor in tensors}
            return func(*args, **(kwargs or {}))

    conf = {"joint_conf": {"joint_size": 7}, "topology": topology}
    model, _ = build({"precision": {}}, loss=loss, model_conf=conf)
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    Sums.sums, Sums.products = [], set()
    with Sums():
        value = model(**batch())[0]
    value.backward()
    assert torch.bfloat16 in Sums.products
    assert Sums.sums and set(Sums.sums) <= {torch.float32, torch.float64}


def test_weight_decay_spares_factors_and_coefficients() -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    options = {"rep_conv": {"kernels": [1]}, "slim": {"l1": 0.1}}
    args = task_args(loss="full_sum", loss_conf={}, accelerators=options)
    args.optim, args.optim_conf = "adamw", {"lr": 0.01, "weight_decay": 0.1}
    args.exclude_weight_decay = True
    model = ProgressiveASRTask.build_model(args)
    (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    names = {id(p): name for name, p in model.named_parameters()}
    assert decays.keys() == names.keys()  # each once, private ones as well
    free = {names[number] for number, decay in decays.items() if decay == 0.0}
    private = [name for name in names.values() if name.startswith("accelerator_parts.")]
    factors = [n for n in private if n.endswith("factors") or ".slim." in n]
    kernels = [n for n in private if "kernels" in n]
    assert factors and set(factors) <= free
    assert kernels and not set(kernels) & free
