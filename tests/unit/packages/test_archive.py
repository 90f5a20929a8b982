"""Archives of strangers: what climbs out, links, repeats, bursts or breaks off is refused."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_plugin.packages.archive import Limits, extract


def plain(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("meta.yaml", "files: {}\n")
        file.writestr("model/model.pth", bytes(range(256)) * 40)


def member(name: str, mode: int = 0o644 | stat.S_IFREG) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("meta.yaml", "x")
            file.writestr(info, "/etc/passwd")

    return write


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a", "2")


def inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "1")
        file.writestr("a/b", "2")


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(8 << 20))


def test_a_whole_archive(tmp_path: Path) -> None:
    plain(tmp_path / "a.zip")
    extract(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/model/model.pth").read_bytes() == bytes(range(256)) * 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (member("../evil"), "'../evil' does not stay inside"),
        (member("model/../../evil"), "does not stay inside"),
        (member("/tmp/evil"), "'/tmp/evil' does not stay inside"),
        (member("..\\evil"), "does not stay inside"),
        (member("C:evil"), "does not stay inside"),
        (member("link", stat.S_IFLNK | 0o777), "'link' is a link or device"),
        (member("pipe", stat.S_IFIFO | 0o644), "is a link or device"),
        (twice, "'a' stands in it twice"),
        (inside, "'a/b' lies inside another file"),
        (bomb, "'zeros' is compressed suspiciously well"),
    ],
)
def test_refused(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    archive = tmp_path / "deep/er/a.zip"
    archive.parent.mkdir(parents=True)
    write(archive)
    with pytest.raises(ValueError, match=r"a\.zip: refused: .*" + message.replace("\\", "")):
        extract(archive, archive.parent / "out")
    # nothing was written, neither outside nor inside
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_limits(tmp_path: Path) -> None:
    plain(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="2 members, more than 1"):
        extract(tmp_path / "a.zip", tmp_path / "out", Limits(members=1))
    with pytest.raises(ValueError, match="unpacks to more than 100 bytes"):
        extract(tmp_path / "a.zip", tmp_path / "out", Limits(unpacked=100))


def test_damage(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    plain(archive)
    whole = archive.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        archive.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"not a whole zip file .*fetch it again"):
            extract(archive, tmp_path / "out")
    middle = whole.index(b"model/model.pth") + 40  # in the compressed data: the checksum tells
    archive.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match="not a whole zip file"):
        extract(archive, tmp_path / "out")
    with pytest.raises(ValueError, match=r"nothing.zip: no such file"):
        extract(tmp_path / "nothing.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
