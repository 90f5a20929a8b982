"""Decoding with a pipeline's stages: merged output, language models, tuned scales, staleness."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_plugin.bin import train
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.nbest_lists import read_settings
from espnet_plugin.jobs import decode_stages
from espnet_plugin.pipeline import decoding
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from tests.disk_faults import full_disk


@pytest.fixture
def options(corpus: Path, arguments: list[str]) -> list[str]:
    """Options of decode_stages for a pipeline of an aligner and one more stage, trained."""
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    for name in ("full_sum", "mbr"):
        del config["train_stages"][name]
    config["train_stages"]["align"]["loss"] = "ctc"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 0
    (corpus / "decode_x.yaml").write_text("nbest: 2\nbeam_size: 4\n")
    (corpus / "words.arpa").write_text("an n-gram model")
    data = ["--decode_data", str(corpus / "dump/valid")]
    return [*arguments, "--inference_config", str(corpus / "decode_x.yaml"), *data]


def test_merged_output(corpus: Path, options: list[str], capsys) -> None:
    assert decode_stages.main(options) == 0
    folder = corpus / "exp/t/decode/viterbi_x/valid"
    keys = ["valid0", "valid1", "valid2"]
    assert list(read_table(folder / "text")) == keys
    assert read_table(folder / "2best_recog/text") == dict.fromkeys(keys, "A A")
    assert (folder / "1best_recog/text").read_text() == (folder / "text").read_text()
    ctm = (folder / "ctm").read_text().splitlines()
    assert ctm == [f"{key} 1 0.1 0.2 A 0.9" for key in keys]
    assert read_settings(folder)["beam_size"] == 4
    assert "viterbi_x/valid: RTF 0.1000 (encoder 0.0500, search 0.0500" in capsys.readouterr().out
    assert (corpus / "exp/t/decode/align_x/valid/text").is_file()


def test_language_models_of_the_command_line(corpus: Path, options: list[str], caplog) -> None:
    model = f"word:{corpus / 'words.arpa'}"
    assert decode_stages.main([*options, "--lm", model]) == 2
    assert "no scale for" in caplog.text
    assert decode_stages.main([*options, "--lm", f"{model}:0.5"]) == 0
    folder = corpus / "exp/t/decode/viterbi_x_lm/valid"
    assert read_settings(folder)["lm"] == [f"{model}:0.5"]
    # another scale, or another model under the same name, is another decoding
    assert decode_stages.main([*options, "--lm", f"{model}:0.6"]) == 2
    assert "decoded with another model, configuration or data" in caplog.text
    (corpus / "words.arpa").write_text("made again")
    assert decode_stages.main([*options, "--lm", f"{model}:0.5"]) == 2
    assert decode_stages.main([*options, "--lm", f"{model}:0.5", "--rerun_stale", "true"]) == 0
    assert decode_stages.main([*options, "--lm", f"word:{corpus / 'none.arpa'}:0.5"]) == 2
    assert "no such file" in caplog.text


def test_scales_are_tuned_for_each_stage_and_used(corpus: Path, options: list[str], capsys) -> None:
    model = f"word:{corpus / 'words.arpa'}"
    tuned = [*options, "--lm", model, "--tune_scales", "true"]
    assert decode_stages.main(tuned) == 0
    scales = corpus / "exp/t/scales"
    assert [path.name for path in scales.iterdir()] == ["viterbi_x_lm"]  # not for an aligner
    lists = read_settings(scales / "viterbi_x_lm/valid")
    assert lists["nbest"] == 20 and lists["lm"] == [f"{model}:0.4"] and lists["ilm_scale"] == 0.1
    # "A B" was said: the hypotheses "A" and "A A" are one error away, all others more; of the
    # scales that find one of them, the lists' own are taken
    chosen = yaml.safe_load((scales / "viterbi_x_lm/decode.yaml").read_text())
    assert chosen == {"nbest": 2, "beam_size": 4, "lm": [f"{model}:0.4"], "ilm_scale": 0.1}
    used = read_settings(corpus / "exp/t/decode/viterbi_x_lm/valid")
    assert used["lm"] == chosen["lm"] and used["ilm_scale"] == 0.1
    stamp = (scales / "viterbi_x_lm/decode.yaml").stat().st_mtime_ns
    capsys.readouterr()
    assert decode_stages.main(tuned) == 0
    assert (scales / "viterbi_x_lm/decode.yaml").stat().st_mtime_ns == stamp
    assert capsys.readouterr().out.count("done before") == 3
    # of the folders that all this has made, only two may be called as a stage is
    made = {path.name for path in (corpus / "exp/t").iterdir() if path.is_dir()}
    others = made - {"align", "viterbi"}
    assert others == {"alignment", "conf", "decode", "scales", "word_times"}
    for name in others:
        with pytest.raises(ValueError, match="give the stage another name"):
            TrainStage(name, "ctc", {}, None)
    # another grid sorts the same lists anew
    grids = ["--ilm_grid", "0.3", "--rerun_stale", "true"]
    assert decode_stages.main([*tuned, *grids]) == 0
    used = read_settings(corpus / "exp/t/decode/viterbi_x_lm/valid")
    assert used["ilm_scale"] == 0.3


def test_other_options_under_one_tag_are_not_ignored(
    corpus: Path, options: list[str], caplog, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = [*options, "--decode_stages", "viterbi", "--tune_scales", "true"]
    tuned += ["--lm", f"word:{corpus / 'words.arpa'}", "--inference_tag", "y"]
    narrow = [*tuned, "--inference_args", "--beam_size 6"]  # the lists: 20 in either case
    wide = [*tuned, "--inference_args", "--beam_size 9"]
    assert decode_stages.main(narrow) == 0
    assert decode_stages.main(wide) == 2
    assert "decode/viterbi_y/valid: decoded with another model, configuration" in caplog.text
    capsys.readouterr()
    assert decode_stages.main(narrow) == 0
    assert capsys.readouterr().out.count("done before") == 2  # the lists, and the decoding

    def broken(*given: object) -> None:
        raise OSError("killed between the scales and their mark")

    with monkeypatch.context() as patch:
        patch.setattr("espnet_plugin.pipeline.tuning.write_atomically", broken)
        with pytest.raises(OSError, match="killed between"):
            decode_stages.main(wide)
    assert decode_stages.main(narrow) == 0, "what the broken call left is not taken for its own"
    assert decode_stages.main([*wide, "--rerun_stale", "true"]) == 0
    folder = corpus / "exp/t/decode/viterbi_y/valid"
    assert read_settings(folder)["beam_size"] == 9
    assert yaml.safe_load((corpus / "exp/t/scales/viterbi_y/decode.yaml").read_text()) == {
        **{"nbest": 2, "beam_size": 9, "ilm_scale": 0.1},
        "lm": [f"word:{corpus / 'words.arpa'}:0.4"],
    }


def test_a_second_pass_makes_lists_with_the_scales_of_the_first(
    corpus: Path, options: list[str], capsys
) -> None:
    model = f"word:{corpus / 'words.arpa'}"
    tuned = [*options, "--lm", model, "--tune_scales", "true", "--lm_grid", "0.3", "0.9"]
    tuned += ["--ilm_grid", "0", "0.3", "--tune_passes", "3"]
    assert decode_stages.main([*tuned[:-1], "0"]) == 2
    assert decode_stages.main(tuned) == 0
    scales = corpus / "exp/t/scales"
    names = ["viterbi_x_lm", "viterbi_x_lm_pass2"]  # the third would be the second again
    assert sorted(path.name for path in scales.iterdir()) == names
    first = yaml.safe_load((scales / "viterbi_x_lm/decode.yaml").read_text())
    assert first["lm"] == [f"{model}:0.3"] and first["ilm_scale"] in (0.0, 0.3)
    lists = read_settings(scales / "viterbi_x_lm_pass2/valid")
    assert (lists["lm"], lists["ilm_scale"]) == (first["lm"], first["ilm_scale"])
    assert lists["nbest"] == lists["beam_size"] == 20 and lists["word_times"] == "none"
    second = yaml.safe_load((scales / "viterbi_x_lm_pass2/decode.yaml").read_text())
    assert second["nbest"] == 2 and second["beam_size"] == 4
    summary = json.loads((scales / "viterbi_x_lm_pass2/scales.json").read_text())
    assert [Path(folder).parent.name for folder in summary["lists"]] == names
    used = read_settings(corpus / "exp/t/decode/viterbi_x_lm/valid")
    assert used["lm"] == second["lm"]
    capsys.readouterr()
    assert decode_stages.main(tuned) == 0
    assert capsys.readouterr().out.count("done before") == 4


def test_greedy_search_has_no_scales(corpus: Path, options: list[str], caplog) -> None:
    (corpus / "decode_x.yaml").write_text("search: greedy\n")
    assert decode_stages.main([*options, "--tune_scales", "true"]) == 2
    assert "search greedy has no scales to tune" in caplog.text


def test_language_models_of_the_nbest_lists_are_part_of_their_fingerprint(
    corpus: Path, arguments: list[str], caplog
) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["nbest"] = {"nbest": 2, "lm": [f"word:{corpus / 'words.arpa'}:0.4"]}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(arguments) == 2  # before anything is trained
    assert "words.arpa; named by" in caplog.text and not (corpus / "exp/t/align").exists()
    (corpus / "words.arpa").write_text("an n-gram model")
    assert train.main(arguments) == 0
    log = (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert f"--lm word:{corpus / 'words.arpa'}:0.4" in log
    (corpus / "words.arpa").write_text("another one")
    caplog.clear()
    assert train.main(arguments) == 2
    assert "job:nbest" in caplog.text and "changed" in caplog.text


def test_options_and_model_of_the_command_line(corpus: Path, options: list[str], caplog) -> None:
    more = [*options, "--decode_stages", "viterbi"]
    assert decode_stages.main([*more, "--inference_args", "--beam_size 9 --ilm_scale=0.1"]) == 0
    folder = corpus / "exp/t/decode/viterbi_x_beam_size9_ilm_scale0.1/valid"
    assert read_settings(folder)["beam_size"] == 9 and read_settings(folder)["nbest"] == 2
    log = (folder / "logdir/log.1").read_text()
    assert "--ilm_scale 0.1" in log
    assert decode_stages.main([*more, "--inference_args", "9"]) == 2
    assert "--inference_args: expected --OPTION VALUE, got '9'" in caplog.text

    other = ["--inference_asr_model", "1epoch.pth"]
    assert decode_stages.main([*more, *other]) == 2
    assert "viterbi/1epoch.pth: no such model to decode with; there: " in caplog.text
    trained = corpus / "exp/t/viterbi"
    (trained / "1epoch.pth").write_bytes((trained / "valid.loss.ave.pth").read_bytes())
    assert decode_stages.main([*more, *other]) == 0
    log = (corpus / "exp/t/decode/viterbi_x_1epoch/valid/logdir/log.1").read_text()
    assert f"--asr_model_file {trained / '1epoch.pth'}" in log
    # of a given name, the same folder with another model is refused
    assert decode_stages.main([*more, *other, "--inference_tag", "x"]) == 0
    assert decode_stages.main([*more, "--inference_tag", "x"]) == 2
    assert "decoded with another model" in caplog.text


def test_a_model_that_was_cut_off_is_not_decoded_with(
    corpus: Path, options: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = corpus / "exp/t/viterbi/valid.loss.ave.pth"
    size = model.stat().st_size
    model.write_bytes(model.read_bytes()[:-1])
    assert decode_stages.main(options) == 2
    assert f"{model.parent}: the stage was finished, and now {model.name} has {size - 1} bytes" in (
        caplog.text
    )
    assert "train once more with --rerun_stale true, which makes it again" in caplog.text


@pytest.mark.parametrize("room", [0, 40, 3000])
def test_a_full_disk_while_decoding(
    corpus: Path, options: list[str], caplog: pytest.LogCaptureFixture, room: int
) -> None:
    with full_disk(room):
        assert decode_stages.main(options) in (1, 2)
    assert "`ulimit -f`" in caplog.records[-1].getMessage()
    assert decode_stages.main(options) == 0
    keys = ["valid0", "valid1", "valid2"]
    assert read_table(corpus / "exp/t/decode/viterbi_x/valid/text") == dict.fromkeys(keys, "A")


def test_a_list_that_changes_while_it_is_decoded(
    corpus: Path, options: list[str], caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    scp, work = corpus / "dump/valid/feats.scp", decoding.run_jobs
    before = scp.read_text()

    def changing(*given: Any) -> None:
        work(*given)
        scp.write_text(before.replace("feats.ark:1", "feats.ark:9"))

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "run_jobs", changing)
        assert decode_stages.main(options) == 2
    assert f"{scp}: changed during its decoding" in caplog.text
    scp.write_text(before)
    assert decode_stages.main(options) == 0


def test_a_set_that_is_named_twice_is_decoded_once(
    corpus: Path, options: list[str], capsys, caplog
) -> None:
    data = str(corpus / "dump/valid")
    twice = [*options[:-2], "--decode_data", data, data]
    assert decode_stages.main(twice) == 0
    assert "decoded 2 sets" in capsys.readouterr().out  # of two stages
    shutil.copytree(data, corpus / "other/valid")
    assert decode_stages.main([*twice, str(corpus / "other/valid")]) == 2
    assert "both would be decoded in decode/align_x/valid; give one" in caplog.text


def test_word_boundaries_are_learned_once(
    corpus: Path, options: list[str], capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "learn_boundaries")
    assert decode_stages.main(options) == 0  # times are then those of the labels
    assert "not learned, see" in capsys.readouterr().out
    folder = corpus / "exp/t"
    assert read_settings(folder / "decode/viterbi_x/valid")["boundary_file"] is None
    monkeypatch.delenv("FAKE_FAIL")
    assert decode_stages.main([*options, "--inference_tag", "y"]) == 0
    assert "learning where words begin and end" in capsys.readouterr().out
    boundaries = folder / "word_times/boundaries.npz"
    assert read_settings(folder / "decode/viterbi_y/valid")["boundary_file"] == str(boundaries)
    keys = (folder / "word_times/keys").read_text().split()
    assert keys == sorted(read_table(corpus / "dump/train/text"))
    without = ["--inference_args", "--word_times none", "--inference_tag", "n"]
    assert decode_stages.main([*options, *without]) == 0
    assert read_settings(folder / "decode/viterbi_n/valid")["boundary_file"] is None
    assert decode_stages.main([*options, "--inference_tag", "z"]) == 0
    assert "learning" not in capsys.readouterr().out
    assert read_settings(folder / "decode/viterbi_z/valid")["boundary_file"] == str(boundaries)
