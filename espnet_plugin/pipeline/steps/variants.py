"""How often which pronunciation was chosen by an alignment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lexicon import split_variant

MOST = 100  # words listed


def report_variants(folder: Path) -> str:
    """Write ``variants.md`` beside ``folder/text``; returns a sentence about it.

    Counted are the words as the alignment numbered them: ``the`` is the first variant of the
    lexicon, ``the(2)`` the second.
    """
    counts: dict[str, Counter[int]] = {}
    for text in read_table(folder / "text", allow_empty=True).values():
        for word in fields(text):
            plain, variant = split_variant(word)
            counts.setdefault(plain, Counter())[variant] += 1
    total = sum(sum(of.values()) for of in counts.values())
    later = {word: sum(n for v, n in of.items() if v) for word, of in counts.items()}
    share = 100.0 * sum(later.values()) / max(total, 1)
    sentence = f"{total} words, {share:.1f} % of them not in the lexicon's first pronunciation"
    lines = [f"# Pronunciations chosen in {folder}", "", sentence, ""]
    lines += ["| word | variant: times |", "| --- | --- |"]
    chosen = sorted((word for word in counts if later[word]), key=lambda w: (-later[w], w))
    for word in chosen[:MOST]:
        times = ", ".join(f"{v + 1}: {n}" for v, n in sorted(counts[word].items()))
        lines.append(f"| {word} | {times} |")
    write_atomically(folder / "variants.md", "\n".join(lines) + "\n")
    return sentence
