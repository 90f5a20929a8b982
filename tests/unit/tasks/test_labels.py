"""Labels that ESPnet's own reader would spoil reach the model, its search and its preprocessor."""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_plugin.inference.searchers import spell
from espnet_plugin.tasks.progressive import read_labels

NO_BREAK, IDEOGRAPHIC = "\u00a0", "\u3000"


def test_a_space_that_is_a_letter_is_a_label(tmp_path: Path) -> None:
    labels = ["<blank>", "<unk>", NO_BREAK, IDEOGRAPHIC, "a", "<sos/eos>"]
    path = tmp_path / "tokens.txt"
    path.write_text("\ufeff" + "\n".join(labels) + "\n", encoding="utf-8")
    args = argparse.Namespace(token_list=str(path))
    read_labels(args)
    assert args.token_list == labels
    read_labels(args)  # a list, as in the configuration of a trained model, stays as it is
    assert args.token_list == labels


def test_a_symbol_is_spelled_as_the_label_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "lexicon").write_text("<noise> x\nHI x\n")
    args = argparse.Namespace(token_type="char", token_list=["<blank>", "<noise>", "H", "I"])
    assert spell(args, tmp_path / "lexicon") == {"<noise>": [["<noise>"]], "HI": [["H", "I"]]}
