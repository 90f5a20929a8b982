"""Taking a package's zip file apart without trusting it.

A package comes from strangers. All members are checked before the first byte is written, and
counted as they come: none may be longer than it says. Extraction happens in a folder beside the
target that is renamed only when it is complete: a killed or refused extraction leaves nothing that
looks like a package.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from espnet_plugin.corpora.disk_space import require_space
from espnet_plugin.packages.bounded_zip import bounded_zip

_BLOCK = 1 << 20
#: Bytes that unpacking leaves free on a disk.
_SPARE = 64 << 20
#: What zipfile raises at damage; NotImplementedError is a RuntimeError (unknown compression).
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        members: number of files and folders; our own packages have some twenty.
        unpacked: bytes of all files together.
        ratio: unpacked over packed bytes of one file. Deflate never passes 1032; text compresses
            by ten, parameters hardly at all.
        total_ratio: unpacked bytes of all files over the archive's.
        small: bytes that ratios do not apply to.
    """

    members: int = 2_000
    unpacked: int = 50 << 30
    ratio: float = 500.0
    total_ratio: float = 100.0
    small: int = 1 << 18


DEFAULT_LIMITS = Limits()


def member_path(name: str) -> PurePosixPath:
    """The path of an archive's member.

    Raises:
        ValueError: the name is absolute, climbs out of the archive, or is no plain path.
    """
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or any(ord(character) < 32 for character in name)
    if not name or odd or path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"member {name!r} does not stay inside the package's folder")
    return path


def extract(archive: Path, target: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpack a zip file into the folder ``target``, which must not exist yet.

    Raises:
        ValueError: not a whole zip file, or one with members that climb out of it, are links,
            stand in it twice, or are too large.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        try:
            with bounded_zip(archive) as file:
                members = _checked(file, limits, archive.stat().st_size)
                size = sum(info.file_size for info in members.values())
                require_space(target.parent, size + _SPARE, "unpacked package")
                for path, info in members.items():
                    _write(file, info, scratch / path)
        except FileNotFoundError:
            raise ValueError(f"{archive}: no such file") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
                raise ValueError(_broken(archive, error)) from error
            raise ValueError(f"{archive}: cannot be unpacked: {error}; free some space") from error
        except _DAMAGE as error:
            raise ValueError(_broken(archive, error)) from error
        except ValueError as error:
            raise ValueError(f"{archive}: refused: {error}") from error
        scratch.chmod(0o755)
        _move(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _broken(archive: Path, error: Exception) -> str:
    return f"{archive}: not a whole zip file ({error}); fetch it again, or pack it again"


def _checked(
    file: zipfile.ZipFile, limits: Limits, packed: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    infos = file.infolist()
    if len(infos) > limits.members:
        raise ValueError(f"{len(infos)} members, more than {limits.members}")
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        path = member_path(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"member {info.filename!r} is a link or device, not a file")
        if info.is_dir():
            continue
        if path in members:
            raise ValueError(f"member {info.filename!r} stands in it twice")
        total += info.file_size
        if total > limits.unpacked:
            raise ValueError(f"it unpacks to more than {limits.unpacked} bytes")
        if info.file_size > limits.small + limits.ratio * info.compress_size:
            raise ValueError(f"member {info.filename!r} is compressed suspiciously well")
        if total > limits.small + limits.total_ratio * packed:
            raise ValueError(f"its {packed} bytes unpack to more than {limits.total_ratio:g} times")
        members[path] = info
    for path in members:
        if any(parent in members for parent in path.parents):
            raise ValueError(f"member {str(path)!r} lies inside another file")
    return members


def _write(file: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member; zipfile checks its checksum at the end, we that it is as long as it said."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = info.file_size
    with file.open(info) as source, target.open("xb") as sink:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise ValueError(f"member {info.filename!r} is longer than it says")
            sink.write(block)
    if left:
        raise ValueError(f"member {info.filename!r} is shorter than it says")


def _move(scratch: Path, target: Path) -> None:
    try:
        os.rename(scratch, target)
    except OSError:
        if not target.is_dir():  # else another process has just unpacked the same
            raise
