"""Hub5 and RT word error rates of every decoding: NIST's hubscr.pl, or our stand-in for it.

    python -m espnet_plugin.jobs.score_hub5 --exp exp/tag --data_dir data --sets eval2000 rt03

A set needs ``stm`` (references) and ``glm`` (mapping rules) in its data folder. The rates of SWB,
CallHome, Fisher and all together become a section of <exp>/RESULTS.md; which program counted, it
says. Reports of hubscr.pl stay in decode/<decoding>/<set>/score_hub5/<subset>.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.scoring.decode_dirs import find_decodings
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.hub5 import Rules, score_segments, subsets
from espnet_plugin.scoring.hub5_nist import find_hubscr, score_by_nist
from espnet_plugin.scoring.results import results_table
from espnet_plugin.scoring.stm import Stm, parse_stm

HEADING = "## Hub5 scoring"
INSTALL = "install NIST's sctk (Debian, Ubuntu: apt-get install sctk) for the official numbers"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--data_dir", type=Path, required=True, help="where <set>/{stm,glm} lie")
    parser.add_argument("--sets", nargs="+", required=True, help="names of the test sets")
    parser.add_argument(
        "--scorer",
        choices=("auto", "nist", "own"),
        default="auto",
        help="auto: hubscr.pl if sctk is installed, else our own",
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: print(score_hub5(args)))


def score_hub5(args: argparse.Namespace) -> str:
    """Score every decoding of every set; returns the section of RESULTS.md.

    Raises:
        ValueError: nothing was decoded, a file is missing or broken, or hubscr.pl failed.
    """
    hubscr = None if args.scorer == "own" else find_hubscr()
    if args.scorer == "nist" and hubscr is None:
        raise ValueError(f"--scorer nist: no hubscr.pl; {INSTALL}")
    if hubscr is None:
        logging.warning("scored by our stand-in for hubscr.pl; %s", INSTALL)
    rows: dict[str, Counts] = {}
    for decoding, name in find_decodings(args.exp, args.sets):
        folder = args.exp / "decode" / decoding / name
        stm = _read_stm(args.data_dir / name)
        texts = _hypotheses(folder / "text", stm)
        glm = args.data_dir / name / "glm"
        for subset, counts in _score(stm, texts, glm, folder / "score_hub5", hubscr).items():
            rows[f"{decoding}/{name}/{subset}"] = counts
    scorer = f"`{hubscr}`" if hubscr else f"our stand-in, not by NIST's hubscr.pl; {INSTALL}"
    section = f"{HEADING}\n\nScored by {scorer}.\n\n{results_table(rows)}"
    _put_section(args.exp / "RESULTS.md", section)
    return section


def _score(
    stm: Stm, texts: dict[str, str], glm: Path, folder: Path, hubscr: Path | None
) -> dict[str, Counts]:
    """{subset: counts}."""
    if not glm.is_file():
        raise ValueError(f"{glm}: missing; run the data preparation again")
    parts = subsets(stm)
    if hubscr is not None:
        return {
            subset: score_by_nist(stm.part(recordings), texts, glm, folder / subset, hubscr)
            for subset, recordings in parts.items()
        }
    rules = Rules.parse("\n".join(read_lines(glm)), str(glm))
    counts = score_segments(stm, texts, rules)
    recording = {segment.name: segment.recording for segment in stm.segments}
    return {
        subset: sum((c for n, c in counts.items() if recording[n] in recordings), Counts())
        for subset, recordings in parts.items()
    }


def _read_stm(data_dir: Path) -> Stm:
    path = data_dir / "stm"
    if not path.is_file():
        raise ValueError(f"{path}: missing; Hub5 scoring needs the references of NIST")
    return parse_stm("\n".join(read_lines(path)), str(path))


def _hypotheses(path: Path, stm: Stm) -> dict[str, str]:
    """{segment: words}; segments that were not decoded count as deleted, and are named."""
    texts = read_table(path, allow_empty=True)
    scored = {segment.name for segment in stm.segments if not segment.ignored}
    strangers = sorted(texts.keys() - scored)
    if strangers:
        raise ValueError(
            f"{path}: hypotheses of segments that the references lack: {some(strangers)}; decode "
            "the set that local/data.sh made"
        )
    lost = sorted(scored - texts.keys())
    if lost:
        logging.warning("%s: not decoded, their words count as deleted: %s", path, some(lost))
    return texts


def _put_section(path: Path, section: str) -> None:
    """Append the section to a Markdown file, in the place of a former one."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    kept = text.split(f"\n{HEADING}\n")[0].rstrip()
    write_atomically(path, f"{kept}\n\n{section}".lstrip())


if __name__ == "__main__":
    sys.exit(main())
