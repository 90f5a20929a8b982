"""Decoding data sets with finished train stages; part of the pipeline's state on disk."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin import __version__
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.decode_files import (
    CTM,
    SEARCH,
    TIMING,
    WORD_TIMES,
    decode_names,
    real_time,
    write_ctm,
)
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lm_spec import BOUNDARY_OPTION, named_files
from espnet_plugin.pipeline.launch.commands import as_flags, decode_arguments
from espnet_plugin.pipeline.launch.jobs import Job, make_job, run_jobs
from espnet_plugin.pipeline.launch.process import ChildFailed
from espnet_plugin.pipeline.pipeline import HEARTBEAT_SECONDS, Pipeline, move_aside
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.pipeline.state.fingerprint import Inputs, fingerprint
from espnet_plugin.pipeline.state.lock import RunLock
from espnet_plugin.pipeline.state.products import damage
from espnet_plugin.pipeline.state.progress import Throttle, clock
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.pipeline.word_boundaries import learn_boundaries, wants_boundaries

#: Below this many utterances, another process costs more than it gains.
MIN_UTTERANCES_PER_PART = 100


@dataclass(frozen=True)
class Decoding:
    """One train stage's model on one data set.

    Attributes:
        stage: whose model.
        data: Kaldi-style folder; its name is the data set's.
        config: decoding YAML, or None.
        tag: of this way to decode.
        overrides: options of decode that go before the YAML's.
        place: folder for all such decodings.
    """

    stage: str
    data: Path
    config: Path | None
    tag: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    place: str = "decode"

    @property
    def folder(self) -> str:
        """``decode/<stage>_<tag>/<set>``."""
        return f"{self.place}/{self.stage}_{self.tag}/{self.data.name}"

    @property
    def name(self) -> str:
        """Key in pipeline.json."""
        return f"{self.place}:{self.stage}_{self.tag}/{self.data.name}"

    @property
    def options(self) -> dict[str, Any]:
        """What decode is told, by the YAML or on its command line."""
        return {**(read_yaml(self.config) if self.config else {}), **self.overrides}


def finished_stages(pipeline: Pipeline, wanted: Sequence[str] | None) -> list[str]:
    """Train stages to decode with: the finished ones among ``wanted`` (None: all of them).

    Raises:
        ValueError: a wanted stage is unknown or not finished, or none is.
    """
    state = pipeline.load_state()
    done = [n for n in pipeline.stages if state.step(f"train:{n}").status == "done"]
    if wanted == ["final"]:
        wanted = [list(pipeline.stages)[-1]]
    silent = [name for name in done if pipeline.stages[name].pretrains]
    for name in wanted or ():
        if name in silent:
            raise ValueError(
                f"{pipeline.exp}: stage {name} learns from speech alone; its model recognises "
                "nothing"
            )
        if name not in done:
            raise ValueError(
                f"{pipeline.exp}: stage {name} has not been trained; trained: "
                f"{', '.join(done) or 'none'}"
            )
    able = [name for name in done if name not in silent]
    if not able:
        raise ValueError(f"{pipeline.exp}: no stage that recognises has been trained yet")
    chosen = list(wanted) if wanted else able
    for name in chosen:
        known = state.step(f"train:{name}").products
        wrong = damage(pipeline.exp / name, (pipeline.stages[name].checkpoint,), known)
        if wrong:
            raise ValueError(
                f"{pipeline.exp / name}: the stage was finished, and now {', '.join(wrong)}; bring "
                "it back, or train once more with --rerun_stale true, which makes it again"
            )
    return chosen


def decode(pipeline: Pipeline, decodings: Sequence[Decoding]) -> None:
    """Do all decodings that are not done yet, side by side.

    Raises:
        ValueError: a data set is unusable, or old output is stale and not to be redone.
        ChildFailed: a job failed.
    """
    distinct = _distinct(decodings)
    with RunLock(pipeline.exp):
        state = pipeline.load_state()
        pending = [d for d in distinct if _begin(pipeline, state, d)]
        if not pending:
            return

        def beat() -> None:
            for decoding in pending:
                state.beat(decoding.name)

        begun = time.monotonic()
        throttle = Throttle(beat, HEARTBEAT_SECONDS, time.monotonic)
        boundaries = _boundaries(pipeline, state, pending, throttle)
        jobs = [_job(pipeline, decoding, boundaries) for decoding in pending]
        lists = Inputs(dict.fromkeys(d.data / pipeline.options.scp for d in pending))
        try:
            run_jobs(jobs, pipeline.options.inference_nj, throttle, pipeline.show)
            lists.require_unchanged("its decoding")
        except (ValueError, ChildFailed, OSError) as error:
            with contextlib.suppress(OSError):  # of a full disk: what it said first counts
                for decoding in pending:
                    state.end(decoding.name, "failed", str(error).splitlines()[0])
            raise
        for decoding in pending:
            _complete(pipeline, decoding)
            state.end(decoding.name, "done")
        pipeline.show(f"decoded {len(jobs)} sets in {clock(time.monotonic() - begun)}")


def _distinct(decodings: Sequence[Decoding]) -> list[Decoding]:
    """Each one once: a validation set may be a test set as well.

    Raises:
        ValueError: two data sets would be decoded in one folder.
    """
    found: dict[str, Decoding] = {}
    for decoding in decodings:
        known = found.setdefault(decoding.name, decoding)
        if known.data.resolve() != decoding.data.resolve():
            raise ValueError(
                f"{known.data} and {decoding.data}: both would be decoded in {decoding.folder}; "
                "give one of the folders another name"
            )
    return list(found.values())


def _begin(pipeline: Pipeline, state: PipelineState, decoding: Decoding) -> bool:
    """Whether it has to be done; sets aside what an older model left."""
    options = pipeline.options
    upstream = f"train:{decoding.stage}"
    made = {upstream: state.step(upstream).finished}
    mark = _fingerprint(pipeline, state, decoding)
    known = state.steps.get(decoding.name)
    folder = pipeline.exp / decoding.folder
    if known is not None and known.status != "todo":
        same = known.fingerprint == mark and known.inputs == made
        if same and known.status == "done" and (folder / "text").exists():
            pipeline.show(f"{decoding.name}: done before")
            return False
        if not same:
            if not options.rerun_stale:
                raise ValueError(
                    f"{folder}: decoded with another model, configuration or data; use another "
                    "--inference_tag, or give --rerun_stale true (the old output is moved aside)"
                )
            move_aside(folder, pipeline.show)
            state.reset(decoding.name)
    state.begin(decoding.name, mark, decoding.folder, made)
    return True


def _fingerprint(pipeline: Pipeline, state: PipelineState, decoding: Decoding) -> str:
    settings: dict[str, object] = {
        "version": __version__,
        "name": decoding.name,
        "checkpoint": _model(pipeline, decoding).name,
    }
    if decoding.overrides:
        settings["overrides"] = dict(decoding.overrides)
    files = [decoding.data / pipeline.options.scp, decoding.data / "text"]
    files = [path for path in files if path.exists()]
    files += [decoding.config] if decoding.config is not None else []
    files += named_files(decoding.options)
    upstream = state.step(f"train:{decoding.stage}").fingerprint or ""
    return fingerprint(settings, files, [upstream])


def _model(pipeline: Pipeline, decoding: Decoding) -> Path:
    name = pipeline.options.inference_asr_model or pipeline.stages[decoding.stage].checkpoint
    return pipeline.exp / decoding.stage / name


def _boundaries(
    pipeline: Pipeline,
    state: PipelineState,
    pending: Sequence[Decoding],
    tick: Callable[[], None],
) -> Path | None:
    """What times the words of those decodings that leave it to us."""
    wanted = [decoding for decoding in pending if wants_boundaries(decoding.options)]
    if not wanted:
        return None
    last = wanted[-1]
    made_from = state.step(f"train:{last.stage}").fingerprint or ""
    model = _model(pipeline, last)
    return learn_boundaries(pipeline.options, model, made_from, tick, pipeline.show)


def _job(pipeline: Pipeline, decoding: Decoding, boundaries: Path | None = None) -> Job:
    options, model = pipeline.options, _model(pipeline, decoding)
    if not model.is_file():
        there = sorted(path.name for path in model.parent.glob("*.pth"))
        raise ValueError(f"{model}: no such model to decode with; there: {', '.join(there)}")
    keys = list(read_table(decoding.data / options.scp))

    def arguments(key_file: str, output: str) -> list[str]:
        given = decode_arguments(options, model, decoding.data, decoding.config, key_file, output)
        timing = boundaries if wants_boundaries(decoding.options) else None
        return given + as_flags({**decoding.overrides, BOUNDARY_OPTION: timing})

    parts = -(-len(keys) // MIN_UTTERANCES_PER_PART)
    nj = max(1, min(options.inference_nj, parts))
    name = decoding.name.removeprefix("decode:")
    tables = decode_names(int(decoding.options.get("nbest", 1)))
    folder = pipeline.exp / decoding.folder
    return make_job(name, folder, keys, "decode", arguments, tables, options, {"nj": nj})


def _complete(pipeline: Pipeline, decoding: Decoding) -> None:
    """Make of merged tables what is no table: the CTM, the search's options, the skipped."""
    folder = pipeline.exp / decoding.folder
    _add_unusable(decoding.data, folder)
    write_ctm(folder / WORD_TIMES, folder / CTM)
    shutil.copy(folder / "logdir" / "output.1" / SEARCH, folder / SEARCH)
    speed = real_time(folder / TIMING)
    if speed is not None:
        pipeline.show(f"{decoding.stage}_{decoding.tag}/{decoding.data.name}: {speed}")


def _add_unusable(data: Path, folder: Path) -> None:
    """Name what the data check left out of the set as skipped: its words count as deleted."""
    source, target = data / "skipped_utts", folder / "skipped"
    if source.exists():
        table = read_table(source, allow_empty=True)
        table.update(read_table(target, allow_empty=True))
        text = "".join(f"{key} {table[key]}\n" for key in sorted(table))
        write_atomically(target, text)


def default_tag(config: Path | None) -> str:
    """A decoding's name, from its YAML: conf/decode_beam8.yaml -> beam8."""
    if config is None:
        return "default"
    return config.stem.removeprefix("decode_").removeprefix("decode") or "default"
