"""decode, rescore and tune-scales into folders with results of other models or options."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from espnet_plugin.data.nbest_lists import read_nbest
from tests.decode_job import decode, make_job, refusal
from tests.disk_faults import full_disk


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return make_job(tmp_path_factory.mktemp("job"), "monotonic")


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the clock's."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def cut(folder: Path) -> None:
    """As a kill leaves it: the last batch is not there."""
    for table in folder.rglob("*best_recog/*"):
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))


def test_decode_refuses_a_folder_begun_with_other_options(job, tmp_path, caplog):
    _, options = job
    out = tmp_path / "out"
    whole = decode(options, out, "--nbest", 2, "--beam_size", 4)
    cut(out)
    before = contents(out)
    said = refusal(caplog, options, out, "--nbest", 2, "--beam_size", 5, "--batch_size", 2)
    assert f"{out}: holds results made with beam_size 4, not 5. They are not mixed" in said
    assert "give another --output_dir, or move this folder away" in said
    assert contents(out) == before, "nothing of it was touched"
    assert decode(options, out, "--nbest", 2, "--beam_size", 4) == whole


def test_decode_refuses_a_folder_begun_with_another_model(job, tmp_path, caplog):
    """Of the same name: an epoch more, as when a training went on."""
    folder, options = job
    shutil.copytree(folder / "model", tmp_path / "model")
    position = options.index("--asr_model_file") + 1
    model = tmp_path / "model" / Path(options[position]).name
    given = [*options[:position], str(model), *options[position + 1 :]]
    decode(given, tmp_path / "out", "--nbest", 2)
    cut(tmp_path / "out")
    states = torch.load(model, weights_only=True)
    torch.save({name: value * 1.1 for name, value in states.items()}, model)
    said = refusal(caplog, given, tmp_path / "out", "--nbest", 2, "--batch_size", 2)
    assert f"model_file {model} (" in said and "not mixed" in said


def test_decode_refuses_other_data_and_another_language_model(job, tmp_path, caplog):
    folder, options = job
    lm = tmp_path / "lm.arpa"
    shutil.copy(folder / "lm.arpa", lm)
    given = ["--lm", f"ngram:{lm}:0.3", "--batch_size", 2]
    decode(options, tmp_path / "out", *given)
    lm.write_text(lm.read_text().replace("-0.", "-1.", 1))
    said = refusal(caplog, options, tmp_path / "out", *given)
    assert f"file lm.arpa {lm} (" in said
    keys = tmp_path / "keys"
    keys.write_text("u0\n")
    decode(options, tmp_path / "other")
    position = options.index("--key_file") + 1
    fewer = [*options[:position], str(keys), *options[position + 1 :]]
    assert "utterances" in refusal(caplog, fewer, tmp_path / "other", "--batch_size", 2)


def test_rescore_refuses_lists_with_other_scales(job, tmp_path, caplog):
    from espnet_plugin.bin.rescore import main as rescore

    folder, options = job
    decode(options, tmp_path / "lists", "--nbest", 3, "--lm", f"ngram:{folder / 'lm.arpa'}:0.3")
    given = ["--nbest_dir", str(tmp_path / "lists"), "--output_dir", str(tmp_path / "out")]
    word = f"word:{folder / 'word.arpa'}"
    assert rescore([*given, "--lm", f"{word}:0.5", "--batch_size", "2"]) == 0
    whole = read_nbest(tmp_path / "out")
    cut(tmp_path / "out")
    before = contents(tmp_path / "out")
    assert rescore([*given, "--lm", f"{word}:0.7"]) == 2
    assert f"made with lm {word}:0.5, not {word}:0.7. They are not mixed" in caplog.text
    assert contents(tmp_path / "out") == before
    assert rescore([*given, "--lm", f"{word}:0.5", "--batch_size", "1"]) == 0
    assert read_nbest(tmp_path / "out") == whole
    decode(options, tmp_path / "lists2", "--nbest", 2, "--lm", f"ngram:{folder / 'lm.arpa'}:0.3")
    given[1] = str(tmp_path / "lists2")
    assert rescore([*given, "--lm", f"{word}:0.5"]) == 2
    assert "lists " in caplog.text


def test_tune_scales_decodes_anew_what_no_longer_fits_and_refuses_another_model(
    job, tmp_path, caplog
):
    from espnet_plugin.bin.tune_scales import main as tune

    folder, options = job
    out = tmp_path / "scales"
    given = [*options, "--output_dir", str(out), "--text", str(folder / "data/text")]
    given += ["--lm", f"ngram:{folder / 'lm.arpa'}", "--nbest", "4", "--tune_passes", "2"]
    assert tune([*given, "--lm_grid", "0.7", "--ilm_grid", "0"]) == 0
    first = contents(out / "nbest2")
    assert tune([*given, "--lm_grid", "0.2", "--ilm_grid", "0"]) == 0
    assert first != contents(out / "nbest2"), "the second lists follow from the first choice"
    assert len(list(out.glob("nbest2.stale.*"))) == 1
    caplog.clear()
    assert tune([*given, "--beam_size", "3", "--lm_grid", "0.2", "--ilm_grid", "0"]) == 2
    assert f"{out / 'nbest'}: holds results made with beam_size 20, not 3" in caplog.text


def test_a_list_cut_within_its_last_line_is_no_list(job, tmp_path, caplog):
    from espnet_plugin.bin.tune_scales import main as tune

    folder, options = job
    decode(options, tmp_path / "lists", "--nbest", 2, "--ilm_scale", 0.1)
    table = tmp_path / "lists/2best_recog/text"
    whole = table.read_bytes()
    table.write_bytes(whole[:-2])  # half a word less, and still a hypothesis
    given = ["--nbest_dir", str(tmp_path / "lists"), "--text", str(folder / "data/text")]
    given += ["--output_dir", str(tmp_path / "scales")]
    assert tune(given) == 2
    assert f"{table}: the line of u2 is cut off" in caplog.text
    assert not (tmp_path / "scales").exists()
    decode(options, tmp_path / "lists", "--nbest", 2, "--ilm_scale", 0.1)  # as the message says
    assert table.read_bytes() == whole and tune(given) == 0


def test_a_full_disk_while_decoding_by_hand(job, tmp_path, caplog):
    _, options = job
    whole = decode(options, tmp_path / "whole", "--nbest", 2)
    for room in (100, 600):
        with full_disk(room):
            said = refusal(caplog, options, tmp_path / "out", "--nbest", 2, "--batch_size", 2)
        assert f"{tmp_path / 'out'}/" in said and "no file may be so large here" in said
    assert decode(options, tmp_path / "out", "--nbest", 2) == whole
