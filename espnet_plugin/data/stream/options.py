"""`stream:` of a train stage, checked; without torch, as everything that plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from espnet_plugin.corpora.strict_parser import nearest

#: How fast or how patiently, not what: a finished or begun stage stays when these change.
IRRELEVANT = frozenset({"processes", "timeout"})


@dataclass(frozen=True)
class StreamOptions:
    """A stage's producer.

    Attributes:
        command: a line for bash; its program gets `--seed`, `--skip` and, where several share the
            work, `--step` as last arguments.
        pool: records that are read at a time, sorted by length and cut into batches.
        seed: for the producer; None: the stage's.
        processes: producers that take turns; the records and their order stay the same.
        timeout: seconds without a record after which the stage ends with an error.
        replays: whether the producer knows these arguments, and says the same again for the same.
        epoch_bins: length of an epoch in the unit of ``batch_bins``, instead of
            ``num_iters_per_epoch``.
    """

    command: str
    pool: int
    seed: int | None = None
    processes: int = 1
    timeout: float = 300.0
    replays: bool = True
    epoch_bins: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.command, str) or not self.command.strip():
            raise ValueError(f"stream.command: a line for bash is expected, got {self.command!r}")
        for name, value in asdict(self).items():
            if name in ("pool", "processes", "seed", "epoch_bins") and value is not None:
                least = 0 if name == "seed" else 1
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    raise ValueError(
                        f"stream.{name}: a whole number from {least} up, got {value!r}"
                    )
        if not isinstance(self.timeout, int | float) or not self.timeout > 0:
            raise ValueError(f"stream.timeout: seconds above 0, got {self.timeout!r}")
        if not isinstance(self.replays, bool):
            raise ValueError(f"stream.replays: true or false, got {self.replays!r}")
        if not self.replays and self.processes > 1:
            raise ValueError(
                "stream.processes: what does not replay cannot be shared among several; set "
                "replays: true, or one process"
            )


def read_options(given: Any) -> StreamOptions | None:
    """The options of a stage's ``stream:``; None where there is none.

    Raises:
        ValueError: an unknown or missing option, or a bad value.
    """
    if not given:
        return None
    known = [field.name for field in fields(StreamOptions)]
    if not isinstance(given, Mapping):
        raise ValueError(f"stream: a mapping of {', '.join(known)}, got {given!r}")
    for key in given:
        if key not in known:
            hint = nearest(str(key), known)
            raise ValueError(f"stream.{key}: unknown option{hint}; known: {', '.join(known)}")
    for key in ("command", "pool"):
        if given.get(key) is None:
            raise ValueError(f"stream.{key} is missing")
    return StreamOptions(**given)


def check_stage(options: Mapping[str, Any], needs: str | None) -> None:
    """Whether a stage can train on its stream, if it has one.

    Args:
        options: of the stage.
        needs: "alignment" or "nbest", if its loss needs one.

    Raises:
        ValueError: it cannot.
    """
    if read_options(options.get("stream")) is None:
        return
    off = "set stream: null in this stage, which then trains on the stored data"
    if needs is not None:
        raise ValueError(
            f"stream brings speech and text, but loss {options.get('loss')} needs an alignment or "
            f"N-best lists ({needs}), which are made of stored data; {off}"
        )
    accelerators = options.get("accelerators") or {}
    if "repa" in {name for name, on in accelerators.items() if on is not None}:
        raise ValueError(f"accelerators.repa needs codes of stored utterances; {off}")
    if options.get("multiple_iterator"):
        raise ValueError(f"multiple_iterator reads stored data; {off}")


def with_epoch(options: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's options with the epoch of its stream in batches, ``num_iters_per_epoch``."""
    stream = read_options(options.get("stream"))
    found = dict(options)
    if stream is None or stream.epoch_bins is None or options.get("num_iters_per_epoch"):
        return found
    bins, kind = options.get("batch_bins"), options.get("batch_type", "folded")
    if kind not in ("numel", "length") or not bins:
        raise ValueError(
            f"stream.epoch_bins needs batch_type numel or length and their batch_bins, not {kind}; "
            "or give num_iters_per_epoch"
        )
    return {**found, "num_iters_per_epoch": math.ceil(stream.epoch_bins / int(bins))}
