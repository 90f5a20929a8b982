"""``train --dry_run`` on every pipeline YAML of the repository: each stage's model is built."""

from __future__ import annotations

import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_plugin.bin import train
from espnet_plugin.pipeline.plan.config import load_pipeline_config

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOKENS = {
    "char": ["<blank>", "<unk>", "<space>", *string.ascii_uppercase, "<sos/eos>"],
    "bpe": ["<blank>", "<unk>", "▁A", "▁B", "<sos/eos>"],
    "phn": ["<blank>", "<unk>", "a", "b", "a#", "b#", "<sos/eos>"],
}
FEATURES = {"raw": 80, "extracted": 26}  # the latter as AN4's cepstra have


def is_pipeline(path: Path) -> bool:
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    return isinstance(keys, dict) and bool({"train_stages", "extends"} & set(keys))


PIPELINES = [
    path
    for folder in ("conf", "egs2")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if not path.is_symlink() and is_pipeline(path)  # links to conf/ stand in some recipes
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def make_data(folder: Path, token_type: str, feats_type: str, start: str | None) -> None:
    """Lists and statistics of three utterances; no audio, which nothing reads.

    Args:
        start: the packed model that a stage starts from, whose labels are needed; or None.
    """
    scp = "wav.scp" if feats_type == "raw" else "feats.scp"
    size = FEATURES[feats_type]
    for part in ("train", "valid"):
        data, stats = folder / "dump" / part, folder / "exp/stats" / part
        data.mkdir(parents=True)
        stats.mkdir(parents=True)
        tables = {
            data / scp: "somewhere",
            data / "text": "A B",
            stats / "speech_shape": "64000" if feats_type == "raw" else f"400,{size}",
            stats / f"text_shape.{token_type}": f"3,{len(TOKENS[token_type])}",
            stats / "text_shape.word": f"3,{len(TOKENS[token_type])}",
        }
        for path, value in tables.items():
            path.write_text("".join(f"{part}{n} {value}\n" for n in range(3)))
        (data / "feats_dim").write_text(f"{size}\n")
        sums = {"sum": np.zeros(size), "sum_square": np.ones(size)}
        np.savez(stats / "feats_stats.npz", count=1, **sums)
    labels = folder / "data/token_list" / token_type
    labels.mkdir(parents=True)
    tokens = "".join(f"{token}\n" for token in TOKENS[token_type])
    if start is not None:
        with zipfile.ZipFile(start) as archive:
            tokens = archive.read("model/tokens.txt").decode()
    (labels / "tokens.txt").write_text(tokens)
    (labels / "lexicon.txt").write_text("A a\nB b\n")
    (labels / "bpe.model").touch()
    (folder / "data/local").mkdir()
    (folder / "data/local/word_lm.arpa.gz").touch()


def command(path: Path, token_type: str, feats_type: str, fs: int) -> list[str]:
    labels = f"data/token_list/{token_type}"
    return [
        *("--config", str(path), "--expdir", "exp", "--tag", "t", "--dry_run", "true"),
        *("--train_data", "dump/train", "--valid_data", "dump/valid", "--stats_dir", "exp/stats"),
        *("--feats_type", feats_type, "--fs", str(fs), "--token_list", f"{labels}/tokens.txt"),
        *("--token_type", token_type, "--word_arpa", "data/local/word_lm.arpa.gz"),
        *(("--bpemodel", f"{labels}/bpe.model") if token_type == "bpe" else ()),
        *(("--lexicon", f"{labels}/lexicon.txt") if token_type == "phn" else ()),
    ]


def test_there_are_some() -> None:
    assert len(PIPELINES) > 20


@pytest.mark.parametrize("path", PIPELINES, ids=name_of)
def test_dry_run(
    path: Path,
    tmp_path: Path,
    preloaded_python: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conf = next(parent for parent in path.parents if parent.name == "conf")
    # A recipe's folder, in which its YAML names files, as deep as the true one.
    recipe = tmp_path / conf.relative_to(ROOT).parent
    recipe.mkdir(parents=True, exist_ok=True)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (recipe / "conf").symlink_to(conf)
    if (conf.parent / "local").is_dir():
        (recipe / "local").symlink_to(conf.parent / "local")  # a producer is tried
    monkeypatch.chdir(recipe)
    local = Path("conf") / path.relative_to(conf)
    config = load_pipeline_config(local)
    options = next(iter(config.train_stages.values()))
    feats_type = "raw" if "frontend_conf" in options else "extracted"
    hop = (options.get("frontend_conf") or {}).get("hop_length")
    words = config.alignment.get("variants") or "phn" in path.stem
    token_type = "phn" if words else "bpe" if "words" in path.stem or "bpe" in path.stem else "char"
    starts = [stage.get("init_from") for stage in config.train_stages.values()]
    starts = [str(start.get("model") if isinstance(start, dict) else start) for start in starts]
    make_data(recipe, token_type, feats_type, next((s for s in starts if s[-4:] == ".zip"), None))
    arguments = command(local, token_type, feats_type, 8000 if hop == 80 else 16000)
    status = train.main([*arguments, "--python", preloaded_python])
    log = recipe / "exp/t/conf/check.log"
    assert status == 0, log.read_text() if log.exists() else status
    assert "plan: " in capsys.readouterr().out
    assert sorted((recipe / "exp/t").iterdir()) == [recipe / "exp/t/conf"], "it did something"
