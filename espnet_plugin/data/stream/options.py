"""`stream:` of a train stage, checked; without torch, as everything that plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from espnet_plugin.corpora.strict_parser import nearest

#: How fast or how patiently, not what: a finished or begun stage stays when these change.
IRRELEVANT = frozenset({"processes", "timeout"})

#: Options that are whole numbers, and the least of each.
_WHOLE = {"pool": 1, "processes": 1, "seed": 0, "epoch_bins": 1, "reservoir": 0}


@dataclass(frozen=True)
class AlignOptions:
    """What aligns a stream as it arrives; the pipeline fills this in.

    Attributes:
        model: parameters of an aligner, beside its config.yaml.
        prior: file with the log prior of its labels, one number a line.
        prior_scale: posteriors are divided by the prior to this power.
    """

    model: str
    prior: str | None = None
    prior_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.prior_scale and self.prior is None:
            raise ValueError(f"stream.align: prior_scale {self.prior_scale} needs prior, a file")


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
        reservoir: old records that each process of the training remembers; 0: none.
        recent_share: of a pool, that is new; the others are drawn from the reservoir. None: half.
        align: for a loss that needs an alignment.
    """

    command: str
    pool: int
    seed: int | None = None
    processes: int = 1
    timeout: float = 300.0
    replays: bool = True
    epoch_bins: int | None = None
    reservoir: int = 0
    recent_share: float | None = None
    align: AlignOptions | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.command, str) or not self.command.strip():
            raise ValueError(f"stream.command: a line for bash is expected, got {self.command!r}")
        for name, value in asdict(self).items():
            if name in _WHOLE and value is not None:
                least = _WHOLE[name]
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    raise ValueError(
                        f"stream.{name}: a whole number from {least} up, got {value!r}"
                    )
        if not isinstance(self.timeout, int | float) or not self.timeout > 0:
            raise ValueError(f"stream.timeout: seconds above 0, got {self.timeout!r}")
        if not isinstance(self.replays, bool):
            raise ValueError(f"stream.replays: true or false, got {self.replays!r}")
        self._check_reservoir()
        if not self.replays and self.processes > 1:
            raise ValueError(
                "stream.processes: what does not replay cannot be shared among several; set "
                "replays: true, or one process"
            )

    def _check_reservoir(self) -> None:
        share = self.recent_share
        if share is None:
            return
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise ValueError(
                f"stream.recent_share: a share of a pool, above 0 and below 1, got {share!r}"
            )
        if not self.reservoir:
            raise ValueError("stream.recent_share: the others come from a reservoir; give its size")

    def old_records(self, arrived: int) -> int:
        """How many of a pool come from the reservoir, where so many records have arrived before."""
        share = 0.5 if self.recent_share is None else self.recent_share
        recent = max(1, round(share * self.pool))
        return min(self.pool - recent, self.reservoir, arrived)


def read_options(given: Any) -> StreamOptions | None:
    """The options of a stage's ``stream:``; None where there is none.

    Raises:
        ValueError: an unknown or missing option, or a bad value.
    """
    if not given:
        return None
    options = _known(given, StreamOptions, "stream", ("command", "pool"))
    if options.get("align") is not None:
        align = _known(options["align"], AlignOptions, "stream.align", ("model",))
        options["align"] = AlignOptions(**align)
    return StreamOptions(**options)


def _known(given: Any, kind: type, where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """A mapping with the fields of a class, and values of the needed ones."""
    known = [field.name for field in fields(kind)]
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: a mapping of {', '.join(known)}, got {given!r}")
    for key in given:
        if key not in known:
            hint = nearest(str(key), known)
            raise ValueError(f"{where}.{key}: unknown option{hint}; known: {', '.join(known)}")
    for key in needed:
        if given.get(key) is None:
            raise ValueError(f"{where}.{key} is missing")
    return dict(given)


def check_stage(
    options: Mapping[str, Any], needs: str | None, alignment: Mapping[str, Any] | None = None
) -> None:
    """Whether a stage can train on its stream, if it has one.

    Args:
        options: of the stage.
        needs: "alignment" or "nbest", if its loss needs one.
        alignment: the pipeline's section, which aligns what arrives as it does stored data.

    Raises:
        ValueError: it cannot.
    """
    if read_options(options.get("stream")) is None:
        return
    off = "set stream: null in this stage, which then trains on the stored data"
    if needs == "nbest":
        raise ValueError(
            f"stream brings speech and text, but loss {options.get('loss')} needs N-best lists, "
            f"which are made of stored data; {off}"
        )
    given = alignment or {}
    other = [key for key in ("from_file", "variants", "realign") if given.get(key)]
    other += ["source"] if given.get("source", "encoder") != "encoder" else []
    if needs == "alignment" and other:
        raise ValueError(
            f"alignment.{other[0]} is for stored data; an encoder's posteriors alone align what "
            f"arrives; {off}"
        )
    accelerators = options.get("accelerators") or {}
    if "repa" in {name for name, on in accelerators.items() if on is not None}:
        raise ValueError(f"accelerators.repa needs codes of stored utterances; {off}")
    if (accelerators.get("selective") or {}).get("irreducible"):
        raise ValueError(f"accelerators.selective: losses are of stored utterances; {off}")
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
