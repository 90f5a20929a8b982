"""The criterion lf_mmi on a tiny model: its bigram, what it refuses, and its loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.models.criteria.lf_mmi import LFMMICriterion, bigram_table, context_outputs
from tests.unit.models.test_progressive import TOKENS, build, data

ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-99 <s> -0.2
-0.8 </s>
-1.2 <unk>
-0.5 a -0.1
-0.7 b
-0.9 <space>

\\2-grams:
-0.3 <s> a
-0.4 a b
-0.6 b </s>

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "two words" / "label_2gram.arpa"
    path.parent.mkdir()
    path.write_text(ARPA)
    return path


def ln(*log10: float) -> float:
    return sum(log10) * math.log(10)


def test_the_table_is_the_bigram(arpa: Path) -> None:
    table = bigram_table(str(arpa), TOKENS, 0)
    assert table.shape == (7, 8) and bool(table.isfinite().all())
    blank, a, b, c = (TOKENS.index(token) for token in ("<blank>", "a", "b", "c"))
    assert table[blank, a].item() == pytest.approx(ln(-0.3))
    assert table[blank, b].item() == pytest.approx(ln(-0.2, -0.7))
    assert table[a, b].item() == pytest.approx(ln(-0.4))
    assert table[a, a].item() == pytest.approx(ln(-0.1, -0.5))
    assert table[a, c].item() == pytest.approx(ln(-0.1, -1.2))  # as <unk>
    assert table[b, -1].item() == pytest.approx(ln(-0.6))
    assert table[a, -1].item() == pytest.approx(ln(-0.1, -0.8))


def test_without_scales_it_trains_as_full_sum_does(arpa: Path) -> None:
    model, batch = build().train(), data()
    model.criterion = LFMMICriterion(str(arpa), lm_scale=0.0)
    model.criterion.prepare(model)
    loss, stats, _ = model(**batch)
    frames, lengths = model.eval().encode(batch["speech"], batch["speech_lengths"])
    prediction = model.prediction(batch["text"])
    logits = model.joint_network(frames[:, :, None], prediction[:, None])
    wanted = full_sum_loss(logits, batch["text"], lengths, batch["text_lengths"])
    again, _, _ = model(**batch)
    assert again.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert stats["loss_lf_mmi"].isfinite()
    loss.backward()
    embedding = model.prediction.embedding.weight.grad
    assert embedding is not None and bool(embedding[3:6].abs().sum(1).gt(0).all())


def test_the_language_model_and_ce_scale_have_their_part(arpa: Path) -> None:
    model, batch = build().eval(), data()
    losses = []
    for options in ({"lm_scale": 0.0}, {"lm_scale": 0.5}, {"lm_scale": 0.5, "ce_scale": 0.1}):
        model.criterion = LFMMICriterion(str(arpa), **options)
        model.criterion.prepare(model)
        loss, stats, _ = model(**batch)
        losses.append(loss.item())
    assert losses[0] != losses[1]
    extra = losses[2] - losses[1]
    assert extra == pytest.approx(0.1 * stats["loss_full_sum"].item(), rel=1e-4)


def test_contexts_are_those_of_the_prediction_network() -> None:
    model = build().eval()
    outputs = context_outputs(model, len(TOKENS))
    text = torch.tensor([[3, 4, 2, 5]])
    assert torch.allclose(model.prediction(text)[0], outputs[[0, 3, 4, 2, 5]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topology": "rnnt"}, "this model is rnnt"),
        ({"decoder": "lstm_prediction"}, "its prediction network sees all labels"),
    ],
)
def test_models_that_it_cannot_train(arpa: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r"train it with mbr") as error:
        LFMMICriterion(str(arpa)).prepare(build(**change))
    assert message in str(error.value)


def test_files_that_are_no_bigram_of_these_labels(arpa: Path) -> None:
    with pytest.raises(ValueError, match="made for another vocabulary") as error:
        bigram_table(str(arpa), ["<blank>", "x", "y", "z", "a"], 0)
    assert str(arpa) in str(error.value)
    arpa.write_text(
        ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=1").replace(
            "\n\\end\\", "\n\\3-grams:\n-0.1 <s> a b\n\n\\end\\"
        )
    )
    with pytest.raises(ValueError, match="order 3; lf_mmi sums"):
        bigram_table(str(arpa), TOKENS, 0)
    with pytest.raises(ValueError, match=r"nowhere\.arpa: no such file"):
        bigram_table("nowhere.arpa", TOKENS, 0)
    with pytest.raises(ValueError, match="lm_scale >= 0"):
        LFMMICriterion(str(arpa), lm_scale=-0.1)


def test_a_packed_model_needs_no_bigram_to_decode() -> None:
    """The file is read where training begins, not where the model is built."""
    model = build(loss="lf_mmi", loss_conf={"bigram": "/gone/label.arpa"})
    assert isinstance(model.criterion, LFMMICriterion)
