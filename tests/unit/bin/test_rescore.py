"""ESPnet's language models, rescore and tune-scales on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from espnet_plugin.data.nbest_lists import read_nbest, read_settings
from espnet_plugin.search import read_arpa
from tests.decode_job import decode, make_job, refusal
from tests.tiny_model import TOKENS, write_language_model


@pytest.fixture(scope="module", params=["monotonic", "rnnt"])
def job(request, tmp_path_factory):
    return make_job(tmp_path_factory.mktemp(request.param), request.param)


def test_espnets_language_models(job, tmp_path):
    from espnet_plugin.bin.rescore import main as rescore

    folder, options = job
    model = write_language_model(tmp_path / "lm", TOKENS)
    lists = decode(options, tmp_path / "a", "--nbest", 3, "--lm", f"espnet:{model}:0.5")
    # ESPnet's own names for it
    names = ["--lm_file", model, "--lm_train_config", tmp_path / "lm/config.yaml"]
    again = decode(options, tmp_path / "b", "--nbest", 3, *names, "--lm_weight", 0.5)
    assert again == lists
    # and as a rescoring model, which scores whole sentences
    without = ["--nbest", 3, "--lm", f"ngram:{folder / 'lm.arpa'}:0.5"]
    decode(options, tmp_path / "c", *without)
    for kind in ("espnet", "espnet-text"):
        given = ["--nbest_dir", str(tmp_path / "c"), "--output_dir", str(tmp_path / kind)]
        assert rescore([*given, "--lm", f"{kind}:{model}:0.5"]) == 0
    by_tokens, by_text = read_nbest(tmp_path / "espnet"), read_nbest(tmp_path / "espnet-text")
    known = {entry.tokens: entry.lms[0] for found in lists.values() for entry in found}
    met = 0
    for utt, found in by_tokens.items():
        for entry in found:
            assert entry.score == pytest.approx(entry.am + 0.5 * sum(entry.lms), abs=1e-4)
            if entry.tokens in known:
                assert entry.lms[1] == pytest.approx(known[entry.tokens], abs=1e-3)
                met += 1
        tidy = [
            e
            for e in by_text[utt]
            if "".join(e.tokens).replace("<space>", " ") == " ".join(e.words)
        ]
        for entry in tidy:  # no leading, trailing or double spaces: the text is the labels
            twin = next(e for e in found if e.tokens == entry.tokens)
            assert entry.lms[1] == pytest.approx(twin.lms[1], abs=1e-3)
    assert met > 0


def test_a_language_model_of_another_vocabulary(job, tmp_path, caplog):
    _, options = job
    model = write_language_model(tmp_path / "lm", [*TOKENS[:4], "C", "<sos/eos>"])
    said = refusal(caplog, options, tmp_path / "a", "--lm", f"espnet:{model}:0.5")
    assert "token 4 is 'C' there and 'B' here" in said


def test_rescored_lists_are_tuned_and_sorted_by_the_tuned_scales(job, tmp_path):
    from espnet_plugin.bin.rescore import main as rescore
    from espnet_plugin.bin.tune_scales import main as tune

    folder, options = job
    decode(options, tmp_path / "lists", "--nbest", 5, "--ilm_scale", 0.1)
    lists = ["--nbest_dir", str(tmp_path / "lists")]
    word = f"word:{folder / 'word.arpa'}"
    assert rescore([*lists, "--output_dir", str(tmp_path / "r"), "--lm", word]) == 0
    scored = ["--nbest_dir", str(tmp_path / "r"), "--text", str(folder / "data/text")]
    grids = ["--lm_grid", "0.5", "0", "--ilm_grid", "0", "0.3"]
    assert tune([*scored, "--output_dir", str(tmp_path / "t"), *grids]) == 0
    rows = [row.split("|")[1:4] for row in (tmp_path / "t/grid.md").read_text().splitlines()[4:]]
    assert len(rows) == 4 and [float(r[2]) for r in rows] == sorted(float(r[2]) for r in rows)
    scales = json.loads((tmp_path / "t/scales.json").read_text())["scales"]
    assert [scales["lm"][0], scales["ilm"]] == [float(v) for v in rows[0][:2]]
    chosen = yaml.safe_load((tmp_path / "t/decode.yaml").read_text())
    assert chosen["lm"] == [f"{word}:{scales['lm'][0]:g}"] and chosen["ilm_scale"] == scales["ilm"]
    final = ["--output_dir", str(tmp_path / "f"), "--scales", str(tmp_path / "t/scales.json")]
    assert rescore([*lists, *final, "--lm", word]) == 0
    model = read_arpa(folder / "word.arpa")
    for found in read_nbest(tmp_path / "f").values():
        for e in found:
            assert e.lms[0] == pytest.approx(model.sentence(e.words), abs=1e-3)
            expected = e.am - scales["ilm"] * e.ilm + scales["lm"][0] * e.lms[0]
            assert e.score == pytest.approx(expected, abs=1e-4)
    assert (tmp_path / "f/text").read_text() == (tmp_path / "f/1best_recog/text").read_text()
    # scales for another number of models
    assert rescore([*lists, *final[:1], str(tmp_path / "g"), *final[2:]]) == 2


def test_tune_scales_decodes_by_itself(job, tmp_path):
    from espnet_plugin.bin.tune_scales import main

    folder, options = job
    text = f"{folder / 'data/text'},text,text"
    more = ["--data_path_and_name_and_type", text, "--output_dir", str(tmp_path)]
    more += ["--lm", f"ngram:{folder / 'lm.arpa'}", "--lm_grid", "0.5", "0", "--nbest", "4"]
    assert main([*options, *more]) == 0
    assert len((tmp_path / "grid.md").read_text().splitlines()) == 4 + 2 * 5
    chosen = yaml.safe_load((tmp_path / "decode.yaml").read_text())
    assert "nbest" not in chosen and chosen["search"] == "beam"
    decode(options, tmp_path / "again", "--config", tmp_path / "decode.yaml")
    assert main([*options, *more, "--tune_passes", "2"]) == 0
    summary = json.loads((tmp_path / "scales.json").read_text())
    assert [Path(folder).name for folder in summary["lists"]] == ["nbest", "nbest2"]
    made = read_settings(tmp_path / "nbest2")
    assert made["lm"] == chosen["lm"] and made["ilm_scale"] == chosen["ilm_scale"]
    assert main([*options, *more, "--tune_passes", "0"]) == 2


def test_empty_hypotheses_go_all_the_way(job, tmp_path):
    """A model that hears nothing: empty lines, no word in the CTM, rescored, all words deleted."""
    from espnet_plugin.bin.rescore import main as rescore
    from espnet_plugin.bin.tune_scales import main as tune

    folder, options = job
    if "rnnt" in str(folder):
        pytest.skip("all paths have equally many blanks there: no penalty can enforce them")
    word = f"word:{folder / 'word.arpa'}:0.4"
    lists = decode(options, tmp_path / "a", "--blank_penalty", -1000, "--lm", word)
    end = read_arpa(folder / "word.arpa").sentence([])
    for found in lists.values():
        assert found[0].words == found[0].tokens == ()
        assert found[0].lms[0] == pytest.approx(end, abs=1e-4)
    assert (tmp_path / "a/ctm").read_text() == ""
    model = write_language_model(tmp_path / "lm", TOKENS)
    given = ["--nbest_dir", str(tmp_path / "a"), "--output_dir", str(tmp_path / "b")]
    models = [f"{kind}:{model}:0.5" for kind in ("espnet", "espnet-text")]
    assert rescore([*given, "--lm", *models]) == 0
    for found in read_nbest(tmp_path / "b").values():
        assert found[0].lms[1] == pytest.approx(found[0].lms[2], abs=1e-4) and found[0].lms[1] < 0
    lists = ["--nbest_dir", str(tmp_path / "b"), "--text", str(folder / "data/text")]
    assert tune([*lists, "--output_dir", str(tmp_path / "t"), "--lm_grid", "0", "1"]) == 0
    assert json.loads((tmp_path / "t/scales.json").read_text())["wer"] == 1.0
