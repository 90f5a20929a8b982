"""Training data of a model that goes on learning: new utterances, and some of the old ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.data.filtered import CHANNEL_TABLE, write_filtered
from espnet_plugin.data.kaldi_files import read_table, some

_FILES = ("text", "wav.scp", "feats.scp", "segments", "utt2spk")


def is_replayed(utterance: str, share: float, seed: int) -> bool:
    """Whether an old utterance is among the share; it depends on nothing but its id and the seed.

    A larger share has all of a smaller one's utterances.
    """
    digest = hashlib.blake2b(f"{seed} {utterance}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def write_replayed(new: Path, old: Path, share: float, seed: int, target: Path) -> tuple[int, int]:
    """Write the data folder `target` with all of `new` and a share of `old`.

    Returns:
        Numbers of new and of replayed utterances.

    Raises:
        ValueError: a share that is none, folders of different kinds, or ids that both have.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"--replay {share}: must be a share, 0 to 1")
    if target.resolve() in (new.resolve(), old.resolve()):
        raise ValueError(f"{target}: must not replace the data themselves")
    kinds = [{name for name in _FILES if (folder / name).is_file()} for folder in (new, old)]
    if kinds[0] != kinds[1]:
        differ = sorted(kinds[0] ^ kinds[1])
        raise ValueError(f"{new} and {old}: only one of them has {', '.join(differ)}")
    ours, theirs = read_table(new / "text"), read_table(old / "text")
    common = ours.keys() & theirs.keys()
    if common:
        raise ValueError(f"{new} and {old}: both have {some(sorted(common))}; rename one of them")
    _refuse_other_recordings(new, old)
    left_out = {key: "not replayed" for key in theirs if not is_replayed(key, share, seed)}
    write_filtered(old, target, left_out)
    for name in sorted(kinds[0]):
        rows = {**_rows(target / name), **read_table(new / name)}
        write_table(target / name, dict(sorted(rows.items())))
    channels = {**_rows(target / CHANNEL_TABLE), **_rows(new / CHANNEL_TABLE)}
    if channels:
        write_table(target / CHANNEL_TABLE, dict(sorted(channels.items())))
    if "utt2spk" in kinds[0]:
        speakers: dict[str, list[str]] = {}
        for utterance, speaker in read_table(target / "utt2spk").items():
            speakers.setdefault(speaker, []).append(utterance)
        write_table(target / "spk2utt", {s: " ".join(u) for s, u in sorted(speakers.items())})
    return len(ours), len(theirs) - len(left_out)


def _rows(path: Path) -> dict[str, str]:
    return read_table(path, allow_empty=True) if path.is_file() else {}


def _refuse_other_recordings(new: Path, old: Path) -> None:
    """Ids of recordings, which `segments` cuts utterances from, mean the same in both folders."""
    for name in ("wav.scp", CHANNEL_TABLE):
        ours, theirs = _rows(new / name), _rows(old / name)
        differ = sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key])
        if differ:
            raise ValueError(
                f"{new / name} and {old / name}: {some(differ)} mean different recordings; rename "
                "those of one folder, in its segments as well"
            )
