"""`distill`: the divergence from a trained model along its own path."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.nn.accelerators import Progress, build_accelerators
from espnet_plugin.nn.accelerators.distill import divergence, path_states
from espnet_plugin.nn.vocabulary import places_of
from tests.tiny_model import write_model
from tests.unit.models.test_progressive import ENCODER, TOKENS, aligned
from tests.unit.nn.test_accelerators import task_args

OLD = [token for token in TOKENS if token != "b"]  # the training model has a label more


def test_divergence_by_numpy_and_of_equal_models() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(2, 7, 5, dtype=torch.float64)
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (one, two))
    expected = (q * np.log(q / p)).sum(1)
    np.testing.assert_allclose(divergence(one, two).numpy(), expected, rtol=1e-10)
    assert divergence(one, one).abs().max() < 1e-15
    assert divergence(one.half(), two.half()).dtype == torch.float32
    one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: divergence(x, two), one)


def test_states_before_each_frame() -> None:
    paths = [
        SimpleNamespace(tokens=(3, 4, 5), frames=(1, 2, 2)),  # two labels on a frame, as rnnt may
        SimpleNamespace(tokens=(), frames=()),
        SimpleNamespace(tokens=(4,), frames=(3,)),
    ]
    labels, states = path_states(paths, 4, torch.device("cpu"))
    assert labels.tolist() == [[3, 4, 5], [0, 0, 0], [4, 0, 0]]
    assert states.tolist() == [[0, 0, 1, 3], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_labels_are_found_by_name() -> None:
    assert places_of(OLD, TOKENS).tolist() == [0, 1, 2, 3, 5, 6]
    with pytest.raises(ValueError, match="the token list lacks labels of the model: b"):
        places_of(TOKENS, OLD)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    options = {"token_list": OLD, "encoder_conf": {**ENCODER, "interctc_layer_idx": []}}
    return str(write_model(tmp_path / "first", **options)[1])


def build(source: str, weight: float = 0.5, **options: Any) -> Any:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    given = {"loss": "full_sum", "loss_conf": {}, **options}
    args = task_args(**given, accelerators={"distill": {"model": source, "weight": weight}})
    args.encoder_conf = {**ENCODER, "dropout_rate": given.pop("dropout", 0.0)}
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    names, count = list(model.state_dict()), len(list(model.parameters()))
    ProgressiveASRTask.build_optimizers(args, model)
    assert list(model.state_dict()) == names
    assert len(list(model.parameters())) == count  # the old model is no part of this one
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    return model


def batch() -> dict[str, Any]:
    return {k: v for k, v in aligned().items() if not k.startswith("alignment")}


@pytest.mark.parametrize("normalization", ["sequences", "frames"])
def test_the_term_is_the_divergence_along_the_old_models_path(
    teacher: str, normalization: str
) -> None:
    from espnet_plugin.tasks.progressive import load_trained

    model = build(teacher, 0.25, loss_conf={"normalization": normalization})
    loss, stats, weight = model(**batch())
    old: Any = load_trained(teacher).eval()
    given = batch()
    total = 0.0
    with torch.no_grad():
        theirs = old.encode_features(given["speech"], given["speech_lengths"])
        ours = model.encode_features(given["speech"], given["speech_lengths"])
        paths = old.transducer_greedy(theirs.frames, theirs.lengths)
        assert any(path.tokens for path in paths)
        rows = [TOKENS.index(token) for token in OLD]
        for row, path in enumerate(paths):
            for t in range(int(theirs.lengths[row])):
                before = [
                    token for token, at in zip(path.tokens, path.frames, strict=True) if at < t
                ]
                of_old = torch.tensor([before], dtype=torch.long)
                of_new = torch.tensor([[rows[token] for token in before]], dtype=torch.long)
                q = old.joint_network(theirs.frames[row, t], old.prediction(of_old)[0, -1])
                p = model.joint_network(ours.frames[row, t], model.prediction(of_new)[0, -1])
                q, p = q.double().softmax(0), p[rows].double().softmax(0)
                total += float((q * (q / p).log()).sum())
    divisor = 2 if normalization == "sequences" else 12 + 9
    assert float(weight) == divisor
    assert float(stats["loss_distill"]) == pytest.approx(0.25 * total / divisor, rel=1e-4)
    assert float(loss.detach()) == pytest.approx(
        float(stats["loss"] + stats["loss_distill"]), rel=1e-5
    )


def test_a_model_does_not_diverge_from_itself(tmp_path: Path) -> None:
    conf = {"encoder_conf": {**ENCODER, "dropout_rate": 0.0}, "token_list": TOKENS}
    same = {"decoder_conf": {"embed_size": 4, "hidden_size": 6, "num_layers": 1}}
    same["model_conf"] = {"joint_conf": {"joint_size": 7}}
    source = str(write_model(tmp_path / "same", **conf, **same)[1])
    model = build(source)
    model.load_state_dict(torch.load(source, weights_only=True))
    for module in model.modules():  # batch norm of training batches is another function
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    loss, stats, _ = model(**batch())
    assert abs(float(stats["loss_distill"])) < 1e-5
    assert torch.isfinite(loss)


def test_training_moves_towards_the_old_model(teacher: str) -> None:
    model = build(teacher, 5.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    terms = []
    for _ in range(25):
        optimizer.zero_grad()
        loss, stats, _ = model(**batch())
        loss.backward()
        optimizer.step()
        terms.append(float(stats["loss_distill"]))
    assert terms[-1] < 0.5 * terms[0]


def test_weight_zero_is_bitwise_plain_and_loads_nothing() -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    model = build("nowhere/at/all.pth", 0.0, dropout=0.2)
    torch.manual_seed(3)
    found = model(**batch())[0]
    args = task_args(loss="full_sum", loss_conf={})
    args.encoder_conf = {**ENCODER, "dropout_rate": 0.2}
    torch.manual_seed(0)
    plain = ProgressiveASRTask.build_model(args).train()
    torch.manual_seed(3)
    assert torch.equal(found, plain(**batch())[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ctc"}, "works with loss viterbi, full_sum, not with ctc"),
        ({"loss": "viterbi"}, "set loss_conf: {chunk_size: 0}"),
        ({"input_size": 9}, "has features a frame 8, this model 9"),
        (
            {"model_conf": {"topology": "rnnt", "joint_conf": {"joint_size": 7}}},
            "has topology monotonic, this model rnnt",
        ),
        ({"token_list": OLD[:4] + OLD[5:]}, "the token list lacks labels of the model: c"),
    ],
)
def test_what_does_not_fit_is_refused(teacher: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(teacher, **options)
    assert "accelerators.distill" in str(error.value)


def test_a_model_that_is_not_there_and_a_negative_weight() -> None:
    with pytest.raises(ValueError, match=r"accelerators.distill: .*nowhere"):
        build("nowhere/at/all.pth")
    with pytest.raises(ValueError, match="weight must not be negative"):
        build_accelerators({"distill": {"model": "m", "weight": -1}})
