"""Where the parts of the corpus are, and what to say when a path is off by a level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One of LDC's packages.

    Attributes:
        option: of local/data.py that names it.
        package: LDC's catalogue number, or where it comes from.
        marker: a path that its folder holds.
    """

    option: str
    package: str
    marker: str


MS98 = Part("swbd_ms98", "swb_ms98_transcriptions (openslr.org/5)", "sw-ms98-dict.text")
EVAL2000_AUDIO = Part("eval2000_audio", "LDC2002S09", "english")
EVAL2000_TEXT = Part("eval2000_text", "LDC2002T43", "reference/hub5e00.english.000405.stm")
HUB5E01 = Part("hub5e01", "LDC2002S13", "data/transcr/hub5e01.english.20010402.stm")
RT03 = Part("rt03", "LDC2007S10", "data/references/eval03/english/cts")
FISHER = (
    Part("fisher_p1", "LDC2004T19", "data/trans"),
    Part("fisher_p2", "LDC2005T19", "data/trans"),
)


def require(part: Part, path: Path) -> Path:
    """Return `path` if it holds the part.

    Raises:
        ValueError: it does not; if the folder above or one below does, the message names it.
    """
    if (path / part.marker).exists():
        return path
    if not path.is_dir():
        raise ValueError(f"--{part.option} {path}: no such folder; it is where {part.package} is")
    for candidate, direction in _neighbours(path):
        if (candidate / part.marker).exists():
            raise ValueError(
                f"--{part.option} {path}: one level too {direction}: {part.marker} of "
                f"{part.package} is in {candidate}; give that folder"
            )
    raise ValueError(
        f"--{part.option} {path}: no {part.marker} in it, which {part.package} has; "
        "is this another package, or an incomplete copy?"
    )


def _neighbours(path: Path) -> Iterator[tuple[Path, str]]:
    """Folders one level away, and how `path` is wrong if one of them is right."""
    yield path.absolute().parent, "deep"
    yield from ((child, "high") for child in sorted(path.iterdir()) if child.is_dir())


def find_recordings(root: Path) -> dict[str, Path]:
    """Return {name in lower case without suffix: SPHERE file} of all that lie below a folder.

    How the discs were unpacked differs from place to place.
    """
    files = (path for path in sorted(root.rglob("*")) if path.suffix.lower() == ".sph")
    return {path.stem.lower(): path for path in files}


def recordings_near(root: Path) -> set[str]:
    """Names of the SPHERE files at most two folders below `root`, which may be a whole disk."""
    depths = ("*.sph", "*/*.sph", "*/*/*.sph")
    return {path.stem.lower() for pattern in depths for path in root.glob(pattern)}
