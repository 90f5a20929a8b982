"""Making language models: texts in units, n-grams, ESPnet's LM task with a stand-in for ESPnet."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from espnet_plugin.data.lm_text import make_units, write_units
from espnet_plugin.jobs import train_lm as command
from espnet_plugin.jobs.train_ngram import main as train_ngram
from espnet_plugin.pipeline.steps.lm_training import PRODUCT
from espnet_plugin.search import NgramModel, read_arpa

TEXT = "u1 yes no\nu2 no  no yes\nu3 maybe yes no\nu4\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text(TEXT)
    return path


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text("yes Y EH S\nno N OW\nno N AW\n")
    return path


def test_texts_in_units(text: Path, lexicon: Path, tmp_path: Path, caplog) -> None:
    out = tmp_path / "out"
    assert write_units(text, out, make_units("word"), ids=False) == 3
    assert out.read_text() == "yes no\nno no yes\nmaybe yes no\n"
    assert write_units(text, out, make_units("char"), ids=True) == 3
    assert out.read_text().splitlines()[0] == "u1 y e s <space> n o"
    assert write_units(text, out, make_units("phn", lexicon=lexicon), ids=True) == 2
    assert out.read_text() == "u1 Y EH S# N OW#\nu2 N OW# N OW# Y EH S#\n"
    assert "1 sentences with words that the lexicon lacks" in caplog.text


def test_texts_of_no_use(text: Path, lexicon: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; a language model"):
        write_units(tmp_path / "none", tmp_path / "out", make_units("word"), ids=False)
    with pytest.raises(ValueError, match="need --lexicon"):
        make_units("phn")
    lexicon.write_text("perhaps P ER\n")
    with pytest.raises(ValueError, match="0 sentences are of use, 3 hold words"):
        write_units(text, tmp_path / "out", make_units("phn", lexicon=lexicon), ids=False)
    text.write_bytes(b"u1 caf\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        write_units(text, tmp_path / "out", make_units("word"), ids=False)
    assert not (tmp_path / "out").exists()


def total_probability(model: NgramModel, context: list[str]) -> float:
    """Over all words and the end of the sentence: 1 for a proper model."""
    words = [word for word in model.words if word != "<s>"]
    state = torch.tensor([model.start_state()])
    for word in context:
        state = model.lookup(state, torch.tensor([model.index(word)]))[1]
    indices = torch.tensor([model.index(word) for word in words])
    log_probs, _ = model.lookup(state.repeat(len(indices)), indices)
    return float(log_probs.exp().sum())


def test_ngrams_are_proper_models_and_made_once(text: Path, tmp_path: Path, caplog) -> None:
    pytest.importorskip("kaldingram")
    caplog.set_level("INFO")
    text.write_text("".join(f"u{n} {line}\n" for n, line in enumerate(
        ["yes no", "no no yes", "maybe yes no", "yes yes", "no maybe", "yes no maybe"] * 2
    )))  # fmt: skip
    out = tmp_path / "lm" / "word.arpa"
    options = ["--text", str(text), "--out", str(out), "--order", "2"]
    assert train_ngram([*options, "--valid_text", str(text)]) == 0
    model = read_arpa(out)
    assert model.order == 2 and set(model.words) == {"<s>", "</s>", "yes", "no", "maybe"}
    for context in ([], ["yes"], ["no", "maybe"]):
        assert total_probability(model, context) == pytest.approx(1.0, abs=1e-4)
    assert "0.00 % unknown" in caplog.text
    log_prob = sum(model.sentence(line.split()[1:]) for line in text.read_text().splitlines())
    units = sum(len(line.split()) for line in text.read_text().splitlines())
    assert f"perplexity {math.exp(-log_prob / units):.1f}" in caplog.text
    stamp = out.stat().st_mtime_ns
    assert train_ngram(options) == 0 and out.stat().st_mtime_ns == stamp
    text.write_text(text.read_text() + "u99 no yes\n")
    assert train_ngram(options) == 0 and out.stat().st_mtime_ns != stamp


def test_bad_orders_and_texts(text: Path, tmp_path: Path, caplog, monkeypatch) -> None:
    out = str(tmp_path / "lm.arpa")
    assert train_ngram(["--text", str(text), "--out", out, "--order", "7"]) == 2
    assert "2 to 5" in caplog.text
    assert train_ngram(["--text", str(tmp_path / "none"), "--out", out]) == 2
    monkeypatch.setitem(sys.modules, "kaldingram", None)
    assert train_ngram(["--text", str(text), "--out", out]) == 2
    assert "pip install kaldingram" in caplog.text


# ESPnet's LM task ---------------------------------------------------------------------------------

STAND_IN = '''#!{python}
"""Takes ESPnet's lm_train options; leaves what it leaves."""
import pathlib, sys
options = sys.argv[3:]
def of(name):
    return [options[i + 1] for i, o in enumerate(options) if o == name]
with open("calls", "a") as stream:
    stream.write(" ".join(options) + "\\n")
folder = pathlib.Path(of("--output_dir")[-1])
if of("--log"):  # ESPnet's launcher
    log = pathlib.Path(of("--log")[0])
    if log.exists():
        log.rename(log.with_name("train.1.log"))
    log.write_text("1/1epoch started\\n1epoch results: [train] loss=0.5, [valid] loss=0.25\\n")
if of("--collect_stats"):
    for part in ("train", "valid"):
        (folder / part).mkdir(parents=True)
        lines = open(of(f"--{{part}}_shape_file")[0]).read().splitlines()
        shapes = [f"{{l.split()[0]}} {{len(l.split()) - 1}}\\n" for l in lines]
        (folder / part / "text_shape").write_text("".join(shapes))
    sys.exit()
if pathlib.Path("fail").exists():
    sys.exit("no memory")
(folder / "valid.loss.ave.pth").write_text("model")
'''


@pytest.fixture
def options(text: Path, lexicon: Path, tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").write_text(STAND_IN.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "lm.yaml").write_text("lm: seq_rnn\nmax_epoch: 3\n")
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\nY\n<sos/eos>\n")
    return ["--config", "lm.yaml", "--lm_exp", "exp", "--train_text", "text", "--valid_text",
            "text", "--token_type", "phn", "--lexicon", "lexicon.txt", "--token_list",
            "tokens.txt", "--python", str(tmp_path / "python")]  # fmt: skip


def test_statistics_then_training_and_only_once(options: list[str], tmp_path: Path) -> None:
    assert command.main(options) == 0
    stats, train = (tmp_path / "calls").read_text().splitlines()
    assert "--collect_stats true" in stats and "--resume true" in train
    assert "--token_type word" in train  # the text holds phonemes by now
    assert (tmp_path / "exp/text/train").read_text().startswith("u1 Y EH S# N OW#\n")
    assert (tmp_path / "exp/stats/train/text_shape.size").read_text() == "u1 5,4\nu2 7,4\n"
    assert json.loads((tmp_path / "exp/lm.json").read_text())["done"]
    assert command.main(options) == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_failed_training_goes_on_and_keeps_its_statistics(options, tmp_path, caplog) -> None:
    (tmp_path / "fail").touch()
    assert command.main(options) == 1
    assert "no memory" in caplog.text
    (tmp_path / "fail").unlink()
    assert command.main(options) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [("--collect_stats" in call) for call in calls] == [True, False, False]
    assert (tmp_path / "exp" / PRODUCT).is_file()


def test_an_average_that_was_cut_off_is_made_again(options, tmp_path, capsys) -> None:
    assert command.main(options) == 0
    model = tmp_path / "exp" / PRODUCT
    model.write_text("mod")
    capsys.readouterr()
    assert command.main(options) == 0
    said = capsys.readouterr().out
    assert f"exp: trained before, and now {PRODUCT} has 3 bytes instead of 5" in said
    assert model.read_text() == "model"
    assert command.main(options) == 0 and "trained before\n" in capsys.readouterr().out


def test_a_model_of_other_text_is_not_reused(options, tmp_path, caplog) -> None:
    assert command.main(options) == 0
    (tmp_path / "text").write_text("u9 yes\n")
    assert command.main(options) == 2
    assert "other text, tokens or options" in caplog.text


def test_it_runs_where_the_commands_say_with_further_arguments(
    options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.pl").write_text('#!/bin/sh\nlog=$1; shift; exec "$@" >"$log" 2>&1\n')
    (tmp_path / "a.pl").chmod(0o755)
    there = ["--train_cmd", str(tmp_path / "a.pl"), "--cuda_cmd", "slurm.pl", "--ngpu", "1"]
    assert command.main([*options, *there, "--lm_args", "--max_epoch 9"]) == 0
    assert (tmp_path / "exp/stats/submit.log").exists()
    assert (tmp_path / "exp/launch.log").exists()
    stats, train = (tmp_path / "calls").read_text().splitlines()
    assert stats.endswith("--max_epoch 9 --collect_stats true --ngpu 0")
    assert train.startswith("--cmd slurm.pl --log exp/train.log --ngpu 1")
    assert "--max_epoch 9" in train and "--fold_length 150" in train
    assert command.main([*options, *there]) == 2  # the arguments are part of what it is made from


def test_another_fold_length_makes_another_model(options, tmp_path, caplog) -> None:
    assert command.main([*options, "--lm_fold_length", "99"]) == 0
    assert command.main([*options, "--lm_fold_length", "99"]) == 0
    assert command.main(options) == 2
    assert "other text, tokens or options" in caplog.text


@pytest.mark.parametrize("own", ["fold_length: [200]", "batch_type: numel"])
def test_a_fold_length_that_is_not_used_makes_no_other_model(options, tmp_path, own) -> None:
    (tmp_path / "lm.yaml").write_text(f"lm: seq_rnn\n{own}\n")
    assert command.main(options) == 0
    assert command.main([*options, "--lm_fold_length", "99"]) == 0


def test_epochs_are_shown_though_the_launcher_moved_the_log(
    options: list[str], tmp_path: Path, capsys
) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/train.log").write_text("an earlier attempt\n" * 100)
    assert command.main([*options, "--cuda_cmd", "slurm.pl"]) == 0
    assert (tmp_path / "exp/train.1.log").exists()
    assert "epoch   1/1" in capsys.readouterr().out


def test_symbols_are_one_unit_and_texts_are_cleaned(
    options: list[str], tmp_path: Path, monkeypatch
) -> None:
    symbols = tmp_path / "nlsyms.txt"
    symbols.write_text("<noise>\n")
    (tmp_path / "text").write_text("u1 no <noise> no\nu2 <noise> yes\nu3 yes\n")
    units = make_units("char", symbols=("<noise>",))
    assert write_units(Path("text"), Path("out"), units, ids=False, clean=str.swapcase) == 3
    assert Path("out").read_text().splitlines()[1] == "< N O I S E > <space> Y E S"
    assert write_units(Path("text"), Path("out"), units, ids=False) == 3
    assert Path("out").read_text().splitlines()[1] == "<noise> <space> y e s"
    kept = [o for o in options if o not in ("phn", "--lexicon", "lexicon.txt", "--token_type")]
    more = ["--token_type", "char", "--nlsyms_txt", str(symbols), "--cleaner", "tacotron"]
    assert command.main([*kept, *more]) == 0
    calls = (tmp_path / "calls").read_text()
    assert calls.count(f"--non_linguistic_symbols {symbols} --cleaner tacotron") == 2
    assert command.main([*kept, *more[:4]]) == 2  # another model
