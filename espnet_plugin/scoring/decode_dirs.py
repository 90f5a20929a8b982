"""What the decoding jobs left below ``<exp>/decode``: one folder per decoding and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.symbols import without_symbols

# Rows of a result table come in the order of training.
_TRAIN_STAGES = ("align", "viterbi", "full_sum", "mbr")


@dataclass(frozen=True)
class Transcripts:
    """References and hypotheses of one test set, utterance by utterance.

    Attributes:
        skipped: utterances the decoder could not take; their hypothesis is empty.
    """

    references: dict[str, str]
    hypotheses: dict[str, str]
    skipped: tuple[str, ...]

    def without(self, symbols: Sequence[str]) -> Transcripts:
        """Both sides without these symbols."""
        sides = [
            {key: without_symbols(text, symbols) for key, text in side.items()}
            for side in (self.references, self.hypotheses)
        ]
        return Transcripts(sides[0], sides[1], self.skipped)


def find_decodings(exp: Path, sets: Sequence[str]) -> list[tuple[str, str]]:
    """Return (decoding, test set) of every ``decode/<decoding>/<set>/text`` below `exp`.

    Raises:
        ValueError: nothing was decoded there.
    """
    found = [
        (folder.name, name)
        for folder in sorted((exp / "decode").glob("*"), key=lambda f: _stage_rank(f.name))
        for name in sets
        if (folder / name / "text").is_file()
    ]
    if not found:
        raise ValueError(
            f"{exp / 'decode'}: no <train_stage>_<tag>/<set>/text of {', '.join(sets)}; "
            "run the decoding first"
        )
    return found


def stage_of(decoding: str, stages: Sequence[str]) -> str | None:
    """The longest of these stage names that a decoding's name begins with."""
    fits = [name for name in stages if decoding == name or decoding.startswith(f"{name}_")]
    return max(fits, key=len, default=None)


def _stage_rank(name: str) -> tuple[int, str]:
    # "full_sum_only" runs have a full_sum stage as well, so the longest prefix need not be sought
    for rank, stage in enumerate(_TRAIN_STAGES):
        if name == stage or name.startswith(f"{stage}_"):
            return rank, name
    return len(_TRAIN_STAGES), name


def read_transcripts(
    reference: Path, hypothesis: Path, skipped: Sequence[Path] = ()
) -> Transcripts:
    """Read both sides of a test set.

    Args:
        reference, hypothesis: Kaldi text files.
        skipped: files of lines ``id reason`` that name utterances which were not decoded, besides
            the file ``skipped`` that the decoder leaves with the hypotheses. Absent files are none.

    Raises:
        ValueError: utterances without a hypothesis that no such file names, hypotheses without a
            reference, or a broken file.
    """
    references = read_table(reference)
    hypotheses = read_table(hypothesis, allow_empty=True)
    sources = [hypothesis.parent / "skipped", *skipped]
    excused = {
        key for path in sources if path.is_file() for key in read_table(path, allow_empty=True)
    }
    strangers = sorted(hypotheses.keys() - references.keys())
    if strangers:
        raise ValueError(
            f"{hypothesis}: hypotheses of utterances that {reference} does not have: "
            f"{some(strangers)}; score against the set that was decoded"
        )
    missing = sorted(references.keys() - hypotheses.keys())
    lost = [key for key in missing if key not in excused]
    if lost:
        raise ValueError(
            f"{hypothesis}: no hypothesis for {some(lost)}; finish the decoding, or name them in "
            f"{sources[0]} to count their words as deleted"
        )
    return Transcripts(
        references=references,
        hypotheses={key: hypotheses.get(key, "") for key in references},
        skipped=tuple(missing),
    )
