"""The criterion lf_mmi on a tiny model: its bigram, what it refuses, and its loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.models.criteria.lf_mmi import BIGRAM_FILE, LFMMICriterion, context_outputs
from espnet_plugin.search import read_arpa
from espnet_plugin.search.lm.label_bigram import bigram_table
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
    table = bigram_table(read_arpa(arpa), TOKENS, 0)
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


def made(change: dict[str, object]) -> object:
    change = dict(change)
    context = change.pop("context", None)
    model = build(**change)
    if context is not None:
        model.prediction.context = context
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topology": "rnnt"}, "this model is rnnt"),
        ({"decoder": "lstm_prediction"}, "its prediction network sees all labels"),
        ({"context": 2}, "its prediction network sees 2 label(s)"),
    ],
)
def test_models_that_it_cannot_train(arpa: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=r"train it with mbr") as error:
        LFMMICriterion(str(arpa)).prepare(made(change))
    assert message in str(error.value)


def refused(bigram: str) -> str:
    with pytest.raises(ValueError, match="loss lf_mmi") as error:
        LFMMICriterion(bigram).prepare(build())
    return str(error.value)


def test_files_that_are_no_bigram_of_these_labels(arpa: Path) -> None:
    arpa.write_text(ARPA.replace(" a", " x").replace("b", "y").replace("<space>", "z"))
    assert f"{arpa}: 4 of 4 labels are not in the n-gram model" in refused(str(arpa))
    arpa.write_text(
        ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=1").replace(
            "\n\\end\\", "\n\\3-grams:\n-0.1 <s> a b\n\n\\end\\"
        )
    )
    assert "order 3; lf_mmi sums" in refused(str(arpa))
    assert "nowhere.arpa: no such file" in refused("nowhere.arpa")
    with pytest.raises(ValueError, match="lm_scale >= 0"):
        LFMMICriterion(str(arpa), lm_scale=-0.1)


def test_the_bigram_of_the_transcripts_is_counted_and_kept(tmp_path: Path) -> None:
    criterion = LFMMICriterion()
    with pytest.raises(ValueError, match="the training transcripts: nobody has told"):
        criterion.prepare(build())
    criterion.transcripts = lambda: [[], []]
    with pytest.raises(ValueError, match="the training transcripts: there is no label"):
        criterion.prepare(build())
    criterion.transcripts = lambda: [[3, 4, 2, 5], [], [5, 3]]
    criterion.prepare(build())
    criterion.record(tmp_path)
    again = LFMMICriterion(str(tmp_path / BIGRAM_FILE))
    again.prepare(build())
    assert criterion._table is not None and again._table is not None
    assert torch.allclose(criterion._table, again._table, rtol=1e-6)
    criterion.record(tmp_path / "twice")
    texts = [(tmp_path / name / BIGRAM_FILE).read_bytes() for name in ("", "twice")]
    assert texts[0] == texts[1]


def test_too_many_tokens_are_refused_with_the_memory_that_they_would_take(arpa: Path) -> None:
    model = build()
    model.token_list = [*TOKENS, *(f"more{n}" for n in range(4993))]
    with pytest.raises(ValueError, match="of 5000 tokens, 100 MB for each encoder frame, 150 GB"):
        LFMMICriterion(str(arpa)).prepare(model)


def test_long_utterances_are_left_out_of_training(arpa: Path) -> None:
    model, batch = build(freeze_batch_norm=True).train(), data()
    model.criterion = LFMMICriterion(str(arpa), max_frames=10)  # of 12 and 9
    model.criterion.prepare(model)
    limited, _, weight = model(**batch)
    one = {key: value[1:] for key, value in batch.items()}
    one["speech"] = one["speech"][:, :33]
    alone, _, _ = model(**one)
    assert weight == 1 and limited.item() == pytest.approx(alone.item(), rel=1e-4)
    with pytest.raises(ValueError, match="max_frames must be at least 1"):
        LFMMICriterion(str(arpa), max_frames=0)


def test_a_packed_model_needs_no_bigram_to_decode() -> None:
    """The file is read where training begins, not where the model is built."""
    model = build(loss="lf_mmi", loss_conf={"bigram": "/gone/label.arpa"})
    assert isinstance(model.criterion, LFMMICriterion)
