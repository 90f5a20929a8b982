"""Training on two augmentations of each utterance: `consistency_scale` of ctc and full_sum."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch

from espnet_plugin.losses import consistency_loss
from espnet_plugin.models.specaug import ProgressiveSpecAug
from tests.unit.models.test_progressive import aligned, build, data

SPECAUG = {
    "max_freq_masks": 2,
    "freq_mask_width": 2,
    "time_mask_width": 4,
    "frames_per_time_mask": 12,
    "warmup_steps": 0,
    "time_stretch": [0.8, 1.2],
    "frequency_warp": [0.9, 1.1],
    "noise_std": 0.1,
}
CTC = {"consistency_scale": 0.2}
FULL_SUM = {"encoder_scale": 0.1, "consistency_scale": 0.02}


def model_of(loss: str, conf: dict[str, Any], **specaug: Any) -> Any:
    model = build(loss, conf, freeze_batch_norm=True).train()
    model.specaug = ProgressiveSpecAug(**{**SPECAUG, **specaug})
    return model


def run(model: Any, batch: dict[str, Any] | None = None) -> tuple[Any, Any, Any]:
    """Forward pass from the same random numbers."""
    batch = batch or data()
    torch.manual_seed(7)
    return model(**batch)


def encoded(model: Any) -> list[tuple[Any, Any]]:
    """What goes into the encoder from now on."""
    seen = []
    encode_features = model.encode_features

    def keep(feats, lengths):
        output = encode_features(feats, lengths)
        seen.append((feats, output))
        return output

    model.encode_features = keep
    return seen


@pytest.mark.parametrize(
    ("loss", "conf"), [("ctc", {"intermediate_scale": 0.3}), ("full_sum", {"encoder_scale": 0.1})]
)
def test_scale_zero_is_bitwise_plain(loss, conf):
    values = []
    for options in (conf, {**conf, "consistency_scale": 0.0, "consistency_time_masks": 4.0}):
        model = model_of(loss, options)
        value, stats, weight = run(model)
        value.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        values.append([value, weight, *stats.values(), *gradients])
    assert len(values[0]) == len(values[1])
    assert all(torch.equal(a, b) for a, b in zip(*values, strict=True))


def test_views_share_stretch_and_warp_but_not_noise_nor_masks():
    model = model_of("ctc", CTC, frames_per_time_mask=0, max_freq_masks=0)
    seen = encoded(model)
    run(model)
    ((feats, output),) = seen
    assert len(feats) == 4 and output.lengths.tolist()[:2] == output.lengths.tolist()[2:]
    assert feats.size(1) != data()["speech"].size(1)  # stretched
    apart = (feats[:2] - feats[2:]).std()
    assert apart == pytest.approx(0.1 * 2**0.5, rel=0.1)  # two draws of the noise, nothing else
    model = model_of("ctc", CTC, noise_std=0.0)
    seen = encoded(model)
    run(model)
    ((feats, _),) = seen
    hidden = [(view == 0).all(2) for view in (feats[:2], feats[2:])]
    assert not torch.equal(*hidden)
    seen_by_both = ~(feats[:2] == 0) & ~(feats[2:] == 0)
    torch.testing.assert_close(feats[:2][seen_by_both], feats[2:][seen_by_both])
    assert float(model.specaug.steps) == 1.0


def test_time_masks_are_more_by_the_option():
    shares = []
    for factor in (1.0, 4.0):
        conf = {**CTC, "consistency_time_masks": factor}
        model = model_of("ctc", conf, noise_std=0.0, max_freq_masks=0, time_mask_width=2)
        seen = encoded(model)
        with torch.no_grad():
            for seed in range(30):
                torch.manual_seed(seed)
                model(**data())
        masked = [(feats[[0, 2]] == 0).all(2).float().mean() for feats, _ in seen]
        shares.append(float(torch.stack(masked).mean()))
    assert 2.0 < shares[1] / shares[0] < 4.0


@pytest.mark.parametrize("normalization", ["sequences", "frames"])
@pytest.mark.parametrize(("loss", "conf"), [("ctc", CTC), ("full_sum", FULL_SUM)])
def test_the_loss_is_that_of_both_views_and_their_consistency(loss, conf, normalization):
    model = model_of(loss, {**conf, "normalization": normalization})
    seen = encoded(model)
    value, stats, weight = run(model)
    ((_, output),) = seen
    logits = model.encoder_logits(output.frames)
    divisor = 4 if normalization == "sequences" else float(output.lengths.sum())
    expected = consistency_loss(logits, output.lengths, reduction="sum") / divisor
    torch.testing.assert_close(stats["loss_consistency"].squeeze(), expected.detach())
    assert float(weight) == divisor
    plain = model_of(loss, {k: v for k, v in conf.items() if k != "consistency_scale"})
    plain.criterion.normalization = normalization
    plain.specaug = None
    plain.load_state_dict(model.state_dict(), strict=False)
    feats = seen[0][0]
    batch = {
        "speech": feats,
        "speech_lengths": torch.tensor([feats.size(1), round(33 * feats.size(1) / 48)] * 2),
        "text": data()["text"].repeat(2, 1),
        "text_lengths": data()["text_lengths"].repeat(2),
    }
    rest, _, _ = plain(**batch)
    torch.testing.assert_close(value - conf["consistency_scale"] * expected, rest)


def test_no_gradient_flows_into_the_target_view():
    """d loss / d (logits of view 1) of view 2's term alone is zero."""
    model = model_of("ctc", {"consistency_scale": 1.0})
    seen = encoded(model)
    run(model)
    ((_, output),) = seen
    logits = model.encoder_logits(output.frames)
    apart = consistency_loss(logits, output.lengths, reduction="none")
    (gradient,) = torch.autograd.grad(apart[2:].sum(), logits)
    assert not gradient[:2].any() and gradient[2:].any()


def test_validation_sees_every_utterance_once():
    model = model_of("ctc", CTC).eval()
    _, stats, weight = run(model)
    assert int(weight) == 2 and "loss_consistency" not in stats


def test_a_band_and_variants_come_with_every_view():
    model = model_of("full_sum", {**FULL_SUM, "band": [2, 2]})
    model.criterion.needs = ("alignment",)
    value, _, weight = run(model, aligned())
    assert torch.isfinite(value) and int(weight) == 4


def args_with(specaug: str | None, **conf: Any) -> argparse.Namespace:
    from tests.unit.nn.test_accelerators import task_args

    args = task_args(loss="ctc", loss_conf=conf, specaug=specaug)
    args.specaug_conf = {"time_mask_width_range": [0, 5]} if specaug == "specaug" else {}
    return args


@pytest.mark.parametrize("specaug", [None, "specaug"])
def test_a_model_that_cannot_augment_twice_is_refused_before_training(specaug):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = args_with(specaug, consistency_scale=0.2)
    model = ProgressiveASRTask.build_model(args)
    with pytest.raises(ValueError, match="needs specaug: progressive"):
        ProgressiveASRTask.build_optimizers(args, model)
    args = args_with(specaug, consistency_scale=0.0)
    ProgressiveASRTask.build_optimizers(args, ProgressiveASRTask.build_model(args))


@pytest.mark.parametrize(
    ("loss", "conf", "message"),
    [
        ("ctc", {"consistency_scale": -0.1}, "must not be negative"),
        ("ctc", {"consistency_scale": 0.1, "consistency_time_masks": -1}, "not be negative"),
        ("full_sum", {"consistency_scale": 0.02}, "only encoder_scale trains"),
    ],
)
def test_impossible_options_are_refused(loss, conf, message):
    with pytest.raises(ValueError, match=message):
        build(loss, conf)


def trained_consistency(scale: float) -> float:
    """How far the views are apart, mean of the last five of 60 updates."""
    model = model_of("ctc", {"consistency_scale": scale}, noise_std=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for seed in range(60):
        torch.manual_seed(seed)
        loss, stats, _ = model(**data())
        found.append(float(stats["loss_consistency"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sum(found[-5:]) / 5


def test_training_with_consistency_keeps_the_views_together():
    # 0.1 and 2 with these seeds
    assert trained_consistency(1.0) < 0.5 * trained_consistency(1e-9)
