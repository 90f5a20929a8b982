"""Word error rates of the Hub5 and RT evaluations by NIST's ``hubscr.pl`` (package sctk)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.hub5 import scored_words
from espnet_plugin.scoring.stm import Stm

# Debian's package keeps the programs out of the PATH.
_DEBIAN = Path("/usr/lib/sctk/bin")

_COUNT = {
    "errors": r"Percent Total Error\s*=.*\(\s*(\d+)\)",
    "correct": r"Percent Correct\s*=.*\(\s*(\d+)\)",
    "substitutions": r"Percent Substitution\s*=.*\(\s*(\d+)\)",
    "deletions": r"Percent Deletions\s*=.*\(\s*(\d+)\)",
    "insertions": r"Percent Insertions\s*=.*\(\s*(\d+)\)",
    "tokens": r"Ref\. words\s*=\s*\(\s*(\d+)\)",
    "sentences": r"^ sentences\s+(\d+)",
    "wrong_sentences": r"^ with errors\s.*\(\s*(\d+)\)",
}


def find_program(name: str) -> Path | None:
    """Where a program is: on the PATH, or where Debian's sctk has it."""
    found = shutil.which(name) or shutil.which(name, path=_DEBIAN)
    return Path(found) if found else None


def find_hubscr() -> Path | None:
    """Return NIST's script, if it is installed."""
    return find_program("hubscr.pl")


def ctm_lines(stm: Stm, texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the words of the hypotheses with times, as hubscr.pl wants them.

    Words are spread evenly over their segment. sclite uses the times only to find a word's
    segment, which the decoding knows already; better times could not change a count.
    """
    for segment in stm.segments:
        words = scored_words(fields(texts.get(segment.name, "")))
        if segment.ignored or not words:
            continue
        step = (segment.end - segment.begin) / len(words)
        for n, word in enumerate(words):
            begin = segment.begin + n * step
            yield (f"{segment.recording} {segment.channel} {begin:.4f} {0.98 * step:.4f} {word}\n")


def score_by_nist(
    stm: Stm, texts: Mapping[str, str], glm: Path, folder: Path, hubscr: Path
) -> Counts:
    """Score with hubscr.pl; its reports stay in `folder`.

    Args:
        stm: the references.
        texts: {segment: words}.
        glm: the mapping rules.
        folder: made anew.
        hubscr: see `find_hubscr`.

    Raises:
        ValueError: the program failed; the message ends with what it said last.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_atomically(folder / "ref.stm", stm.text())
    write_atomically(folder / "hyp.ctm", "".join(ctm_lines(stm, texts)))
    command = [str(hubscr), "-p", str(hubscr.parent), "-V", "-l", "english", "-h", "hub5"]
    command += ["-g", str(glm.absolute()), "-r", "ref.stm", "hyp.ctm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    (folder / "log").write_text(done.stdout + done.stderr, encoding="utf-8")
    report = folder / "hyp.ctm.filt.dtl"
    if done.returncode != 0 or not report.is_file():
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise ValueError(f"{' '.join(command)} failed in {folder}, see {folder / 'log'}:\n{said}")
    return parse_detailed_report(report)


def parse_detailed_report(path: Path) -> Counts:
    """Read the counts of sclite's ``.dtl`` report.

    Raises:
        ValueError: it has none.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    values = {}
    for name, pattern in _COUNT.items():
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise ValueError(f"{path}: no {name} in this report; which version of sctk wrote it?")
        values[name] = int(match[1])
    errors = values.pop("errors")
    counts = Counts(**values)
    if counts.errors != errors:
        raise ValueError(f"{path}: {errors} errors, but {counts.errors} of the three kinds")
    return counts
