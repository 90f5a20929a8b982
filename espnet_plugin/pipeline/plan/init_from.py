"""Where a stage's parameters come from: ``init_from`` of its section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from espnet_plugin.packages.sources import is_source

#: Parts of a model -> prefixes of their parameters.
PARTS: Mapping[str, tuple[str, ...]] = {
    "encoder": ("frontend.", "normalize.", "preencoder.", "encoder.", "postencoder."),
    "encoder_output": ("ctc.", "intermediate_output."),
    "prediction": ("decoder.",),
    "joint": ("joint_network.",),
}
KEYS = frozenset(
    {"stage", "checkpoint", "file", "model", "exclude", "parts", "blocks", "ticket", "vocabulary"}
)
RANKS = ("coefficient", "norm", "random")


@dataclass(frozen=True)
class Ticket:
    """Which feed-forward units a smaller model takes from a search with ``slim``.

    Attributes:
        units: kept of every layer; the stage's ``encoder_conf.linear_units``.
        rank: see `espnet_plugin.nn.ticket.draw_ticket`.
        seed: of rank "random".
    """

    units: int
    rank: str = "coefficient"
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.units) is not int or self.units < 1:
            raise ValueError(f"init_from.ticket.units is a number of units, got {self.units!r}")
        if self.rank not in RANKS:
            raise ValueError(
                f"init_from.ticket.rank must be one of {', '.join(RANKS)}; got {self.rank!r}"
            )


@dataclass(frozen=True)
class InitFrom:
    """Where a stage's parameters come from.

    Exactly one of the first three is set.

    Attributes:
        stage: an earlier stage of this plan; its ``checkpoint``.
        file: a model file.
        model: a packed model, an experiment's folder or a Hub id (`publishing.sources`).
        exclude: prefixes of parameters that start at random all the same.
        blocks: encoder block i starts as block ``blocks[i]`` of the source, which may have another
            number of blocks; None: as they are.
        ticket: the units that are taken of each feed-forward layer; None: all.
        vocabulary: "extend" takes a model whose labels are only some of this experiment's.
    """

    stage: str | None
    checkpoint: str | None = None
    file: str | None = None
    exclude: tuple[str, ...] = ("specaug",)
    model: str | None = None
    blocks: tuple[int, ...] | None = None
    ticket: Ticket | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.stage, self.file, self.model)) != 1:
            raise ValueError(
                "init_from needs one of stage, file and model, got "
                f"{self.stage}, {self.file}, {self.model}"
            )
        if self.blocks is not None and (not self.blocks or min(self.blocks) < 0):
            raise ValueError(
                "init_from.blocks lists, for each encoder block from the lowest, the block of the "
                f"source that it starts as, counted from 0; got {list(self.blocks)}"
            )
        if self.ticket is not None and (self.external or self.blocks is not None):
            raise ValueError(
                "init_from.ticket takes units of a stage of this plan that searched for them, and "
                "does not go together with file, model or blocks"
            )
        if self.vocabulary is not None and (self.vocabulary != "extend" or not self.external):
            raise ValueError(
                "init_from.vocabulary is extend, with model or file, or left out; got "
                f"{self.vocabulary!r} with stage {self.stage}"
            )

    @property
    def external(self) -> bool:
        """Whether it comes from outside of this experiment."""
        return self.stage is None

    @property
    def fits_any_vocabulary(self) -> bool:
        """Whether all that has a row per label is left out."""
        rows = [prefix for part, of in PARTS.items() if part != "encoder" for prefix in of]
        return all(any(row.startswith(name) for name in self.exclude) for row in rows)


def read_init_from(section: Mapping[str, Any], previous: str | None) -> InitFrom | None:
    """The start that a stage's section asks for; by default the stage before.

    Raises:
        ValueError: a key or value is none of those that there are.
    """
    value = section.get("init_from", {})
    if value is None or (previous is None and value == {}):
        return None
    if isinstance(value, str):
        value = {"model" if is_source(value) else "stage": value}
    unknown = set(value) - KEYS
    if unknown:
        raise ValueError(f"init_from has unknown keys {sorted(unknown)}")
    exclude = value.get("exclude", "specaug") or ()
    if isinstance(exclude, str):
        exclude = [part for part in exclude.split(",") if part]
    exclude = (*exclude, *_other_parts(value.get("parts")))
    file, model = value.get("file"), value.get("model")
    stage = value.get("stage") or (None if file or model else previous)
    shapes = (_blocks(value), _ticket(value), value.get("vocabulary"))
    return InitFrom(stage, value.get("checkpoint"), file, exclude, model, *shapes)


def _blocks(value: Mapping[str, Any]) -> tuple[int, ...] | None:
    blocks = value.get("blocks")
    if blocks is None:
        return None
    if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
        raise ValueError(f"init_from.blocks must be a list of block numbers, got {blocks!r}")
    return tuple(blocks)


def _ticket(value: Mapping[str, Any]) -> Ticket | None:
    given = value.get("ticket")
    if given is None:
        return None
    known = [field.name for field in fields(Ticket)]
    if not isinstance(given, Mapping) or "units" not in given or set(given) - set(known):
        raise ValueError(
            f"init_from.ticket must be a mapping with units, and of {', '.join(known)} alone; got "
            f"{given!r}"
        )
    return Ticket(**given)


def _other_parts(parts: Any) -> tuple[str, ...]:
    """Prefixes of the parts that are not asked for; None asks for all."""
    if parts is None:
        return ()
    wanted = [part for part in parts.split(",") if part] if isinstance(parts, str) else list(parts)
    unknown = [part for part in wanted if part not in PARTS]
    if unknown or not wanted:
        raise ValueError(f"init_from.parts must name some of {', '.join(PARTS)}; got {parts!r}")
    return tuple(p for part, prefixes in PARTS.items() if part not in wanted for p in prefixes)


def check_shape(
    stage: str,
    init: InitFrom,
    own: Mapping[str, Any],
    source: Mapping[str, Any] | None,
) -> None:
    """Whether a start of another shape fits its own stage and the stage that it comes from.

    Args:
        stage: its name.
        own: its options.
        source: those of the stage that it starts from, if it is of this plan.

    Raises:
        ValueError: it does not.
    """
    encoder = own.get("encoder_conf") or {}
    there = (source or {}).get("encoder_conf") or {}
    if init.blocks is not None:
        _check_blocks(stage, init, encoder.get("num_blocks"), there.get("num_blocks"))
    if init.ticket is None or source is None:
        return
    units, before = encoder.get("linear_units"), there.get("linear_units")
    if units != init.ticket.units:
        raise ValueError(
            f"stage {stage}: init_from.ticket makes {init.ticket.units} units, but its "
            f"encoder_conf.linear_units is {units}"
        )
    if before is not None and before <= init.ticket.units:
        raise ValueError(
            f"stage {stage}: init_from.ticket keeps {init.ticket.units} units, but stage "
            f"{init.stage} has only {before} (encoder_conf.linear_units)"
        )
    if (source.get("accelerators") or {}).get("slim") is None:
        raise ValueError(
            f"stage {stage}: init_from.ticket needs coefficients of units, but stage {init.stage} "
            "has none; give it accelerators: {slim: {}}"
        )


def _check_blocks(stage: str, init: InitFrom, own: int | None, there: int | None) -> None:
    assert init.blocks is not None
    if own is not None and own != len(init.blocks):
        raise ValueError(
            f"stage {stage}: init_from.blocks lists {len(init.blocks)} blocks, but its "
            f"encoder_conf.num_blocks is {own}"
        )
    if there is not None and max(init.blocks) >= there:
        raise ValueError(
            f"stage {stage}: init_from.blocks names block {max(init.blocks)}, but stage "
            f"{init.stage} has blocks 0 to {there - 1}"
        )
