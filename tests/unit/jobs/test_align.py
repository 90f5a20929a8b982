"""The align job on a tiny transducer of either topology: its own best path, as files hold it."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.data.check.labels import check_alignment
from espnet_plugin.data.check.report import CheckOptions, Report
from espnet_plugin.data.kaldi_files import read_integers, read_table
from espnet_plugin.pipeline.state.quality import assess_alignment
from espnet_plugin.search.align.entries import entry_labels, frame_count, label_frames
from tests.tiny_model import TOKENS, write_data, write_model

TEXTS = {"u0": "AB BA", "u1": "ABBA BAAB", "u2": "B"}
CHARACTERS = {utt: ["<space>" if c == " " else c for c in text] for utt, text in TEXTS.items()}


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_realigning_with_the_transducer(tmp_path, topology):
    from espnet_plugin.jobs import align

    config, model_file = write_model(tmp_path / "model", topology)
    options = write_data(tmp_path / "data", TEXTS, frames=29)
    options += ["--data_path_and_name_and_type", f"{tmp_path / 'data/text'},text,text"]
    options += ["--train_config", str(config), "--model_file", str(model_file)]
    out = tmp_path / "out"
    assert align.main([*options, "--source", "transducer", "--output_dir", str(out)]) == 0
    rows = read_integers(out / "alignment")
    frames = {"u0": 8, "u1": 6, "u2": 4}
    skipped = read_table(out / "skipped", allow_empty=True)
    assert list(skipped) == (["u1"] if topology == "monotonic" else [])  # 9 labels, 6 frames
    for utt, entries in rows.items():
        assert [TOKENS[label] for label in entry_labels(entries)] == CHARACTERS[utt]
        assert frame_count(entries) == frames[utt]
        assert label_frames(entries) == sorted(label_frames(entries))
    if topology == "monotonic":
        assert all(min(entries) >= 0 for entries in rows.values())
        return
    assert min(rows["u1"]) < 0
    for checked in ("rnnt", "monotonic"):
        report = Report(tmp_path / "data", utterances=sorted(TEXTS))
        given = CheckOptions(tokens=tuple(TOKENS), topology=checked)
        check_alignment(out / "alignment", CHARACTERS, frames, given, report)
        assert not report.errors and ("u1" in report.skipped) == (checked == "monotonic")
        assert checked == "monotonic" or not report.skipped
    figures = assess_alignment(out)
    assert figures["frames"] == 18 and figures["labels"] == 15
    scores = read_table(out / "score")
    total = sum(float(scores[utt]) * frames[utt] for utt in rows)
    assert figures["score_per_frame"] == pytest.approx(total / 18, rel=1e-4)


def test_the_written_path_has_the_written_score(tmp_path):
    """What a viterbi stage without smoothing and boost would call the loss of that path."""
    from espnet_plugin.jobs import align
    from espnet_plugin.models.criteria import ViterbiCriterion
    from espnet_plugin.tasks.model_fit import build_fitting_model
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    config, model_file = write_model(tmp_path / "model", "rnnt")
    options = write_data(tmp_path / "data", TEXTS, frames=29)
    options += ["--data_path_and_name_and_type", f"{tmp_path / 'data/text'},text,text"]
    options += ["--train_config", str(config), "--model_file", str(model_file)]
    out = tmp_path / "out"
    assert align.main([*options, "--source", "transducer", "--output_dir", str(out)]) == 0
    model, _ = build_fitting_model(ProgressiveASRTask, config, model_file, "cpu")
    model.eval().criterion = ViterbiCriterion(0.0, 0.0, 0.0, 0.0, chunk_size=0)
    speech = _features(tmp_path / "data/feats.scp")
    for utt, entries in read_integers(out / "alignment").items():
        labels = torch.tensor([entry_labels(entries)])
        with torch.no_grad():
            loss, _, _ = model(
                speech=speech[utt][None],
                speech_lengths=torch.tensor([len(speech[utt])]),
                text=labels,
                text_lengths=torch.tensor([labels.size(1)]),
                alignment=torch.tensor([entries]),
                alignment_lengths=torch.tensor([len(entries)]),
                utt_id=[utt],
            )
        per_frame = float(read_table(out / "score")[utt])
        assert float(loss) == pytest.approx(-per_frame * frame_count(entries), rel=1e-3)


def _features(scp):
    from espnet2.train.dataset import DATA_TYPES

    loaded = DATA_TYPES["kaldi_ark"]["func"](str(scp))
    return {utt: torch.tensor(loaded[utt]) for utt in read_table(scp)}
