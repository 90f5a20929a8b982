"""Word error rates of the Hub5 and RT evaluations of telephone speech, without NIST's programs.

The stand-in for ``hubscr.pl`` where sctk is not installed: references and hypotheses are mapped
by the evaluation's rules (GLM), contractions get their alternatives, hyphenated words are split,
hesitations and fragments may be missing. Compared with sclite on random texts
(tests/unit/scoring/test_hub5.py) it counts the same errors but for ties between alignments; for
numbers to publish, install sctk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.glm import MappingRules, parse_glm
from espnet_plugin.scoring.stm import Stm
from espnet_plugin.scoring.word_graph import align_graphs, word_graph

# References have these in parentheses: leaving them out costs nothing, so they are not guessed.
HESITATIONS = frozenset(
    {
        "UH", "UM", "EH", "MM", "HM", "AH", "HUH", "HA", "ER", "OOF", "HEE", "ACH", "EEE", "EW",
    }
)  # fmt: skip
# Names of the conversations' origins, by the beginning of their names.
ORIGINS = {"sw": "SWB", "en": "CH", "fsh": "FSH"}

_HYPHEN = re.compile(r"(?<=[^( ])-(?=[^) ])")


@dataclass(frozen=True)
class Rules:
    """A GLM file, as it applies to references and to hypotheses."""

    reference: MappingRules
    hypothesis: MappingRules

    @classmethod
    def parse(cls, text: str, source: str) -> Rules:
        """Parse a file.

        Raises:
            ValueError: see `parse_glm`.
        """
        return cls(parse_glm(text, source, {"stm", "ref"}), parse_glm(text, source, {"ctm", "hyp"}))


def scored_words(words: Iterable[str]) -> list[str]:
    """Words of a hypothesis in upper case, without what no reference asks for.

    Noises, unknown words, hesitations and fragments: the references have the latter two in
    parentheses, so that nothing is lost. All of Kaldi's and ESPnet's Hub5 results are made so.
    """
    kept = []
    for word in words:
        word = word.upper()
        if word[0] in "[<" or word in HESITATIONS or word.endswith("-"):
            continue
        kept.append(word)
    return kept


def subsets(stm: Stm) -> dict[str, list[str]]:
    """{name: recordings}: the conversations by origin, if there are several, and all of them."""
    recordings = sorted({segment.recording for segment in stm.segments})
    groups: dict[str, list[str]] = {}
    for recording in recordings:
        origin = recording.split("_")[0].lower()
        groups.setdefault(ORIGINS.get(origin, origin), []).append(recording)
    return {**(groups if len(groups) > 1 else {}), "all": recordings}


def score_segments(stm: Stm, texts: Mapping[str, str], rules: Rules) -> dict[str, Counts]:
    """Count the errors of each segment that is scored.

    Args:
        stm: the references.
        texts: {segment: words}; a segment that is not there has no words.
        rules: see `Rules`.

    Raises:
        ValueError: a reference whose brackets do not match.
    """
    counts = {}
    for segment in stm.segments:
        if segment.ignored:
            continue
        words = scored_words(fields(texts.get(segment.name, "")))
        # A line a word, as in a CTM file: no rule of several words applies to hypotheses.
        mapped = " ".join(_split(rules.hypothesis.apply(word)) for word in words)
        reference = re.sub(r"([()])", r" \1 ", segment.text.upper())
        reference = _split(rules.reference.apply(reference))
        try:
            counts[segment.name] = align_graphs(word_graph(reference), word_graph(mapped))
        except ValueError as error:
            raise ValueError(f"reference of {segment.name}: {error}; mend the STM file") from error
    return counts


def _split(text: str) -> str:
    """Parts of hyphenated words are words; a fragment keeps its hyphen."""
    return _HYPHEN.sub(" ", text)
