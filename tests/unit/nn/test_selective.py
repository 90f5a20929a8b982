"""`selective`: which utterances are kept, and what the kept ones are trained on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn.accelerators import Progress, build_accelerators
from espnet_plugin.nn.accelerators.selective import Selective, select_rows
from tests.unit.models.test_progressive import aligned
from tests.unit.nn.test_accelerators import Model, attached, task_args


def selective(**options: Any) -> Selective:
    found = Selective(**options)
    found.before_batch(Progress(1, 0, 10, 1))
    return found


def test_half_is_kept_of_uniform_losses() -> None:
    accelerator = selective(history=1000)
    torch.manual_seed(0)
    accelerator.draw(torch.rand(1000))
    total, kept = 0, 0
    for number in range(400):
        accelerator.before_batch(Progress(1, number, 400, 1))
        kept += int(accelerator.draw(torch.rand(25)).sum())
        total += 25
    assert abs(kept - total / 2) < 3 * math.sqrt(total / 4)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_probabilities_are_powers_of_the_percentile(beta: float) -> None:
    accelerator = selective(beta=beta, history=4)
    kept = torch.zeros(4)
    draws = 3000
    for number in range(draws):
        accelerator.before_batch(Progress(1, number, draws, 1))
        kept += accelerator.draw(torch.tensor([4.0, 1.0, 3.0, 2.0]))
    for count, rank in zip(kept.tolist(), (3, 0, 2, 1), strict=True):
        p = ((rank + 0.5) / 4) ** beta
        # one is kept where the draw kept none
        none = math.prod(1 - ((r + 0.5) / 4) ** beta for r in range(4)) if rank == 3 else 0.0
        expected = draws * (p + none)
        assert abs(count - expected) < 4 * math.sqrt(expected * (1 - min(p + none, 1.0)) + 1)


def test_the_hardest_is_kept_where_the_draw_keeps_none() -> None:
    accelerator = selective(beta=1e9)
    assert accelerator.draw(torch.tensor([1.0, 3.0, 2.0])).tolist() == [False, True, False]


def test_history_is_bounded_and_comes_back_after_a_kill() -> None:
    accelerator, other = selective(history=3), selective(history=3)
    accelerator.draw(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert accelerator.state_dict() == {"latest": [2.0, 3.0, 4.0]}
    other.load_state_dict(accelerator.state_dict())
    for each in (accelerator, other):
        each.before_batch(Progress(2, 3, 10, 4))
    losses = torch.rand(50)
    assert torch.equal(accelerator.draw(losses), other.draw(losses))


def test_rows_are_selected_and_cut() -> None:
    batch = {
        "speech": torch.arange(12).view(3, 4),
        "speech_lengths": torch.tensor([4, 2, 3]),
        "utt_id": ["a", "b", "c"],
        "flag": True,
    }
    found = select_rows(batch, torch.tensor([False, True, True]))
    assert found["speech"].tolist() == [[4, 5, 6], [8, 9, 10]]
    assert found["speech_lengths"].tolist() == [2, 3]
    assert found["utt_id"] == ["b", "c"] and found["flag"] is True


def build(loss: str, options: dict[str, Any]) -> Any:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = task_args(loss=loss, loss_conf={}, accelerators={"selective": options})
    if loss == "viterbi":
        args.loss_conf |= {"chunk_size": 4, "chunk_hop": 4}  # windows: several rows an utterance
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    ProgressiveASRTask.build_optimizers(args, model)
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    batch = aligned()
    if loss != "viterbi":
        batch = {k: v for k, v in batch.items() if not k.startswith("alignment")}
    return model, batch


@pytest.mark.parametrize("loss", ["ctc", "viterbi", "full_sum"])
def test_kept_rows_are_trained_as_they_are_alone(loss: str) -> None:
    model, batch = build(loss, {"beta": 1e9})  # the hardest one of the two
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    recorded = model.accelerators._by_name["selective"]
    value, stats, weight = model(**batch)
    value.backward()
    assert float(stats["selective_kept"]) == 0.5
    assert stats["selective_kept"].shape == weight.shape  # else processes cannot average it
    losses = torch.tensor(list(recorded._latest))
    hardest = int(losses.argmax())
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    alone, _ = build(loss, {"beta": 0.0})
    rows = select_rows(batch, torch.tensor([n == hardest for n in range(2)]))
    expected, plain_stats, _ = alone(**rows)
    expected.backward()
    torch.testing.assert_close(value, expected)
    for name, parameter in alone.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad)
    # statistics of batch norm come from the second pass alone
    for name, value in alone.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(model.state_dict()[name], value)
            assert not torch.equal(before[name], value)
    # and the remembered losses are those of a single utterance, for each label
    assert "selective_kept" not in plain_stats
    assert losses[hardest] > 0


def test_losses_are_those_of_single_utterances_per_label() -> None:
    model, batch = build("full_sum", {"beta": 1e9})
    model(**batch)
    found = torch.tensor(list(model.accelerators._by_name["selective"]._latest))
    plain, _ = build("full_sum", {"beta": 0.0})
    targets = batch["text"].clamp(min=0)
    with torch.no_grad():
        feats, lengths = plain.features(batch["speech"], batch["speech_lengths"])
        output = plain.encode_features(feats, lengths)
        logits = plain.joint_network(output.frames[:, :, None], plain.prediction(targets)[:, None])
        losses = full_sum_loss(
            *(logits, targets, output.lengths, batch["text_lengths"]),
            topology=plain.topology, reduction="none",
        )  # fmt: skip
    torch.testing.assert_close(found.float(), losses.float() / batch["text_lengths"])


def test_beta_zero_keeps_all_and_is_bitwise_plain() -> None:
    values = []
    for options in ({"selective": {"beta": 0.0}}, {}):
        from espnet_plugin.tasks.progressive import ProgressiveASRTask

        args = task_args(loss="full_sum", loss_conf={}, accelerators=options)
        args.encoder_conf["dropout_rate"] = 0.3
        torch.manual_seed(0)
        model = ProgressiveASRTask.build_model(args)
        ProgressiveASRTask.build_optimizers(args, model)
        model.train()
        model.accelerators.before_batch(Progress(1, 0, 2, 1))
        _, batch = build("full_sum", {})
        torch.manual_seed(2)
        loss, _, _ = model(**batch)
        loss.backward()
        values.append([loss] + [p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))


def test_validation_keeps_all() -> None:
    model, batch = build("full_sum", {"beta": 1e9})
    _, stats, weight = model.eval()(**batch)
    assert "selective_kept" not in stats and int(weight) == 2


def test_wrong_places_and_values_are_refused() -> None:
    for options, message in (({"beta": -1}, "beta"), ({"history": 0}, "number of utterances")):
        with pytest.raises(ValueError, match=f"accelerators.selective: .*{message}"):
            build_accelerators({"selective": options})
    with pytest.raises(ValueError, match=r"works with loss .*, not with mbr"):
        attached(Model(), {"selective": {}}, loss="mbr")
    with pytest.raises(ValueError, match="model progressive_transducer alone"):
        attached(Model(), {"selective": {}})
