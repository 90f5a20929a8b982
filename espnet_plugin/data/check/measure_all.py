"""Measure a whole data directory: several processes, and a cache of what was measured before."""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import astuple
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.processes import worker_pool
from espnet_plugin.data.check.measure import Measurement, Request, measure, split_entry

_CHUNK = 200
_WORTH_PROCESSES = 2000  # below, starting worker processes takes longer than the work
_CACHE_VERSION = 2
_SAY_EVERY = 10.0  # seconds

Stamp = tuple[int, int]  # size and modification time of the file behind an entry


def chosen(key: str, share: float) -> bool:
    """Whether an utterance is in the sample whose values are all read; always the same ones."""
    return zlib.crc32(key.encode()) < share * 2**32


def measure_all(
    requests: Mapping[str, Request], *, nj: int = 1, cache: Path | None = None, name: str = ""
) -> dict[str, Measurement]:
    """Measure every utterance.

    Args:
        requests: by utterance.
        nj: processes.
        cache: JSON file; what it holds of files unchanged in size and time is not measured again.
        name: of the data, for the progress line.
    """
    stamps = _stamps(requests)
    known = _load(cache, requests, stamps)
    todo = [key for key in requests if key not in known]
    measured = dict(known)
    say = _Progress(name, len(todo))
    if nj <= 1 or len(todo) < _WORTH_PROCESSES:
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            measured.update(zip(chunk, measure([requests[key] for key in chunk]), strict=True))
            say(len(chunk))
    else:
        _measure_parallel(requests, todo, nj, measured, say)
    if cache is not None and todo:
        _save(cache, requests, stamps, measured)
    return {key: measured[key] for key in requests}


def _measure_parallel(
    requests: Mapping[str, Request],
    todo: list[str],
    nj: int,
    measured: dict[str, Measurement],
    say: Callable[[int], None],
) -> None:
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    # spawn: the caller may have started torch's threads, which a fork does not survive
    with worker_pool(nj, "spawn") as pool:
        futures = {pool.submit(measure, [requests[key] for key in c]): c for c in chunks}
        for future in as_completed(futures):
            measured.update(zip(futures[future], future.result(), strict=True))
            say(len(futures[future]))


class _Progress:
    """Log, from time to time, how many utterances are done."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.started = self.said = time.monotonic()

    def __call__(self, more: int) -> None:
        self.done += more
        now = time.monotonic()
        if now - self.said >= _SAY_EVERY:
            self.said = now
            left = (now - self.started) / self.done * (self.total - self.done)
            logging.info(
                "%s: read %d of %d utterances, %.0f s to go", self.name, self.done, self.total, left
            )


def _stamps(requests: Mapping[str, Request]) -> dict[str, Stamp]:
    files: dict[str, Stamp] = {}
    stamps = {}
    for key, request in requests.items():
        path, _ = split_entry(request.entry)
        if path not in files:
            try:
                status = os.stat(path)
                files[path] = (status.st_size, status.st_mtime_ns)
            except OSError:
                files[path] = (-1, -1)
        stamps[key] = files[path]
    return stamps


def _identity(request: Request) -> str:
    segment = "" if request.start is None else f" {request.start} {request.end}"
    return f"{request.kind} {request.entry}{segment}"


def _load(
    cache: Path | None, requests: Mapping[str, Request], stamps: Mapping[str, Stamp]
) -> dict[str, Measurement]:
    if cache is None or not cache.is_file():
        return {}
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
        if stored["version"] != _CACHE_VERSION:
            return {}
        known = {}
        for key, request in requests.items():
            size, time_ns, *values = stored["entries"].get(_identity(request), (-1, -1))
            if values and (size, time_ns) == stamps[key] and size >= 0:
                found = Measurement(*values)
                # Problems may pass (a disk that comes back, a right given), and are few.
                if not found.problem and (found.scanned or not request.scan):
                    known[key] = found
        return known
    except (ValueError, KeyError, TypeError) as error:
        logging.warning("%s: cannot be used (%s); everything is measured again", cache, error)
        return {}


def _save(
    cache: Path,
    requests: Mapping[str, Request],
    stamps: Mapping[str, Stamp],
    measured: Mapping[str, Measurement],
) -> None:
    entries = {
        _identity(request): (*stamps[key], *astuple(measured[key]))
        for key, request in requests.items()
    }
    write_atomically(cache, json.dumps({"version": _CACHE_VERSION, "entries": entries}))
