"""Compare two decodings, of one experiment or of two, on every set that both decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from espnet_plugin.scoring.bootstrap import paired_bootstrap
from espnet_plugin.scoring.edit_distance import Counts

DecodingScores = Mapping[str, Mapping[str, Counts]]  # "decoding/set" -> utterance -> counts


def find_decoding(name: str, experiments: Mapping[str, DecodingScores]) -> tuple[str, str]:
    """Resolve ``decoding`` or ``experiment/decoding`` to (experiment, decoding).

    Raises:
        ValueError: there is none of that name, or several experiments have one.
    """
    known = {
        (experiment, key.rpartition("/")[0])
        for experiment, scores in experiments.items()
        for key in scores
    }
    found = sorted(pair for pair in known if name in (pair[1], "/".join(pair)))
    if len(found) != 1:
        listed = ", ".join(sorted("/".join(pair) for pair in known))
        state = "no decoding" if not found else "more than one decoding"
        raise ValueError(f"{state} is called {name!r}; there are: {listed}")
    return found[0]


def compare(
    names: tuple[str, str],
    experiments: Mapping[str, DecodingScores],
    sets: Sequence[str],
    *,
    speakers: Callable[[str], Mapping[str, str]] | None = None,
    draws: int = 10000,
) -> list[str]:
    """Return a line of Markdown for each set: difference of the WERs and its interval.

    Args:
        names: two decodings; the difference is the second's WER minus the first's.
        experiments: name -> word errors of its decodings.
        speakers: from a set to its table utterance -> speaker, to draw whole speakers.
        draws: resampled test sets.

    Raises:
        ValueError: a decoding that does not exist, or no set that both decoded.
    """
    (first, a), (second, b) = (find_decoding(name, experiments) for name in names)
    lines = []
    for name in sets:
        one = experiments[first].get(f"{a}/{name}")
        other = experiments[second].get(f"{b}/{name}")
        if one is None or other is None:
            continue
        drawn = None if speakers is None else speakers(name)
        result = paired_bootstrap(one, other, speakers=drawn, draws=draws)
        verdict = "significant" if result.significant else "not significant"
        unit = "utterances" if speakers is None else "speakers"
        lines.append(
            f"- {name}: WER of {names[1]} minus {names[0]}: {result.difference:+.2f} "
            f"({result.rate_a:.2f} -> {result.rate_b:.2f}), {100 * result.confidence:.0f} % "
            f"interval [{result.low:+.2f}, {result.high:+.2f}], {verdict} (paired bootstrap over "
            f"{result.units} {unit}, {draws} draws)"
        )
    if not lines:
        raise ValueError(f"{names[0]} and {names[1]} decoded no common set of {', '.join(sets)}")
    return lines
