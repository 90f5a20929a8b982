"""The transcripts that a criterion may count in, where a training begins."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.search.lm.label_bigram import bigram_table, estimate_bigram
from espnet_plugin.search.lm.ngram import NgramModel
from tests.tiny_model import ENCODER, PHONEMES, TOKENS


def prepared(training):
    """The criterion of a training that is about to begin."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    training.encoder_conf, training.normalize = ENCODER, None
    training.loss, training.loss_conf = "lf_mmi", {}
    training.decoder = "feedforward_prediction"
    model = ProgressiveASRTask.build_model(training)
    ProgressiveASRTask.build_optimizers(training, model)
    return model.criterion


def bigram(sentences, tokens=TOKENS):
    return bigram_table(NgramModel(estimate_bigram(sentences, tokens, 0)), tokens, 0)


def test_they_are_the_labels_of_what_is_sampled(training, tmp_path):
    assert torch.equal(prepared(training)._table, bigram([[3, 4, 2, 4, 3], [3, 4], [4]]))
    shapes = tmp_path / "speech_shape"
    shapes.write_text("".join(shapes.read_text().splitlines(keepends=True)[1:]))
    assert torch.equal(prepared(training)._table, bigram([[3, 4], [4]]))


def test_pronunciations_are_those_of_the_training(training, tmp_path):
    (tmp_path / "lexicon").write_text("AB A B\nB B\nBA B A A\n")
    training.token_type, training.token_list = "word", PHONEMES
    training.preprocessor = "lexicon"
    training.preprocessor_conf = {"lexicon": str(tmp_path / "lexicon")}
    wanted = bigram([[2, 5, 4, 2, 3], [2, 5], [5]], PHONEMES)
    assert torch.equal(prepared(training)._table, wanted)


def test_without_preprocessor_they_are_numbers(training, tmp_path):
    (tmp_path / "data/text").write_text("u0 3 4\nu1 4\nu2 4 4\n")
    training.use_preprocessor = False
    assert torch.equal(prepared(training)._table, bigram([[3, 4], [4], [4, 4]]))


def test_no_label_and_no_text(training, tmp_path):
    (tmp_path / "data/text").write_text("u0\nu1\nu2\n")
    with pytest.raises(ValueError, match="training transcripts: there is no label in them"):
        prepared(training)
    training.train_data_path_and_name_and_type = []
    with pytest.raises(ValueError, match=r"lf_mmi: .*: the training has no text that"):
        prepared(training)
