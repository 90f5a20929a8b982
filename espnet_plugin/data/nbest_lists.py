"""N-best lists on disk: reading them back, and writing them sorted anew.

The layout is that of `espnet_plugin.data.decode_files`: ``<n>best_recog`` folders, one table for
each piece of a hypothesis.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.decode_files import NBEST_FILES, SEARCH
from espnet_plugin.data.kaldi_files import read_table

_ANEW = "give the command that made it once more, which goes on from what is whole"


@dataclass(frozen=True)
class ListEntry:
    """One hypothesis of an N-best list.

    Attributes:
        words, tokens, token_int: what was recognised.
        score: the total by which the list was sorted.
        am, ilm, pronunciation: unscaled parts of the score.
        lms: unscaled, one per language model.
    """

    words: tuple[str, ...]
    tokens: tuple[str, ...]
    token_int: tuple[int, ...]
    score: float
    am: float
    ilm: float
    pronunciation: float
    lms: tuple[float, ...]

    @property
    def values(self) -> list[str]:
        """Its lines in the tables of `NBEST_FILES`."""
        parts = {
            "am": self.am,
            "ilm": self.ilm,
            "pronunciation": self.pronunciation,
            "lms": list(self.lms),
        }
        return [
            " ".join(self.words),
            " ".join(self.tokens),
            " ".join(map(str, self.token_int)),
            f"{self.score:.6f}",
            json.dumps({k: _rounded(v) for k, v in parts.items()}),
        ]


def _rounded(value: Any) -> Any:
    return [round(v, 6) for v in value] if isinstance(value, list) else round(value, 6)


def read_settings(folder: Path) -> dict[str, Any]:
    """The options of the search that made a folder.

    Raises:
        ValueError: no such file: the folder was not made by `decode`, or by an older version.
    """
    path = folder / SEARCH
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; N-best lists are made by `decode --nbest N`, which leaves it"
        )
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return settings


def _places(folder: Path) -> list[Path]:
    found: list[Path] = []
    while (folder / f"{len(found) + 1}best_recog" / "text").is_file():
        found.append(folder / f"{len(found) + 1}best_recog")
    if not found:
        raise ValueError(f"{folder}: holds no N-best lists (1best_recog/text); decode first")
    return found


def list_files(folder: Path) -> list[Path]:
    """All files that `read_nbest` and `read_settings` read.

    Raises:
        ValueError: there are no lists.
    """
    tables = [place / name for place in _places(folder) for name in NBEST_FILES]
    return [*tables, folder / SEARCH]


def read_nbest(folder: Path) -> dict[str, list[ListEntry]]:
    """The N-best list of every utterance, in the order in which they were written.

    Raises:
        ValueError: no lists, a broken table, or tables of different utterances.
    """
    lists: dict[str, list[ListEntry]] = {}
    for place in _places(folder):
        tables = [_whole_table(place / name) for name in NBEST_FILES]
        if any(table.keys() != tables[0].keys() for table in tables):
            raise ValueError(f"{place}: its files are of different utterances; {_ANEW}")
        if lists and tables[0].keys() != lists.keys():
            raise ValueError(f"{place}: its utterances are not those of 1best_recog; {_ANEW}")
        for utt in tables[0]:
            entry = _entry(place, utt, [table[utt] for table in tables])
            known = lists.setdefault(utt, [])
            if entry not in known:  # a short list repeats its last entry
                known.append(entry)
    return lists


def _whole_table(path: Path) -> dict[str, str]:
    """A table whose last line may be cut off: half a hypothesis is one as well.

    Raises:
        ValueError: it is.
    """
    table = read_table(path, allow_empty=True)
    if table and not path.read_bytes().endswith(b"\n"):
        raise ValueError(f"{path}: the line of {list(table)[-1]} is cut off; {_ANEW}")
    return table


def read_pooled(folders: Sequence[Path]) -> dict[str, list[ListEntry]]:
    """What several searches with the same models found, each hypothesis once.

    Scores of a pruned search are lower bounds: of equal hypotheses the one with the highest ``am``
    stays.

    Raises:
        ValueError: as `read_nbest`, or lists of other utterances.
    """
    all_lists = [read_nbest(folder) for folder in folders]
    pooled: dict[str, list[ListEntry]] = {}
    for folder, lists in zip(folders, all_lists, strict=True):
        if lists.keys() != all_lists[0].keys():
            raise ValueError(f"{folder}: its utterances are not those of {folders[0]}")
        for utt, entries in lists.items():
            known = {(e.words, e.token_int): e for e in pooled.get(utt, [])}
            for entry in entries:
                same = known.get((entry.words, entry.token_int))
                if same is None or same.am < entry.am:
                    known[entry.words, entry.token_int] = entry
            pooled[utt] = list(known.values())
    return pooled


def _entry(place: Path, utt: str, values: Sequence[str]) -> ListEntry:
    text, token, token_int, score, parts = values
    try:
        found: Mapping[str, Any] = json.loads(parts)
        return ListEntry(
            words=tuple(fields(text)),
            tokens=tuple(fields(token)),
            token_int=tuple(int(value) for value in fields(token_int)),
            score=float(score),
            am=float(found["am"]),
            ilm=float(found["ilm"]),
            pronunciation=float(found["pronunciation"]),
            lms=tuple(float(value) for value in found["lms"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place}: utterance {utt}: not a hypothesis: {error}") from None
