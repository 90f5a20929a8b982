"""`best_rq` and `masked_spectrogram` on the ESPnet model: what is masked, guessed, handed on."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.losses import masked_code_loss, masked_feature_loss
from espnet_plugin.nn.accelerators import Progress
from espnet_plugin.pipeline.plan.init_from import PARTS
from espnet_plugin.pipeline.plan.pretraining import UNTRAINED
from tests.unit.models.test_progressive import data
from tests.unit.nn.test_accelerators import task_args

CONF: dict[str, dict[str, Any]] = {
    "best_rq": {"codes": 8, "dim": 4, "books": 2, "mask_prob": 0.1, "mask_frames": 8},
    "masked_spectrogram": {"mask_prob": 0.1, "mask_frames": 8},
}
LOSSES = list(CONF)


def build(loss: str, accelerators: Any = None, **conf: Any) -> Any:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = task_args(loss=loss, loss_conf=CONF[loss] | conf, accelerators=accelerators or {})
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    names = list(model.state_dict())
    ProgressiveASRTask.build_optimizers(args, model)
    assert list(model.state_dict()) == names
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    return model


def speech() -> dict[str, Any]:
    """A batch without transcripts."""
    return {name: value for name, value in data().items() if not name.startswith("text")}


def with_mask(model: Any, spans: list[list[tuple[int, int]]], seen: list[Any]) -> None:
    """Masks these spans of each row; `seen` gets the encoder's input and output."""
    plain = model.criterion.on_features

    def on_features(features: Any, lengths: Any, names: Any, training: bool) -> Any:
        _, given = plain(features, lengths, names, training)
        mask = torch.zeros_like(given["mask"])
        for row, of in enumerate(spans):
            for begin, end in of:
                mask[row, begin:end] = True
        return features.masked_fill(mask[:, :, None], 0.0), given | {"mask": mask}

    model.criterion.on_features = on_features
    model.encoder.register_forward_hook(lambda m, i, o: seen.append((i[0], o)))


def normal(features: torch.Tensor) -> Any:
    own = features.double().numpy()
    return (own - own.mean(0)) / own.std(0)


def test_best_rq_is_the_cross_entropy_of_hidden_stacks() -> None:
    model, seen, batch = build("best_rq"), [], speech()
    # frames 2 and 3 (8..15) are whole, 4 in part; the second row's last has one feature
    with_mask(model, [[(8, 18)], [(30, 33)]], seen)
    loss, stats, weight = model(**batch)
    head = model.accelerator_parts.loss_head
    wanted = [(0, 2), (0, 3), (1, 8)]
    out = seen[0][1][0][0] if isinstance(seen[0][1][0], tuple) else seen[0][1][0]
    total, right = 0.0, 0
    for row, t in wanted:
        own = normal(batch["speech"][row, : batch["speech_lengths"][row]])
        stack = np.zeros((4, 8))
        stack[: len(own[4 * t : 4 * t + 4])] = own[4 * t : 4 * t + 4]
        for book in range(2):
            vector = stack.reshape(-1) @ head.quantiser.projections[book].double().numpy()
            codes = head.quantiser.code_books[book].double().numpy()
            code = int(np.linalg.norm(codes - vector / np.linalg.norm(vector), axis=1).argmin())
            logits = (out[row, t] @ head.output.weight.T + head.output.bias).view(2, 8)[book]
            total -= float(logits.detach().log_softmax(0)[code])
            right += int(logits.argmax()) == code
    assert float(weight) == 3
    assert float(loss) == pytest.approx(total / 2 / 3, rel=1e-5)
    assert float(stats["acc_codes"]) == pytest.approx(right / 6)
    assert float(stats["masked"]) == pytest.approx(13 / 81)
    assert float(head.counts.sum()) == 6


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_masked_spectrogram_is_the_distance_of_hidden_frames(norm: str) -> None:
    model, seen, batch = build("masked_spectrogram", norm=norm), [], speech()
    with_mask(model, [[(9, 11), (40, 48)], [(32, 33)]], seen)
    loss, _, weight = model(**batch)
    head = model.accelerator_parts.loss_head
    out = seen[0][1][0][0] if isinstance(seen[0][1][0], tuple) else seen[0][1][0]
    total = 0.0
    for row, t in [(0, 9), (0, 10), *((0, t) for t in range(40, 48)), (1, 32)]:
        true = normal(batch["speech"][row, : batch["speech_lengths"][row]])[t]
        guess = head(out[row, t // 4]).view(4, 8)[t % 4].detach().double().numpy()
        apart = np.abs(guess - true)
        total += float((apart if norm == "l1" else apart**2).mean())
    assert float(weight) == 11
    assert float(loss) == pytest.approx(total / 11, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_encoder_sees_noise_in_masked_frames_and_nothing_else_changes(loss: str) -> None:
    model, batch = build(loss, noise=0.1), speech()
    features, lengths = batch["speech"], batch["speech_lengths"]
    seen, given = model.criterion.on_features(features, lengths, batch["utt_id"], True)
    mask = given["mask"]
    assert mask.any()
    assert torch.equal(seen[~mask], features[~mask])
    assert not mask[1, 33:].any()
    assert float(seen[mask].std()) == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns_and_the_transducer_stays(loss: str) -> None:
    model, batch = build(loss), speech()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = model(**batch)[0]
        value.backward()
        optimizer.step()
        values.append(float(value))
    assert np.mean(values[-10:]) < 0.95 * np.mean(values[:10])
    after = model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert changed
    assert all(name.startswith(PARTS["encoder"]) for name in changed)
    assert not any(name.startswith(UNTRAINED) for name in changed)
    # what is handed on: all of the encoder, and only that
    taken = {name for name in after if not name.startswith(UNTRAINED)}
    assert taken == {name for name in after if name.startswith(PARTS["encoder"])}


@pytest.mark.parametrize("loss", LOSSES)
def test_validation_masks_the_same_frames_every_time(loss: str) -> None:
    model, batch = build(loss), speech()
    model.eval()
    first, state = model(**batch)[0], torch.get_rng_state()
    assert torch.equal(model(**batch)[0], first)
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    assert not torch.equal(model(**batch)[0], model(**batch)[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_no_mask_is_no_loss_and_no_gradient(loss: str) -> None:
    model = build(loss, mask_prob=1e-9)
    value, stats, weight = model(**speech())
    value.backward()
    assert float(value) == 0.0
    assert float(weight) < 1e-5
    assert float(stats["masked"]) == 0.0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() and not g.any() for g in gradients)


@pytest.mark.parametrize("loss", LOSSES)
def test_utterances_shorter_than_a_mask_count_for_nothing(loss: str) -> None:
    model = build(loss, mask_frames=40, mask_prob=0.9)
    alone = {name: value[:1] for name, value in speech().items()}
    model.eval()
    one, both = model(**alone), model(**speech())
    assert [float(found[1]["too_short"]) for found in (one, both)] == [0.0, 1.0]
    assert float(both[2]) == float(one[2]) > 0
    torch.testing.assert_close(both[0], one[0], rtol=1e-4, atol=1e-5)


def test_constant_features_are_told(caplog: pytest.LogCaptureFixture) -> None:
    model = build("best_rq", mask_prob=0.5)
    batch = speech() | {"speech": torch.ones(2, 48, 8)}
    with caplog.at_level(logging.WARNING):
        for _ in range(12):
            _, stats, _ = model(**batch)
    assert float(stats["perplexity_codes"]) == pytest.approx(1.0)
    told = [r.getMessage() for r in caplog.records if "best_rq" in r.getMessage()]
    assert len(told) == 1
    assert "use 1 of 8 codes" in told[0]
    caplog.clear()
    model = build("best_rq", mask_prob=0.5)
    for _ in range(12):
        model(**speech())
    assert not [r for r in caplog.records if "best_rq" in r.getMessage()]


def test_labels_do_not_depend_on_precision() -> None:
    counts = []
    for accelerators in ({}, {"precision": {"autocast": "bfloat16"}}):
        model = build("best_rq", accelerators, codes=64)
        torch.manual_seed(5)
        model(**speech())
        counts.append(model.accelerator_parts.loss_head.counts.clone())
    assert counts[0].any()
    assert torch.equal(*counts)


def test_the_output_layer_is_private_state() -> None:
    state = build("best_rq").accelerators.state_dict()["loss_head"]
    assert set(state) == {"output.weight", "output.bias", "counts"}  # the code books follow a seed
    torch.manual_seed(0)
    other = build("best_rq", seed=1).accelerators.state_dict()["loss_head"]
    assert not torch.equal(state["output.weight"], other["output.weight"])


@pytest.mark.parametrize(
    ("loss", "conf", "message"),
    [
        ("best_rq", {"mask_prob": 0.0}, "no masks would be drawn"),
        ("best_rq", {"mask_frames": 0}, "no masks would be drawn"),
        ("masked_spectrogram", {"mask_prob": 1.5}, "no masks would be drawn"),
        ("masked_spectrogram", {"noise": -0.1}, "noise must not be negative"),
        ("masked_spectrogram", {"norm": "l3"}, "l1, l2"),
        ("best_rq", {"codes": 1}, "codes must be at least 2"),
        ("best_rq", {"books": 0}, "books at least 1"),
        ("best_rq", {"mask_frames": 3}, "an encoder frame is 4 feature frames"),
    ],
)
def test_impossible_options_are_refused(loss: str, conf: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(loss, **conf)


def test_transcripts_are_asked_for_where_they_are_needed() -> None:
    from espnet_plugin.tasks.progressive import check_text

    args = task_args(loss="ctc", loss_conf={})
    args.train_data_path_and_name_and_type = [("wav.scp", "speech", "sound")]
    args.valid_data_path_and_name_and_type = []
    with pytest.raises(ValueError, match="--loss ctc needs transcripts; give them as --train_data"):
        check_text(args)
    args.loss = "best_rq"
    check_text(args)
    args.loss = "ctc"
    args.train_data_path_and_name_and_type.append(("text", "text", "text"))
    check_text(args)


def test_a_pretrained_model_refuses_to_recognise() -> None:
    from espnet_plugin.inference.searchers import make_searcher

    with pytest.raises(ValueError, match="pretrained on speech alone"):
        make_searcher(None, build("best_rq"), None, nbest=1)  # type: ignore[arg-type]


def test_losses_by_hand_and_their_reductions() -> None:
    torch.manual_seed(2)
    logits, codes = torch.randn(5, 2, 3, dtype=torch.float64), torch.randint(3, (5, 2))
    expected = -logits.log_softmax(-1).gather(2, codes[:, :, None])[:, :, 0].mean(1)
    found = masked_code_loss(logits, codes, reduction="none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(masked_code_loss(logits, codes), found.mean())
    torch.testing.assert_close(masked_code_loss(logits, codes, reduction="sum"), found.sum())
    assert float(masked_code_loss(logits[:0], codes[:0])) == 0.0
    one, two = torch.randn(4, 3), torch.randn(4, 3)
    torch.testing.assert_close(masked_feature_loss(one, two), (one - two).abs().mean())
    torch.testing.assert_close(masked_feature_loss(one, two, norm="l2"), (one - two).pow(2).mean())
    with pytest.raises(ValueError, match="norm must be one of"):
        masked_feature_loss(one, two, norm="l0")
