"""Writing a package with ESPnet's own `pack`, always the same bytes for the same content."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml
from espnet2.main_funcs.pack_funcs import pack

from espnet_plugin.corpora.faults import naming
from espnet_plugin.packages.contents import Contents
from espnet_plugin.packages.package import META

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip files know no earlier time
_FILE_MODE = 0o644 << 16


def write_package(contents: Contents, target: Path, timestamp: float = 0.0) -> None:
    """Write the zip file, complete or not at all.

    ESPnet's `pack` checks the files and writes meta.yaml; but it notes the time of packing and of
    every file, so the archive is then written anew in a fixed order with fixed times.

    Args:
        timestamp: for meta.yaml, which ESPnet gives one: when the training ended.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack.", dir=target.parent) as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name, content in contents.members.items():
            _place(content, tree / name)
        named = {*contents.files.values(), *contents.yaml_files.values()}
        archive = Path(scratch) / "espnet.zip"
        said = io.StringIO()
        with contextlib.chdir(tree), contextlib.redirect_stdout(said):
            pack(
                files=dict(contents.files),
                yaml_files=dict(contents.yaml_files),
                option=sorted(contents.members.keys() - named),
                outpath=archive,
            )
        logging.debug("%s", said.getvalue())
        final = Path(scratch) / "package.zip"
        _normalise(archive, final, contents, timestamp)
        os.replace(final, target)


def _place(content: Path | bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    try:
        os.link(content.resolve(), target)  # models are large
    except OSError:
        shutil.copyfile(content, target)


def _normalise(source: Path, target: Path, contents: Contents, timestamp: float) -> None:
    with naming(target), zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        meta = yaml.safe_load(old.read(META))
        meta["timestamp"] = timestamp
        meta["python"] = sys.version.split()[0]
        meta["espnet_progressive"] = contents.extra
        # meta.yaml first: ESPnet's reader looks for it before anything else
        for name in [META, *sorted(set(old.namelist()) - {META})]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr, info.compress_type = _FILE_MODE, zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, wherever it is written
            with old.open(name) as stream:
                if name == META:
                    new.writestr(info, yaml.safe_dump(meta, sort_keys=True).encode())
                    continue
                info.file_size = old.getinfo(name).file_size  # decides on zip64
                with new.open(info, "w") as sink:
                    shutil.copyfileobj(stream, sink, 1 << 20)
