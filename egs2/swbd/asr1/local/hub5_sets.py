"""The test sets Hub5'00, Hub5'01 and RT03: audio, segments, references, scoring rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ldc_paths
from audio import Recordings, check_recordings, check_times

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.kaldi_dir import write_data_dir
from espnet_plugin.scoring.stm import Stm, StmSegment, parse_stm, plain_reference

# Kaldi's s5c decodes a little of the silence around a segment, too.
EXTENSION = 0.1


@dataclass(frozen=True)
class TestSet:
    """Everything of one set, read and checked.

    Attributes:
        name: of its data directory.
        glm: NIST's rules for what counts as the same word.
    """

    name: str
    stm: Stm
    glm: str
    recordings: Recordings


def read_eval2000(audio: Path, text: Path, problems: list[str]) -> TestSet | None:
    """Hub5'00: LDC2002S09 and LDC2002T43."""
    roots = _roots([(ldc_paths.EVAL2000_AUDIO, audio), (ldc_paths.EVAL2000_TEXT, text)], problems)
    if roots is None:
        return None
    stm = roots[1] / ldc_paths.EVAL2000_TEXT.marker
    glm = roots[1] / "reference" / "en20000405_hub5.glm"
    found = _read("eval2000", roots[0] / "english", [stm], glm, problems)
    if found is not None:
        _compare_with_pem(roots[0] / "english" / "hub5e_00.pem", found, problems)
    return found


def read_hub5e01(root: Path, glm: Path, problems: list[str]) -> TestSet | None:
    """Hub5'01: LDC2002S13; it has no rules of its own, those of Hub5'00 are used."""
    roots = _roots([(ldc_paths.HUB5E01, root)], problems)
    if roots is None:
        return None
    return _read("hub5e01", roots[0], [roots[0] / ldc_paths.HUB5E01.marker], glm, problems)


def read_rt03(root: Path, problems: list[str]) -> TestSet | None:
    """RT03, conversational telephone speech: LDC2007S10."""
    roots = _roots([(ldc_paths.RT03, root)], problems)
    if roots is None:
        return None
    folder = roots[0] / ldc_paths.RT03.marker
    stms = sorted(folder.glob("*.stm"))
    if not stms:
        problems.append(f"{folder}: no *.stm, the references; unpack LDC2007S10 again")
        return None
    audio = roots[0] / "data" / "audio" / "eval03" / "english" / "cts"
    glm = roots[0] / "data" / "trans_rules" / "en20030506.glm"
    return _read("rt03", audio, stms, glm, problems)


def write_set(directory: Path, found: TestSet) -> dict[str, str]:
    """Write ``text``, ``utt2spk``, ``segments``, ``stm`` and ``glm``.

    Returns:
        {side: recording} of the sides with segments, for ``audio.write_recordings``.
    """
    segments = [segment for segment in found.stm.segments if not segment.ignored]
    times = extended(segments, found.recordings)
    tables = {
        "text": {s.name: plain_reference(s.text) for s in segments},
        "segments": {s.name: f"{s.side} {times[s.name][0]:.2f} {times[s.name][1]:.2f}"
                     for s in segments},
    }  # fmt: skip
    write_data_dir(directory, {s.name: s.side for s in segments}, tables)
    write_atomically(directory / "stm", found.stm.text())
    write_atomically(directory / "glm", found.glm)
    return {s.side: s.recording for s in segments}


def extended(
    segments: Sequence[StmSegment], recordings: Recordings
) -> dict[str, tuple[float, float]]:
    """Begin and end of each segment with up to 0.1 s more on both sides.

    Never beyond the recording, nor beyond the middle of the gap to the side's next segment.
    """
    sides: dict[str, list[StmSegment]] = {}
    for segment in segments:
        sides.setdefault(segment.side, []).append(segment)
    times = {}
    for own in sides.values():
        own.sort(key=lambda segment: (segment.begin, segment.end))
        length = recordings[own[0].recording.lower()][1].seconds
        ends = [0.0, *(s.end for s in own[:-1])]
        begins = [*(s.begin for s in own[1:]), length]
        for n, segment in enumerate(own):
            before = (segment.begin - ends[n]) / (1 if n == 0 else 2)
            after = (begins[n] - segment.end) / (1 if n == len(own) - 1 else 2)
            times[segment.name] = (
                segment.begin - min(EXTENSION, max(0.0, before)),
                segment.end + min(EXTENSION, max(0.0, after)),
            )
    return times


def _roots(parts: Sequence[tuple[ldc_paths.Part, Path]], problems: list[str]) -> list[Path] | None:
    roots = []
    for part, path in parts:
        try:
            roots.append(ldc_paths.require(part, path))
        except ValueError as error:
            problems.append(str(error))
    return roots if len(roots) == len(parts) else None


def _read(
    name: str, audio: Path, stms: Sequence[Path], glm: Path, problems: list[str]
) -> TestSet | None:
    missing = [path for path in (*stms, glm) if not path.is_file()]
    if missing:
        problems.extend(f"{path}: missing; unpack its package again" for path in missing)
        return None
    try:
        parsed = [parse_stm(_text(path), str(path)) for path in stms]
    except ValueError as error:
        problems.append(str(error))
        return None
    comments = tuple(dict.fromkeys(line for stm in parsed for line in stm.comments))
    stm = Stm(comments, tuple(segment for one in parsed for segment in one.segments))
    files = ldc_paths.find_recordings(audio) if audio.is_dir() else {}
    scored = [segment for segment in stm.segments if not segment.ignored]
    wanted = sorted({segment.recording for segment in scored})
    lacking = [recording for recording in wanted if recording.lower() not in files]
    if lacking:
        problems.append(
            f"{audio}: no audio of {len(lacking)} of {len(wanted)} conversations of {name}: "
            f"{', '.join(f'{recording}.sph' for recording in lacking[:10])}; unpack it again"
        )
        return None
    names = [segment.name for segment in scored]
    if len(set(names)) < len(names):
        twice = sorted({one for one in names if names.count(one) > 1})
        problems.append(f"{stms[0]}: segments that stand there twice: {', '.join(twice[:10])}")
        return None
    chosen = {recording.lower(): files[recording.lower()] for recording in wanted}
    before = len(problems)
    recordings = check_recordings(chosen, problems)
    check_times([(s.name, s.recording.lower(), s.begin) for s in scored], recordings, problems)
    return TestSet(name, stm, _text(glm), recordings) if len(problems) == before else None


def _compare_with_pem(pem: Path, found: TestSet, problems: list[str]) -> None:
    """The partition that the evaluation's participants were given must be the references'."""
    if not pem.is_file():
        return
    rows = [line.split() for line in _text(pem).splitlines() if ";;" not in line]
    given = {(r[0], r[1], round(float(r[3]), 2), round(float(r[4]), 2)) for r in rows if r}
    stm = {(s.recording, s.channel, round(s.begin, 2), round(s.end, 2)) for s in found.stm.segments}
    odd = sorted(given ^ stm)
    if odd:
        problems.append(
            f"{pem}: {len(odd)} segments are not both here and in the references, e.g. "
            f"{odd[0]}; are LDC2002S09 and LDC2002T43 of the same release?"
        )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")
