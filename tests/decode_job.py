"""A decoding job on the tiny model."""

from __future__ import annotations

from pathlib import Path

from espnet_plugin.data.nbest_lists import read_nbest
from tests.tiny_model import LM_ARPA, WORD_ARPA, write_data, write_model

TEXTS = {"u0": "AB B", "u1": "BA", "u2": "AB BA AB"}


def make_job(folder: Path, topology: str) -> tuple[Path, list[str]]:
    """A folder with language models and a lexicon, and the options of a decoding job."""
    config, model = write_model(folder / "model", topology)
    options = write_data(folder / "data", TEXTS)
    options += ["--asr_train_config", str(config), "--asr_model_file", str(model)]
    (folder / "lm.arpa").write_text(LM_ARPA)
    (folder / "word.arpa").write_text(WORD_ARPA)
    (folder / "lexicon").write_text("AB A B\nBA B A\nB B\n")
    return folder, options


def decode(options, output, *more):
    from espnet_plugin.bin.decode import main

    given = [*options, "--output_dir", str(output), "--batch_size", "2", *map(str, more)]
    assert main(given) == 0
    return read_nbest(output)


def refusal(caplog, options, output, *more) -> str:
    """What decode says when it refuses to begin."""
    from espnet_plugin.bin.decode import main

    caplog.clear()
    assert main([*options, "--output_dir", str(output), *map(str, more)]) == 2
    return caplog.text
