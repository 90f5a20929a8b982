"""Which search runs: the one written in torch, or the same one compiled by numba.

The compiled search takes a hundredth of the calls, which is most of the time for one utterance on a
CPU. It has to be compiled once for each machine and version; what is compiled is kept on disk. So
``auto`` takes it where it pays: at once if it lies on disk, else after as many frames as would have
cost about what compiling costs.

Shapes: B utterances, F frames of all of them, J joint size.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import tempfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn import JointNetwork
from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.beam.prediction_cache import ContextCode, PredictionCache
from espnet_plugin.search.beam.scorer_set import ScorerSet
from espnet_plugin.search.hypothesis import Hypothesis

if TYPE_CHECKING:
    from espnet_plugin.search.beam.compiled.search import CompiledSearch

#: Frames of a process that torch searches before it pays to compile: 10 s at 1 ms a frame.
FRAMES_BEFORE_COMPILING = 10_000
#: Larger batches are torch's (measured: benchmarks/search_compiled.py).
MAX_BATCH = 8
#: The same for output layers below so many bytes where states are contexts, not asked one by one.
MAX_BATCH_SMALL = 32
SMALL_BYTES = 1 << 22
NAMES = {torch.float32: "float32", torch.float64: "float64"}

_lock = threading.Lock()
_frames_by_torch = 0


class Engine:
    """Chooses for each batch.

    Args:
        joint: Joint network.
        cache: Outputs of the prediction network.
        scorers: Language models.
        options: ``engine`` is ``auto``, ``torch`` or ``compiled``.
        candidates, waiting: See :class:`~.compiled.search.CompiledSearch`.
    """

    def __init__(
        self,
        joint: Any,
        cache: PredictionCache,
        scorers: ScorerSet,
        options: BeamOptions,
        candidates: int,
        waiting: int,
    ) -> None:
        self._models, self._options = (joint, cache, scorers), options
        self._sizes = candidates, waiting
        self._compiled: CompiledSearch | None = None

    def search(
        self, frames: Tensor, first: Tensor, lengths: Tensor, nbest: int
    ) -> list[list[Hypothesis]] | None:
        """What the compiled search finds, if it is to run; None: torch's shall.

        Args:
            frames: [F, J] through the joint's projection.
            first, lengths: [B] as of `packed_frames`.
            nbest: Hypotheses of an utterance at most.

        Raises:
            ValueError: ``compiled`` was asked for and is impossible, with the reason.
        """
        wanted = self._options.engine
        if wanted == "torch":
            return None
        reason = impossible(self._models[0], frames)
        if wanted == "compiled" and reason:
            raise ValueError(f"search engine 'compiled': {reason}; use 'auto' or 'torch'")
        if reason or (wanted == "auto" and not self._pays(frames, len(lengths))):
            return None
        if self._compiled is None:
            self._compiled = self._made(must=wanted == "compiled")
        if self._compiled is None:
            return None
        found = self._compiled.search(frames, first, lengths, nbest)
        _mark(frames.dtype)
        return found

    def _pays(self, frames: Tensor, batch: int) -> bool:
        global _frames_by_torch
        if batch > self._max_batch() or frames.dtype != torch.float32:
            return False
        if self._compiled is not None or was_compiled(frames.dtype):
            return True
        _frames_by_torch += len(frames)
        return _frames_by_torch > FRAMES_BEFORE_COMPILING

    def _max_batch(self) -> int:
        joint, cache, scorers = self._models
        weight = joint.output.weight
        small = weight.numel() * weight.element_size() < SMALL_BYTES
        contexts = isinstance(cache, ContextCode) and not scorers.has_language_models
        return MAX_BATCH_SMALL if small and contexts else MAX_BATCH

    def _made(self, must: bool) -> CompiledSearch | None:
        try:
            kind = load()
        except ImportError as error:  # numba refuses a NumPy that is too new for it
            if must:
                raise ValueError(
                    f"search engine 'compiled': numba cannot be imported: {error}"
                ) from error
            _say_once(f"search: torch's, numba cannot be imported ({error})")
            return None
        return kind(*self._models, self._options, *self._sizes)


def impossible(joint: Any, frames: Tensor) -> str | None:
    """Why the compiled search cannot take this model; None if it can."""
    if importlib.util.find_spec("numba") is None:
        reason = "numba is not installed (pip install numba)"
        _say_once(f"search: torch's, {reason}")
        return reason
    output = getattr(joint, "output", None)
    if type(joint) is not JointNetwork or type(output) is not nn.Linear or output.bias is None:
        return f"the joint network is a {type(joint).__name__}, not the usual one"
    if frames.device.type != "cpu":
        return f"the model is on {frames.device}, not on the CPU"
    if frames.dtype not in NAMES or output.weight.dtype != frames.dtype:
        return f"the model computes in {frames.dtype}, not float32 or float64"
    return None


@lru_cache
def _say_once(message: str) -> None:
    logging.info(message)


def load() -> type[CompiledSearch]:
    """The class, imported; compiled code comes from and goes to :func:`folder`.

    Raises:
        ImportError: numba does not fit to what is installed.
    """
    import numba

    with _lock:
        kept = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder())
        try:
            from espnet_plugin.search.beam.compiled.search import CompiledSearch
        finally:
            numba.config.CACHE_DIR = kept
    return CompiledSearch


@lru_cache
def folder() -> Path:
    """Where compiled code is kept: below $NUMBA_CACHE_DIR or the user's cache.

    The package itself may be installed where nobody can write. Where nothing can be written, the
    code lives as long as the process. The name changes with the code, its place and its time: numba
    compiles again for another of the three, so that what was compiled there is of no use here.
    """
    digest = hashlib.sha256()
    for file in sorted((Path(__file__).resolve().parent / "compiled").glob("*.py")):
        digest.update(f"{file} {file.stat().st_mtime_ns} ".encode() + file.read_bytes())
    version = importlib.metadata.version("numba")
    digest.update(f"{version} {platform.python_version()} {platform.machine()}".encode())
    name = f"search-{digest.hexdigest()[:16]}"
    given, cache = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    places = [Path(given)] if given else []
    places.append(Path(cache) if cache else Path.home() / ".cache")
    for place in places:
        try:
            path = place / "espnet_progressive" / name
            path.mkdir(parents=True, exist_ok=True)
            if os.access(path, os.W_OK):
                return path
        except OSError:
            continue
    path = Path(tempfile.mkdtemp(prefix="espnet_progressive_"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def was_compiled(dtype: torch.dtype) -> bool:
    """Whether the code for this type lies on disk."""
    return (folder() / NAMES[dtype]).exists()


@lru_cache
def _mark(dtype: torch.dtype) -> None:
    """Note that it does, from now on."""
    (folder() / NAMES[dtype]).touch()
