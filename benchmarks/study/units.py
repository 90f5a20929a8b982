"""What the study trains: study.yaml read and checked, and every training that it asks for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.strict_parser import nearest
from espnet_plugin.pipeline.plan.config import deep_merge, read_yaml

ROOT = Path(__file__).resolve().parents[2]
_TOP = (
    "work", "seeds", "page", "figure", "training_code", "corpora", "sizes", "arms", "grid",
    "trials", "extrapolate", "results", "screening", "advice",
)  # fmt: skip
_ARM = ("config", "change", "start", "codes", "part_of", "until", "stages", "epochs")
_CODES = ("arm", "stage", "books", "codes", "random")
_AXES = ("corpora", "labels", "sizes", "budgets", "arms", "seeds")


@dataclass(frozen=True, order=True)
class Unit:
    """One training: an arm at one place of all axes."""

    corpus: str
    labels: str
    size: str
    budget: float
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Its experiment's folder."""
        return f"{self.corpus}-{self.labels}-{self.size}-{self.budget:g}-{self.arm}-s{self.seed}"

    @property
    def place(self) -> tuple[str, str, str, float]:
        """All axes but arm and seed."""
        return self.corpus, self.labels, self.size, self.budget

    @property
    def data(self) -> str:
        """What has to be prepared before it."""
        return f"{self.corpus}-{self.labels}"


@dataclass(frozen=True)
class Study:
    """A study.yaml.

    Attributes:
        path: the file.
        raw: its content.
        places: corpus -> where it is, as the user said.
    """

    path: Path
    raw: Mapping[str, Any]
    places: Mapping[str, Path] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Folder of everything that is made."""
        return ROOT / str(self.raw["work"])

    @property
    def results(self) -> Path:
        """Folder of what trainings gave, which is all that the page is made of."""
        return ROOT / str(self.raw.get("results", self.work / "results"))

    def elsewhere(self, folder: Path) -> Study:
        """The same study with its results, its page and its picture in a folder."""
        here = {"results": folder, "page": folder / "page.md", "figure": folder / "figure"}
        return replace(self, raw={**self.raw, **{key: str(path) for key, path in here.items()}})

    def corpus(self, name: str) -> Mapping[str, Any]:
        """Section of a corpus."""
        found: Mapping[str, Any] = self.raw["corpora"][name]
        return found

    def arm(self, name: str) -> Mapping[str, Any]:
        """Section of an arm."""
        found: Mapping[str, Any] = self.raw["arms"][name]
        return found

    def recipe(self, corpus: str) -> Path:
        """The recipe's folder in the source tree."""
        return ROOT / str(self.corpus(corpus)["recipe"])

    def folder(self, corpus: str) -> Path:
        """Where the recipe runs."""
        return self.work / corpus

    def experiment(self, unit: Unit) -> Path:
        """A training's folder."""
        return self.folder(unit.corpus) / "exp" / unit.name

    def trained(self, arm: str) -> str:
        """The arm that is trained for this one, which may be a part of it."""
        return str(self.arm(arm).get("part_of", arm))

    def source(self, unit: Unit) -> Unit | None:
        """The training whose model this one starts from, or has as a teacher."""
        arm = self.arm(unit.arm)
        before = arm.get("start") or arm.get("codes")
        return replace(unit, arm=before["arm"]) if before else None

    def codes(self, unit: Unit) -> Path:
        """Where a teacher's codes of a training are made (`accelerators.repa`)."""
        return self.folder(unit.corpus) / "exp" / f"{unit.name}-codes"

    def change(self, unit: Unit) -> dict[str, Any]:
        """Everything that differs from the arm's YAML but for epochs and starting points."""
        changes = (
            self.corpus(unit.corpus).get("change"),
            self.raw["sizes"][unit.size].get("change"),
            self.arm(unit.arm).get("change"),
        )
        merged: dict[str, Any] = {"base": {"seed": unit.seed}}
        for change in changes:
            merged = deep_merge(merged, change or {})
        return merged


def read_study(path: Path) -> Study:
    """Read and check a study.yaml.

    Raises:
        ValueError: naming the file, what is wrong with it and what would be right.
    """
    raw = read_yaml(path)
    _known(raw, _TOP, str(path))
    for key in ("work", "seeds", "training_code", "corpora", "sizes", "arms", "grid"):
        if not raw.get(key):
            raise ValueError(f"{path}: {key} is missing or empty")
    for name, arm in raw["arms"].items():
        place = f"{path}: arms.{name}"
        _known(arm, _ARM, place)
        if ("part_of" in arm) == ("config" in arm):
            raise ValueError(f"{place}: give either config (a recipe's YAML) or part_of (an arm)")
        codes = arm.get("codes") or {}
        _known(codes, _CODES, f"{place}.codes")
        if codes and "start" in arm:
            raise ValueError(f"{place}: give either start or codes; it has one source")
        starts = [(arm.get(key) or {}).get("arm") for key in ("start", "codes")]
        for other in (arm.get("part_of"), *starts):
            if other is not None:
                choose(other, raw["arms"], f"{place}: arm")
    for number, block in enumerate(raw["grid"]):
        place = f"{path}: grid, block {number + 1}"
        _known(block, _AXES, place)
        for axis in ("corpora", "sizes", "arms"):
            for name in block.get(axis) or [None]:
                choose(name, raw[axis], f"{place}: {axis}")
        for corpus in block["corpora"]:
            for labels in block["labels"]:
                choose(labels, raw["corpora"][corpus]["labels"], f"{place}: labels of {corpus}")
    return Study(path, raw)


def choose(name: Any, known: Iterable[str], what: str) -> str:
    """The name, if it is known.

    Raises:
        ValueError: it is not; names those that are.
    """
    names = list(known)
    if name not in names:
        hint = nearest(str(name), names)
        raise ValueError(f"{what}: unknown {name!r}{hint}; known: {', '.join(map(str, names))}")
    return str(name)


def _known(section: Mapping[str, Any], keys: Sequence[str], place: str) -> None:
    for key in section:
        choose(key, keys, place)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; an empty axis is all of the grid's."""

    corpora: Sequence[str] = ()
    labels: Sequence[str] = ()
    sizes: Sequence[str] = ()
    budgets: Sequence[float] = ()
    arms: Sequence[str] = ()
    seeds: Sequence[int] = ()


def select(study: Study, wanted: Wanted) -> list[Unit]:
    """The trainings to do, those that others start from included, in the order of the queue.

    One seed of everything comes before the next seed, small budgets before large ones, arms in the
    order in which they are asked for.

    Raises:
        ValueError: a name that the study does not know, or nothing of the grid is left.
    """
    for names, known, what in (
        (wanted.corpora, study.raw["corpora"], "--only"),
        (wanted.sizes, study.raw["sizes"], "--size"),
        (wanted.arms, study.raw["arms"], "--arm"),
    ):
        for name in names:
            choose(name, known, what)
    units: set[Unit] = set()
    for unit in _grid(study, wanted):
        current: Unit | None = unit
        while current is not None:
            units.add(current)
            current = study.source(current)
    if not units:
        raise ValueError(
            f"{study.path}: nothing of its grid is of {wanted}; see the blocks under grid"
        )
    asked = {study.trained(arm): number for number, arm in enumerate(wanted.arms)}
    # what they start from comes first
    return sorted(units, key=lambda unit: (unit.seed, unit.budget, asked.get(unit.arm, -1), unit))


def _grid(study: Study, wanted: Wanted) -> Iterable[Unit]:
    """What is trained for the arms that are wanted."""
    for unit in grid_units(study, wanted):
        yield replace(unit, arm=study.trained(unit.arm))


def grid_units(study: Study, wanted: Wanted) -> Iterable[Unit]:
    """Every arm at every place of the grid with every seed, as the study names them."""
    for block in study.raw["grid"]:
        seeds = wanted.seeds or block.get("seeds") or study.raw["seeds"]
        axes = (
            _kept(block["corpora"], wanted.corpora),
            _kept(block["labels"], wanted.labels),
            _kept(block["sizes"], wanted.sizes),
            _kept(block["budgets"], wanted.budgets),
            _kept(block["arms"], wanted.arms),
            seeds,
        )
        for corpus, labels, size, budget, arm, seed in itertools.product(*axes):
            yield Unit(corpus, labels, size, float(budget), arm, int(seed))


def _kept(values: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    return [value for value in values if not wanted or value in wanted]
