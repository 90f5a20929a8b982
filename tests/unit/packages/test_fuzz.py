"""Packages made by chance: each loads or is refused with a ValueError, and none does anything else.

Not more is written than the archive and its limits say, no file outside is opened, and none of its
content comes back in a message. Examples are the same in every run; FUZZ_EXAMPLES=20000 draws so
many new ones.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_plugin.packages.archive import Limits, extract
from espnet_plugin.packages.loading import pretrained_arguments
from tests.reference.opened_files import opened_files
from tests.unit.packages.test_package import ESPNET, make, zipped

SECRET = "the first line of a file outside"
MORE = int(os.environ.get("FUZZ_EXAMPLES", "0"))
FUZZ = settings(
    max_examples=MORE or 150,
    derandomize=not MORE,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LIMITS = Limits(members=8, unpacked=1 << 20, small=1 << 12)
#: Seconds of processor time for one package; they take some 0.02.
LONGEST = 5.0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    (folder / "secret.txt").write_text(f"{SECRET}\n")
    yield folder
    shutil.rmtree(folder)


@contextmanager
def bounded() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < LONGEST


names = st.one_of(
    st.sampled_from(
        ["a", "a/b", "a/b/c", "../a", "/a", "a/../../b", "a//b", "./a", "a/", "C:a", "", "a\\b"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=300),
)
contents = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 1 << 21).map(bytes),  # zeros, which pack well
)
modes = st.sampled_from([0, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR, stat.S_IFIFO])
methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
members = st.lists(st.tuples(names, contents, modes, methods), max_size=10)
#: (place, byte) pairs that overwrite, each place relative to the archive's end; and a cut.
damage = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 255)), max_size=4)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@FUZZ
@given(members, damage, st.none() | st.integers(0, 500))
def test_archives(
    place: Path, members: list[Any], damage: list[tuple[int, int]], cut: int | None
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content, mode, method in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            file.writestr(info, content)
    data = bytearray(stream.getvalue())
    for before_end, value in damage:
        data[max(0, len(data) - before_end)] = value
    here = place / "archives"
    here.mkdir()
    try:
        (here / "a.zip").write_bytes(data[:cut])
        with bounded(), opened_files() as opened:
            try:
                extract(here / "a.zip", here / "out", LIMITS)
            except ValueError:
                assert sorted(here.iterdir()) == [here / "a.zip"]
        assert all(outside_of(here, path) is None for path in opened)
        sizes = [path.stat().st_size for path in here.rglob("*") if path.is_file()]
        assert sum(sizes) - len(data[:cut]) <= LIMITS.unpacked
    finally:
        shutil.rmtree(here)


def outside_of(folder: Path, path: Path) -> Path | None:
    """The path, if it is neither in the folder nor one of Python's."""
    allowed = [folder, *map(Path, sys.path), Path(sys.prefix), Path(sys.base_prefix), Path("/proc")]
    allowed += [Path("/dev"), Path(__file__).parents[3], Path("/etc/localtime"), Path("/usr/lib")]
    inside = any(path.is_relative_to(one) for one in allowed if one != Path())
    return None if inside or path == folder.parent else path


keys = st.sampled_from(
    [
        "token_list",
        "lexicon",
        "bpemodel",
        "stats_file",
        "beats_ckpt_path",
        "encoder_conf",
        "lm",
        "output_size",
        "num_blocks",
        "nbest",
        "ilm_lm",
        "lm_file",
        "lm_train_config",
        "model",
        "files",
        "yaml_files",
        "asr_model_file",
        "asr_train_config",
        "espnet",
        "espnet_progressive",
        "decoding",
        "normalize_conf",
        "n_mels",
        "output_dir",
        "wandb_x",
        "non_linguistic_symbols",
        "input_size",
    ]
) | st.text(max_size=5)
texts = st.sampled_from(
    [
        "{secret}",
        "secret.txt",
        "../secret.txt",
        "~/secret.txt",
        "file://{secret}",
        "model/model.pth",
        "word:{secret}:1",
        "espnet:model/model.pth@{secret}.yaml",
        "espnet:model/model.pth:0.1",
        ESPNET,
        "model/config.yaml",
        "decoding/decode.yaml",
        "decoding/words.txt",
        "model",
        ".",
        "..",
        "//",
    ]
) | st.text(max_size=20)
numbers = st.integers() | st.floats() | st.integers(10**5, 10**7)
values = st.recursive(
    texts | numbers | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
#: Any characters that mean something in YAML, or one of the structures, written out.
yaml_texts = st.one_of(
    st.dictionaries(keys, values, max_size=6).map(
        lambda data: yaml.safe_dump(data, allow_unicode=True)
    ),
    st.text(st.sampled_from("&*!|>%@`'\"{}[]:,-?#~ \n\tab0.1_<=é\x00"), max_size=80),
    st.lists(
        st.sampled_from(
            [
                "a: &a [1]\n",
                "b: *a\n",
                "<<: *a\n",
                "? [x]\n",
                "--- \n",
                "x: !!binary =\n",
                "- 1\n",
                "x: !!set {a}\n",
                "x: !!float .\n",
                "x: !!int 0x\n",
                "x: 0o9\n",
                "%YAML 9.9\n",
                "...\n",
                "x: !!omap [1]\n",
                "x: !!pairs 1\n",
                "x: 1:9:9\n",
                "x: |2\n  a\n",
                "x: 2001-02-30\n",
            ]
        ),
        max_size=8,
    ).map("".join),
)
which = st.sampled_from(["model/config.yaml", "decoding/decode.yaml", "meta.yaml"])


@FUZZ
@given(which, yaml_texts, st.booleans())
def test_configurations(place: Path, which: str, text: str, packed: bool) -> None:
    here = place / "configurations"
    outside = place / "secret.txt"
    before = Path.cwd()
    try:
        package = make(here / "p")
        (package / which).write_text(text.replace("{secret}", str(outside)), "utf-8")
        source = zipped(package) if packed else package
        size = sum(path.stat().st_size for path in here.rglob("*") if path.is_file())
        os.chdir(place)  # where secret.txt lies
        with bounded(), opened_files() as opened:
            try:
                pretrained_arguments(source, here / "cache")
            except ValueError as error:
                assert SECRET not in str(error)
                assert not list((here / "cache").rglob("meta.yaml"))
        assert outside not in opened
        assert not [path for path in opened if outside_of(here, path)]
        now = sum(path.lstat().st_size for path in here.rglob("*") if path.is_file())
        assert now <= 3 * size + 10_000
    finally:
        os.chdir(before)
        shutil.rmtree(here, ignore_errors=True)
