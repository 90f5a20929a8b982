"""Options of the beam search, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from espnet_plugin.lattice import check_topology
from espnet_plugin.search.beam.recombine import SEMIRINGS

RECOMBINATIONS = ("history", "context")
ENGINES = ("auto", "torch", "compiled")


@dataclass(frozen=True)
class BeamOptions:
    """What to search for, and how hard; each is explained in :func:`~.beam.beam_search`."""

    beam: int
    topology: str = "monotonic"
    recombination: str = "history"
    semiring: str = "full_sum"
    score_beam: float | None = None
    max_symbols: int = 5
    ilm_scale: float | None = None
    blank_penalty: float = 0.0
    blank: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        check_topology(self.topology)
        if self.beam < 1 or self.max_symbols < 1:
            raise ValueError(f"beam {self.beam} and max_symbols {self.max_symbols} must be >= 1")
        if self.recombination not in RECOMBINATIONS:
            raise ValueError(
                f"recombination must be one of {RECOMBINATIONS}, got {self.recombination!r}"
            )
        if self.semiring not in SEMIRINGS:
            raise ValueError(f"semiring must be one of {SEMIRINGS}, got {self.semiring!r}")
        if self.score_beam is not None and self.score_beam <= 0:
            raise ValueError(f"score_beam must be positive, got {self.score_beam}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {ENGINES}, got {self.engine!r}")
