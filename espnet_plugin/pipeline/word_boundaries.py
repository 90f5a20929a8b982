"""Before the first decoding: learns where words begin and end in the sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin import __version__
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.decode_files import BOUNDARIES, BOUNDARY_FOLDER
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lm_spec import BOUNDARY_OPTION
from espnet_plugin.pipeline.launch.commands import job_arguments, program, submitted
from espnet_plugin.pipeline.launch.process import start, wait_all
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.state.fingerprint import fingerprint

#: Utterances of the training data that it is learned from.
UTTERANCES = 300
_MARK = "made_from"


def learn_boundaries(
    options: RunOptions,
    model: Path,
    upstream: str,
    tick: Callable[[], None],
    show: Callable[[str], None],
) -> Path | None:
    """The file of word boundaries, made if it is missing or of another model or other data.

    Args:
        model: a trained stage's checkpoint.
        upstream: what that stage was made from.

    Returns:
        None where nothing could be learned, which the log explains: word times are then those of
        the labels.
    """
    folder = options.exp / BOUNDARY_FOLDER
    files = [options.train_data / name for name in (options.scp, "text")]
    if not all(path.is_file() for path in (*files, model)):
        return None
    mark = fingerprint({"version": __version__, "utterances": UTTERANCES}, files, [upstream])
    known = folder / _MARK
    target = folder / BOUNDARIES
    if not (known.is_file() and known.read_text().strip() == mark):
        known.unlink(missing_ok=True)  # first: one without its file says, nothing to learn
        target.unlink(missing_ok=True)
        show(f"{folder.name:<10} learning where words begin and end")
        if _run(options, model, folder, tick) != 0:
            show(f"{folder.name:<10} not learned, see {folder / 'log'}; times are the labels'")
            return None
        write_atomically(known, f"{mark}\n")
    return target if target.is_file() else None


def _run(options: RunOptions, model: Path, folder: Path, tick: Callable[[], None]) -> int:
    names = sorted(read_table(options.train_data / "text"))
    step = max(1, len(names) // UTTERANCES)
    keys = folder / "keys"
    write_atomically(keys, "".join(f"{name}\n" for name in names[::step][:UTTERANCES]))
    command = program(options, "learn_boundaries")
    command += job_arguments(options, model, options.train_data, {}, str(keys), str(folder))
    command, console = submitted(command, options.inference_cmd, folder / "log")
    return wait_all([start(command, console)], tick)[0]


def wants_boundaries(given: Mapping[str, Any]) -> bool:
    """Whether a decoding's options leave it to the pipeline how words are timed."""
    return given.get("word_times", "align") == "align" and not given.get(BOUNDARY_OPTION)
