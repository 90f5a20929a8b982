"""The model card and the folder that goes to the Hub, from a made-up package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.packages.package import Package, read_package
from espnet_plugin.publishing.model_card import CardOptions, model_card
from espnet_plugin.publishing.model_card_facts import read_facts
from espnet_plugin.publishing.upload_folder import write_folder
from tests.reference.hub_storage import card_problems

OPTIONS = CardOptions("owner/tiny-en", "cc0-1.0", ("en",), ("mini_tts",))
RESULTS = """# RESULTS

## Environments
- date: `Sun Nov 22 18:22:07 UTC 2026`
- python version: `3.12.1`
- espnet version: `espnet 202611`
- pytorch version: `pytorch 2.14.1`

## exp/tag
### WER

|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|
|---|---|---|---|---|---|---|---|---|
|align_default/dev|100|389|50.9|41.6|7.5|0.0|49.1|94.0|
|align_default/test|150|563|50.1|44.0|5.9|0.5|50.4|91.3|
|full_sum_default/dev|100|389|97.7|2.1|0.3|0.0|2.3|8.0|
|full_sum_default/test|150|563|95.7|3.7|0.5|0.7|5.0|12.0|
|full_sum_lm_beam8/test|150|563|96.7|2.7|0.5|0.7|4.0|11.0|

### CER

|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|
|---|---|---|---|---|---|---|---|---|
|full_sum_default/test|150|2561|98.1|1.3|0.6|0.9|2.8|12.0|

### Training

|step|status|epochs|wall-clock|
|---|---|---|---|
|train:align|done|10|0:02:41|
|job:alignment|done||0:00:52|
|train:full_sum|done|9 of 12|0:02:24|
|**all**|||0:05:57|
"""


def make_package(root: Path, **config: object) -> Package:
    """A package as `pack` makes them, with a tensor for a model."""
    trained = {
        "encoder": "progressive_conformer",
        "model_conf": {"topology": "monotonic"},
        "frontend_conf": {"fs": "16k", "hop_length": 160},
        "input_size": None,
        "token_type": "char",
        "token_list": ["<blank>", "<unk>", "<space>", "A", "B"],
        **config,
    }
    steps = {
        name: {"status": "done", "seconds": seconds}
        for name, seconds in (("train:align", 161.0), ("job:alignment", 52.0))
    }
    steps["train:full_sum"] = {"status": "done", "seconds": 144.0}
    state = {
        "version": 1,
        "plan": list(steps),
        "steps": steps,
        "invocation": {"arguments": ["--ngpu", "0", "--nj", "2"]},
    }
    exp = root / "exp/tag"
    files = {
        "exp/tag/full_sum/config.yaml": yaml.safe_dump(trained),
        "exp/tag/pipeline.json": json.dumps(state),
        "exp/tag/RESULTS.md": RESULTS,
        "meta.yaml": yaml.safe_dump(
            {
                "files": {"asr_model_file": "exp/tag/full_sum/valid.loss.ave.pth"},
                "yaml_files": {"asr_train_config": "exp/tag/full_sum/config.yaml"},
                "espnet_progressive": {"stage": "full_sum"},
            }
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    weights = {"joint.weight": torch.arange(25_000.0), "bn.running_mean": torch.zeros(7)}
    torch.save(weights, exp / "full_sum/valid.loss.ave.pth")
    return read_package(root)


def front_matter(card: str) -> dict:
    _, text, _ = card.split("---\n", 2)
    return yaml.safe_load(text)


def test_front_matter_has_what_the_hub_indexes(tmp_path: Path) -> None:
    card = model_card(read_facts(make_package(tmp_path)), OPTIONS, figure=True)
    assert card_problems(card) == ([], [])
    data = front_matter(card)
    assert {"espnet", "audio", "automatic-speech-recognition"} <= set(data["tags"])
    assert data["language"] in ("en", ["en"]) and data["license"] == "cc0-1.0"
    assert data["datasets"] == ["mini_tts"] and data["metrics"] == ["cer", "wer"]
    (entry,) = data["model-index"]
    assert entry["name"] == "tiny-en"
    found = {
        (r["dataset"]["split"], m["type"], m["name"], m["value"])
        for r in entry["results"]
        for m in r["metrics"]
    }
    assert found == {
        ("dev", "wer", "WER (full_sum_default)", 2.3),
        ("test", "wer", "WER (full_sum_default)", 5.0),
        ("test", "wer", "WER (full_sum_lm_beam8)", 4.0),
        ("test", "cer", "CER (full_sum_default)", 2.8),
    }


def test_text_tells_results_cost_use_and_whom_to_cite(tmp_path: Path) -> None:
    card = model_card(read_facts(make_package(tmp_path)), OPTIONS, figure=True)
    assert "|align_default|49.1|50.4|" in card and "|**full_sum_default**|2.3|5.0|" in card
    assert "|**full_sum_lm_beam8**||4.0|" in card
    assert "|full_sum|9 of 12|0:02:24|" in card and "**0:05:57**" in card
    assert "On CPU only." in card and "espnet 202611" in card
    assert 'Speech2Text.from_pretrained("owner/tiny-en")' in card
    assert "espnet-progressive transcribe --model owner/tiny-en" in card
    assert "2204.10586" in card and "10.21437/Interspeech.2018-1456" in card
    assert "![the training pipeline](pipeline.png)" in card
    assert "[RESULTS.md](exp/tag/RESULTS.md)" in card
    assert "5 characters" in card and "16000 Hz" in card and "strictly monotonic" in card
    assert "0.03 M parameters" in card  # 25,000, and none of the statistics
    assert "espnet2.bin.asr_inference" not in card  # its search does not know this topology


def test_standard_topology_names_espnets_own_class(tmp_path: Path) -> None:
    package = make_package(tmp_path, model_conf={"topology": "rnnt"})
    card = model_card(read_facts(package), OPTIONS, figure=False)
    assert "espnet2.bin.asr_inference.Speech2Text.from_pretrained" in card
    assert "pipeline.png" not in card


def test_a_model_with_parts_of_another_package_says_how_to_import_them(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    meta = yaml.safe_load((tmp_path / "meta.yaml").read_text())
    meta["espnet_progressive"]["imports"] = ["mylab", "mylab.enc"]
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(meta))
    card = model_card(read_facts(read_package(package.root)), OPTIONS, figure=False)
    assert "Needs the Python module `mylab`, `mylab.enc` of another package" in card
    assert "from_pretrained(\"owner/tiny-en\", imports=['mylab', 'mylab.enc'])" in card
    assert "--model owner/tiny-en --imports mylab --imports mylab.enc talk.wav" in card


def test_a_model_of_extracted_features_promises_no_transcription(tmp_path: Path) -> None:
    card = model_card(read_facts(make_package(tmp_path, input_size=39)), OPTIONS, figure=False)
    assert "extracted features, not audio" in card and "transcribe" not in card


def test_a_package_without_results_and_pipeline_still_gets_a_card(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = make_package(tmp_path)
    (tmp_path / "exp/tag/RESULTS.md").unlink()
    (tmp_path / "exp/tag/pipeline.json").unlink()
    card = model_card(read_facts(package), CardOptions("owner/name"), figure=False)
    assert card_problems(card) == ([], [])
    write_folder(package, OPTIONS, tmp_path.parent / f"{tmp_path.name}_out")
    assert "has no results, so the card tells none" in caplog.text
    assert "## Results" not in card and "## Training cost" not in card and "## Citation" in card
    assert "model-index" not in card and "language" not in front_matter(card)


def test_the_folder_is_the_package_with_card_and_figure_and_the_same_each_time(
    tmp_path: Path,
) -> None:
    package = make_package(tmp_path / "package")
    one, two = tmp_path / "one", tmp_path / "two"
    names = write_folder(package, OPTIONS, one)
    write_folder(package, OPTIONS, two)
    packed = {p.relative_to(package.root) for p in package.root.rglob("*") if p.is_file()}
    assert set(names) == packed | {Path("README.md"), Path("pipeline.png")}
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (one / "pipeline.png").read_bytes().startswith(b"\x89PNG")
    assert read_package(one).files == package.files
    with pytest.raises(ValueError, match="exists and is not empty"):
        write_folder(package, OPTIONS, one)


def test_hidden_files_stay_at_home_and_the_package_is_not_linked_to(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    (package.root / ".git").mkdir()
    (package.root / ".git/config").write_text("x")
    names = write_folder(package, OPTIONS, tmp_path / "out")
    assert not [name for name in names if name.parts[0].startswith(".")]
    (tmp_path / "out/meta.yaml").write_text("changed")
    assert "asr_model_file" in (package.root / "meta.yaml").read_text()


def test_names_of_data_sets() -> None:
    CardOptions("owner/name", datasets=("librispeech_asr", "owner/my-corpus.v1"))
    with pytest.raises(ValueError, match="'my corpus'"):
        CardOptions("owner/name", datasets=("my corpus",))


def test_a_card_inside_the_package_is_replaced_not_written_through_its_link(
    tmp_path: Path,
) -> None:
    package = make_package(tmp_path / "package")
    (package.root / "README.md").write_text("an older card")
    write_folder(package, OPTIONS, tmp_path / "out")
    assert (package.root / "README.md").read_text() == "an older card"
    assert "owner/tiny-en" in (tmp_path / "out/README.md").read_text()
