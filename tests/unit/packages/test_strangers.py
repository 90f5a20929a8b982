"""Packages made to harm: each is refused at once, by name, and nothing of it is left behind."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.packages import archive, bounded_zip
from espnet_plugin.packages.archive import Limits, extract
from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.packages.plain_yaml import LARGEST, read_plain
from espnet_plugin.packages.sources import open_package
from espnet_plugin.packages.weights import read_header, read_weights
from tests.reference.opened_files import opened_files
from tests.unit.packages.test_package import make, zipped

SECRET = "the first line of a file outside"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESPNET_PROGRESSIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def refuse(package: Path, message: str, cache: Path) -> None:
    """Packed and as a folder, a package is refused, and the cache is empty afterwards."""
    for source in (zipped(package), package):
        with pytest.raises(ValueError, match=message) as caught:
            pretrained_arguments(source)
        assert SECRET not in str(caught.value)
        assert not list(written(cache))


def test_many_members_just_below_a_limit_of_each(tmp_path: Path, cache: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(300):  # 0.3 MB that unpack to 0.3 GB
            file.writestr(f"{number}", bytes(1 << 20))
    assert bomb.stat().st_size < 400_000
    with pytest.raises(ValueError, match=r"bomb\.zip: refused: .*suspiciously well"):
        open_package(bomb)
    assert not list(written(cache))
    with pytest.raises(ValueError, match=r"unpack to more than 100 times"):
        extract(bomb, tmp_path / "out", Limits(ratio=2000))
    with pytest.raises(ValueError, match="300 members, more than 299"):
        extract(bomb, tmp_path / "out", Limits(members=299))
    assert list(written(tmp_path)) == [bomb]


def test_more_than_fits_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = zipped(make(tmp_path / "p"))
    free = archive._SPARE + sum(i.file_size for i in zipfile.ZipFile(package).infolist())
    usage = type("Usage", (), {"free": free - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"unpacked package needs .* are free there"):
        extract(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    usage.free = free
    extract(package, tmp_path / "out")


def test_a_directory_that_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_zip, "DIRECTORY", 10_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(200):
            file.writestr(f"member{number}", "")
    with pytest.raises(ValueError, match="refused: its directory has more than 10000 bytes"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_member_longer_than_it_says(tmp_path: Path) -> None:
    """The size in the archive's directory is what the limits are compared with."""
    target = tmp_path / "a.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(100_000))
    content = target.read_bytes()
    for size in (10, 200_000):
        told = content.replace((100_000).to_bytes(4, "little"), size.to_bytes(4, "little"))
        target.write_bytes(told)
        with pytest.raises(ValueError, match=r"not a whole zip file|shorter than|longer than"):
            extract(target, tmp_path / "out")
        assert list(written(tmp_path)) == [target]


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, r"uses an alias \(line 2\)"),
        ("x: &a 1\ny: *a\n", r"uses an alias \(line 2\)"),
        ("x: " + "[" * 10_000 + "]" * 10_000, "nested deeper than 40"),
        ("x: [" + "a," * 200_000 + "]", "more than 100000 values"),
        ("".join(f"k{n}: 1\n" for n in range(6000)), "more than 5000 keys"),
        ("x: 1" + ":1" * 10_000, "a value of 20001 characters"),
        ("x: !!int '" + "9" * 5000 + "'\n", "a value of 5000 characters"),
        ("# " + "x" * LARGEST, "too large for a configuration"),
        ("x: 2001-99-99\n", r"not plain YAML \(ValueError\)"),
        ("x: !!timestamp y\n", r"not plain YAML"),
        ("x: [1\ny: }\n", r"not plain YAML \(line 2\)"),
        ("x: !!python/name:os.mkdir z\n", r"not plain YAML \(line 1\)"),
        ("- x\n", "expected a mapping, found list"),
        ("\udcff", r"not plain YAML \(UnicodeDecodeError\)"),
    ],
)
def test_yaml_that_grows(tmp_path: Path, cache: Path, text: str, message: str) -> None:
    package = make(tmp_path / "p")
    (package / "model/config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    refuse(package, message, cache)


def test_yaml_as_our_own_packer_and_espnet_write_it(tmp_path: Path) -> None:
    tokens = [f"▁tök{n}" for n in range(30_000)]
    data = {"token_list": tokens, "x": {"y": [1.5, None, True, "1e-5"]}, "long": "a b " * 5000}
    (tmp_path / "a").write_text("\ufeff" + yaml.safe_dump(data, allow_unicode=True))
    assert read_plain(tmp_path / "a") == data


@pytest.mark.parametrize(
    "config",
    [
        {"token_list": "{outside}"},
        {"encoder_conf": {"beats_ckpt_path": "{outside}"}},
        {"preprocessor_conf": {"lexicon": "{outside}"}},
        {"frontend_conf": {"anything": {"deep": [1, "{outside}"]}}},
        {"bpemodel": "secret.txt"},  # found from where the user stands
        {"model_conf": {"utt2spk": "secret.txt"}},
        {"frontend_conf": {"model": "secret.txt"}},
        {"non_linguistic_symbols": "model/../../secret.txt"},
        {"lexicon": "~/secret.txt"},
        {"decoder_conf": {"download_dir": "."}},
    ],
)
def test_files_outside_stay_closed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text(f"{SECRET}\n")
    monkeypatch.chdir(tmp_path)
    package = make(tmp_path / "p")
    text = yaml.safe_dump(config).replace("{outside}", str(outside)).replace("'", "")
    (package / "model/config.yaml").write_text(text)
    with opened_files() as opened:
        refuse(package, "which the package lacks", cache)
    assert outside not in opened


@pytest.mark.parametrize(
    "options",
    [
        {"lexicon": "{outside}"},
        {"lm": ["word:{outside}:0.3"]},
        {"lm": ["espnet:model/model.pth@{outside}.yaml:0.3"]},
        {"ilm_lm": "ngram:secret.txt"},
        {"lm_file": "model/model.pth", "lm_train_config": "{outside}"},
        {"ngram_file": "secret.txt"},
    ],
)
def test_options_of_the_search_name_no_files_outside(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text(f"{SECRET}\n")
    monkeypatch.chdir(tmp_path)
    package = make(tmp_path / "p")
    text = yaml.safe_dump(options).replace("{outside}", str(outside))
    (package / "decoding/decode.yaml").write_text(text)
    with opened_files() as opened:
        refuse(package, r"which the package lacks|a configuration that is needed", cache)
    assert outside not in opened


def test_a_folder_with_a_link_to_the_outside(tmp_path: Path, cache: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text(f"{SECRET}\n")
    package = make(tmp_path / "p")
    (package / "model/stats.npz").unlink()
    (package / "model/stats.npz").symlink_to(outside)
    with opened_files() as opened, pytest.raises(ValueError, match=r"stats\.npz is a link that l"):
        pretrained_arguments(package)
    assert outside not in opened
    # as the Hub's client lays out a snapshot
    snapshot = tmp_path / "hub/models--o--n/snapshots/0123"
    blobs = tmp_path / "hub/models--o--n/blobs"
    make(snapshot)
    blobs.mkdir()
    (snapshot / "model/stats.npz").rename(blobs / "0a")
    (snapshot / "model/stats.npz").symlink_to("../../../blobs/0a")
    assert pretrained_arguments(snapshot)["nbest"] == 2


def test_where_training_data_was_is_left_out(tmp_path: Path) -> None:
    package = make(tmp_path / "p")
    config = {
        "output_dir": "exp/x",
        "train_data_path_and_name_and_type": [["dump/raw/x/wav.scp", "speech", "sound"]],
        "wandb_entity": "a/b",
        "token_list": ["<blank>", "/etc/passwd"],
        "non_linguistic_symbols": ["<a/b>"],
        "model": "progressive_transducer",
    }
    (package / "model/config.yaml").write_text(yaml.safe_dump(config))
    (package / "stages").mkdir()
    (package / "stages/mbr.yaml").write_text("stats_file: /etc/passwd\n")  # a record; never read
    given = pretrained_arguments(zipped(package))
    expected = {"output_dir": None, "train_data_path_and_name_and_type": [], "wandb_entity": None}
    found = yaml.safe_load(Path(given["asr_train_config"]).read_text())
    assert found == {**config, **expected}
    assert not (Path(given["asr_train_config"]).parents[1] / "stages").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder_conf": {"output_size": 144_000}}, "output_size is 144000, which does not fit"),
        ({"encoder_conf": {"num_blocks": 100_000}}, "num_blocks is 100000"),
        ({"frontend_conf": {"n_mels": 10**6}}, "n_mels is 1000000"),
        ({"frontend_conf": {"n_fft": 10**7}}, "n_fft is 10000000"),
        ({"model_conf": {"joint_conf": {"deep": [{"joint_size": 5000}]}}}, "joint_size is 5000"),
        ({"decoder_conf": {"max_len": 10**12}}, "max_len is 1000000000000"),
        ({"input_size": 10**9}, "input_size is 1000000000"),
        ({"token_list": [f"t{n}" for n in range(1001)]}, "more than 1000 labels"),
        ({"token_list": "model/tokens.txt"}, "more than 1000 labels"),
    ],
)
def test_absurd_sizes(tmp_path: Path, cache: Path, config: dict[str, Any], message: str) -> None:
    package = make(tmp_path / "p")
    (package / "model/tokens.txt").write_text("".join(f"{n}\n" for n in range(1001)))
    (package / "model/config.yaml").write_text(yaml.safe_dump(config))
    refuse(package, message, cache)


def test_an_absurd_search(tmp_path: Path, cache: Path) -> None:
    package = make(tmp_path / "p")
    (package / "decoding/decode.yaml").write_text("beam_size: 1000000000\n")
    refuse(package, "beam_size is 1000000000, larger than 10000", cache)


def test_statistics_that_burst(tmp_path: Path, cache: Path) -> None:
    package = make(tmp_path / "p")
    with zipfile.ZipFile(package / "model/stats.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("sum.npy", bytes(17 << 20))
    with pytest.raises(ValueError, match=r"stats_file: 17825792 bytes are too many"):
        pretrained_arguments(package)


def expanded(path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(10**9)}, path)


def many_of_one(path: Path) -> None:
    shared = torch.ones(1000)
    torch.save({f"w{n}": shared for n in range(200)}, path)


def without_storage(path: Path) -> None:
    torch.save({"w": torch.empty(10**9, device="meta")}, path)


def compressed(path: Path) -> None:
    torch.save({"w": torch.zeros(100_000)}, path)
    with zipfile.ZipFile(path) as file:
        content = {info.filename: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(name, data)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (expanded, "parameter w is larger than what the file has of it"),
        (many_of_one, "its parameters are larger than the file"),
        (without_storage, r"parameter w is larger than|not a readable model file"),
        (compressed, r"member \S+ is compressed"),
    ],
)
def test_model_files_that_claim_more_than_they_hold(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / "model.pth")
    assert (tmp_path / "model.pth").stat().st_size < 500_000
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}.*{message}"):
        read_weights(tmp_path / "model.pth")


def test_the_header_of_a_model_file(tmp_path: Path) -> None:
    tied = torch.zeros(3, 4)
    torch.save({"a": tied, "b": tied, "c": torch.zeros(7), "n": torch.tensor(1)}, tmp_path / "m")
    header = read_header(tmp_path / "m")
    assert header.shapes == {"a": (3, 4), "b": (3, 4), "c": (7,), "n": ()}
    assert (header.elements, header.largest) == (12 + 12 + 7 + 1, 7)
