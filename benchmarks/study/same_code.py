"""Whether two commits train the same models to the bit, so that results of one are not old.

    python benchmarks/study/same_code.py COMMIT --corpus an4=/corpora/an4_mfcc.tar.gz

Trains the first arm of study.yaml's grid in both, an epoch of each stage, one after the other on
one core each; compares all weights and all error counts; and notes in same_code.json what came out,
which the study's page then believes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import yaml

from benchmarks.study.configuration import ANY_ALIGNMENT, NOTES, read_notes, training_code_hash
from benchmarks.study.units import ROOT, Study, read_study
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.plan.config import deep_merge


def shortest(study: Study, work: Path) -> dict[str, Any]:
    """A study of the first arm of the grid's first place, an epoch a stage, below ``work``."""
    block = {key: values[:1] for key, values in study.raw["grid"][0].items()}
    grid = [{**block, "budgets": [1e-6], "seeds": [1]}]
    here = {"work": str(work), "page": str(work / "page.md"), "figure": str(work / "figure")}
    # What is for the page alone, the other commit may not know.
    unread = ("results", "trials", "extrapolate", "advice")
    kept = {key: value for key, value in study.raw.items() if key not in unread}
    # An epoch makes no aligner that the pipeline would take.
    anything = {"alignment": ANY_ALIGNMENT}
    corpora = {
        name: {**section, "change": deep_merge(section.get("change") or {}, anything)}
        for name, section in study.raw["corpora"].items()
    }
    return {**kept, **here, "corpora": corpora, "grid": grid}


def differences(one: Path, two: Path) -> Iterable[str]:
    """What differs between two shortest studies: weights of all stages, and error counts."""
    for part, pattern, same in (
        ("weights", "*/exp/*/*/*epoch.pth", _same_weights),
        ("results", "results/*.json", _same_errors),
    ):
        files, other = ({p.relative_to(work) for p in work.glob(pattern)} for work in (one, two))
        if files != other or not files:
            yield f"{part}: {len(files)} and {len(other)} files"
        for name in sorted(files & other):
            if not same(one / name, two / name):
                yield str(name)


def _same_weights(one: Path, two: Path) -> bool:
    a, b = (torch.load(path, map_location="cpu", weights_only=True) for path in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _same_errors(one: Path, two: Path) -> bool:
    a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (one, two))
    return all(a[key] == b[key] for key in ("words", "characters", "failure"))


def compare(study: Study, commit: str, corpora: Sequence[str], work: Path) -> dict[str, Any]:
    """Train with both and say what differs; the row of same_code.json.

    Raises:
        ValueError: no such commit, one of the trainings failed, or code was edited meanwhile.
    """
    trees = {ROOT: work / "here", work / "tree": work / "there"}
    _git("worktree", "add", "--detach", "--force", str(work / "tree"), commit)
    try:
        codes = _codes(study, trees)
        for tree, folder in trees.items():
            folder.mkdir()
            config = folder / "study.yaml"
            config.write_text(yaml.safe_dump(shortest(study, folder)), encoding="utf-8")
            _train(tree, config, corpora)
        if _codes(study, trees) != codes:
            raise ValueError(f"{ROOT}: training code was edited meanwhile; compare once more")
        found = list(differences(*trees.values()))
    finally:
        _git("worktree", "remove", "--force", str(work / "tree"))
    commits = [_git("rev-parse", "--short", name) for name in ("HEAD", commit)]
    return {
        "codes": codes,
        "commits": commits,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "difference": ", ".join(found),
    }


def _codes(study: Study, trees: Iterable[Path]) -> list[str]:
    return [training_code_hash(study.raw["training_code"], tree) for tree in trees]


def _train(tree: Path, config: Path, corpora: Sequence[str]) -> None:
    driver = [sys.executable, "benchmarks/study/run.py", "--config", str(config), "--cores", "1"]
    done = subprocess.run([*driver, "--corpus", *corpora], cwd=tree, check=False)
    if done.returncode:
        raise ValueError(f"{tree}: the training failed; see {config.parent}/log")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if both train the same, 1 if not, 2 after a user error."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the other commit; this one is the working tree's")
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "study.yaml")
    parser.add_argument("--corpus", nargs="+", default=[], metavar="NAME=PATH")
    args = parser.parse_args(cmd)
    corpora = [f"{k}={Path(v).resolve()}" for k, _, v in (c.partition("=") for c in args.corpus)]
    work = Path(tempfile.mkdtemp(prefix="same_code."))
    try:
        row = compare(read_study(args.config), args.commit, corpora, work)
    except ValueError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    write_atomically(NOTES, json.dumps([*read_notes(), row], indent=1) + "\n")
    print(row["difference"] or f"{' and '.join(row['commits'])} train the same")
    return 1 if row["difference"] else 0


if __name__ == "__main__":
    sys.exit(main())
