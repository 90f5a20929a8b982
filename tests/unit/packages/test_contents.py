"""What goes into a package: every file the model needs, and no place of the packing machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from espnet_plugin.corpora.faults import explain
from espnet_plugin.packages.contents import Contents, collect
from espnet_plugin.packages.portable import Places, replace_members
from espnet_plugin.packages.sources import TrainedModel, stage_model
from espnet_plugin.packages.subwords import portable_subwords
from espnet_plugin.pipeline.state.state import PipelineState
from tests.disk_faults import full_disk


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/me/rec/exp/tag/mbr/x.pth", "exp/tag/mbr/x.pth"),
        ("/home/me/rec/exp/tag", "exp/tag"),
        ("/home/me/rec/data/a", "data/a"),
        ("/home/me/rec", "."),
        ("/home/me/record/x", "x"),  # not inside of rec
        ("/scratch/dump/raw/dev/text,text,text", "dump/raw/dev/text,text,text"),
        ("/scratch/some where/x", "some where/x"),
        ("a=/scratch/deep/er/file.txt b", "a=file.txt b"),
        ("python '/opt/tools/python3' -x", "python 'python3' -x"),
        ("https://example.org/a/b and 3/4, full_sum/test", None),
        ("relative/path/x.yaml", None),
        ("/", None),
    ],
)
def test_paths_in_texts(text: str, clean: str | None) -> None:
    places = Places({Path("/home/me/rec"): "", Path("/home/me/rec/exp/tag"): "exp/tag"})
    assert places.clean(text) == (text if clean is None else clean)


def test_vocabularies_are_left_alone() -> None:
    data = {"token_list": ["/a/b", "/"], "x": ["/a/b", 3, None, True], "y": {"z": "/a/b"}}
    clean = Places({}).clean_data(data)
    assert clean == {"token_list": ["/a/b", "/"], "x": ["b", 3, None, True], "y": {"z": "b"}}
    replaced = replace_members({"token_list": ["m/x"], "lm": "word:m/x:0.5"}, {"m/x": "/r/m/x"})
    assert replaced == {"token_list": ["m/x"], "lm": "word:/r/m/x:0.5"}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """An experiment with a lexicon, in a recipe folder that is not the working directory."""
    recipe = tmp_path / "recipe"
    exp = recipe / "exp/tag"
    lexicon = write(recipe / "data/token_list/phn/lexicon.txt", "A a\n")
    write(recipe / "data/token_list/phn/word_counts", "A 3\n")
    stats = recipe / "exp/stats/train/feats_stats.npz"
    stats.parent.mkdir(parents=True)
    np.savez(stats, count=1)
    config = {
        "output_dir": str(exp / "full_sum"),
        "token_list": ["<blank>", "a#", "/x/y"],
        "normalize_conf": {"stats_file": str(stats)},
        "preprocessor_conf": {"lexicon": str(lexicon.relative_to(recipe))},
        "train_data_path_and_name_and_type": [[str(recipe / "dump/t"), "text", "text"]],
        "rir_scp": str(recipe / "rirs"),
        "frontend_conf": {"fs": 8000},
    }
    write(recipe / "rirs", "x")
    write(exp / "full_sum/config.yaml", config)
    write(exp / "full_sum/valid.cer.ave_2best.pth", b"weights")
    (exp / "full_sum/valid.cer.ave.pth").symlink_to("valid.cer.ave_2best.pth")
    write(exp / "align/config.yaml", {**config, "output_dir": str(exp / "align")})
    write(exp / "RESULTS.md", f"## {exp}\n|full_sum_default/test|1|\n")
    write(exp / "report/report.md", f"[log]({exp}/full_sum/train.log)\n")
    write(exp / "report/curves.png", b"picture")
    done = {"status": "done", "finished": 9.0, "pid": 7, "host": "secret-host", "message": None}
    state = {
        "version": 1,
        "plan": ["train:align", "train:full_sum"],
        "invocation": {"arguments": ["--expdir", str(recipe / "exp")], "cwd": str(recipe)},
        "steps": {"train:align": done, "train:full_sum": done},
    }
    write(exp / "pipeline.json", json.dumps(state))
    return exp


def texts(contents: Contents) -> dict[str, str]:
    return {
        name: content.decode() if isinstance(content, bytes) else ""
        for name, content in contents.members.items()
    }


def test_a_model_with_all_it_needs(exp: Path, tmp_path: Path) -> None:
    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), None)
    assert sorted(contents.members) == [
        "RESULTS.md",
        "model/config.yaml",
        "model/feats_stats.npz",
        "model/lexicon.txt",
        "model/model.pth",
        "model/tokens.txt",
        "model/word_counts",
        "pipeline.json",
        "report/curves.png",
        "report/report.md",
        "stages/align.yaml",
        "stages/full_sum.yaml",
    ]
    assert contents.files == {"asr_model_file": "model/model.pth"}
    assert contents.yaml_files == {"asr_train_config": "model/config.yaml"}
    assert contents.extra["stage"] == "full_sum"
    written = texts(contents)
    config = yaml.safe_load(written["model/config.yaml"])
    assert config["normalize_conf"]["stats_file"] == "model/feats_stats.npz"
    assert config["preprocessor_conf"]["lexicon"] == "model/lexicon.txt"
    assert config["token_list"] == ["<blank>", "a#", "/x/y"]
    assert config["frontend_conf"] == {"fs": 8000}
    for name, text in written.items():
        for private in (str(tmp_path), "secret-host", '"pid"'):
            assert private not in text, (name, private)
    assert written["RESULTS.md"].startswith("## exp/tag\n|full_sum_default/test")
    assert written["report/report.md"] == "[log](exp/tag/full_sum/train.log)\n"
    (tmp_path / "pipeline.json").write_text(written["pipeline.json"])
    state = PipelineState.load(tmp_path / "pipeline.json")
    assert state.steps["train:full_sum"].finished == 9.0
    assert state.invocation["arguments"] == ["--expdir", "exp"]


def test_decoding_brings_its_models_along(exp: Path) -> None:
    recipe = exp.parents[1]
    for name in ("lm_a", "lm_b"):
        write(recipe / "exp" / name / "valid.loss.ave.pth", name.encode())
        config = {"token_list": ["a"], "output_dir": str(recipe / "exp" / name)}
        write(recipe / "exp" / name / "config.yaml", config)
    write(recipe / "lm/3gram.arpa", "\\data\\\n")
    write(recipe / "other/3gram.arpa", "\\data\\ \n")
    write(recipe / "data/words.txt", "A a\n")
    options = {
        "search": "lexicon",
        "batch_size": 16,
        "lexicon": "data/words.txt",
        "lm": [
            "word:lm/3gram.arpa:0.8",
            "ngram:other/3gram.arpa:0.25",
            "espnet:exp/lm_a/valid.loss.ave.pth:0.4",
            f"espnet:{recipe}/exp/lm_b/valid.loss.ave.pth:0.1",
            "word:lm/nowhere.arpa:0",
        ],
        "ilm_lm": "ngram:other/3gram.arpa",
        "ilm_scale": 0.2,
    }
    decoding = write(recipe / "conf/decode.yaml", options)
    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), decoding)
    assert contents.extra["decoding"] == "decoding/decode.yaml"
    packed = yaml.safe_load(texts(contents)["decoding/decode.yaml"])
    assert packed == {
        "search": "lexicon",
        "lexicon": "decoding/words.txt",
        "lm": [
            "word:lm/3gram.arpa:0.8",
            "ngram:lm/3gram_2.arpa:0.25",
            "espnet:lm/neural1/model.pth:0.4",
            "espnet:lm/neural2/model.pth:0.1",
        ],
        "ilm_lm": "ngram:lm/3gram_2.arpa",
        "ilm_scale": 0.2,
    }
    assert contents.members["lm/3gram_2.arpa"] == recipe / "other/3gram.arpa"
    assert contents.members["lm/neural2/model.pth"] == recipe / "exp/lm_b/valid.loss.ave.pth"
    assert not re.search(r"/recipe/", "".join(texts(contents).values()))


def test_espnets_names_of_a_language_model_go_into_meta(exp: Path) -> None:
    recipe = exp.parents[1]
    write(recipe / "lm/model.pth", b"w")
    write(recipe / "lm/train.yaml", {"token_list": ["a"]})
    options = {"lm_file": "lm/model.pth", "lm_train_config": "lm/train.yaml", "lm_weight": 0.3}
    decoding = write(recipe / "conf/decode.yaml", options)
    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), decoding)
    assert contents.files["lm_file"] == "lm/neural1/model.pth"
    assert contents.yaml_files["lm_train_config"] == "lm/neural1/config.yaml"


def test_missing_files(exp: Path) -> None:
    decoding = write(exp / "decode.yaml", {"lexicon": "data/none.txt"})
    with pytest.raises(ValueError, match=r"data/none.txt: no such file, but the model needs it"):
        collect(exp, "full_sum", stage_model(exp, "full_sum"), decoding)
    with pytest.raises(ValueError, match="stage mbr is not finished; finished: align, full_sum"):
        stage_model(exp, "mbr")
    (exp.parents[1] / "exp/stats/train/feats_stats.npz").unlink()
    with pytest.raises(ValueError, match=r"feats_stats.npz: no such file, but the model needs it"):
        collect(exp, "full_sum", stage_model(exp, "full_sum"), None)


def test_subwords_without_paths(tmp_path: Path) -> None:
    import sentencepiece

    text = write(
        tmp_path / "private/text", "".join(f"word{n % 7} and more {n}\n" for n in range(99))
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "private/bpe"), vocab_size=30
    )
    model = tmp_path / "private/bpe.model"
    assert b"private" in model.read_bytes()
    portable = portable_subwords(model)
    assert portable is not None and b"private" not in portable
    before = sentencepiece.SentencePieceProcessor(model_file=str(model))
    after = sentencepiece.SentencePieceProcessor(model_proto=portable)
    assert after.encode("word3 and more 42", out_type=str) == before.encode(
        "word3 and more 42", out_type=str
    )
    assert portable_subwords(text) is None
    config = {"token_list": ["<blank>"], "token_type": "bpe", "bpemodel": str(model)}
    trained = write(tmp_path / "exp/full_sum/config.yaml", config)
    weights = write(tmp_path / "exp/full_sum/m.pth", b"weights")
    contents = collect(tmp_path / "exp", "full_sum", TrainedModel(weights, trained), None)
    assert contents.members["model/bpe.model"] == portable
    written = contents.members["model/config.yaml"]
    assert isinstance(written, bytes)
    packed = yaml.safe_load(written)
    assert packed["bpemodel"] == "model/bpe.model"


def test_a_full_disk_leaves_the_package_that_was_there(exp: Path, tmp_path: Path) -> None:
    from espnet_plugin.tasks.packing import write_package

    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), None)
    target = tmp_path / "packed" / "model.zip"
    write_package(contents, target)
    before = target.read_bytes()
    for room in (0, 600, len(before) - 10):
        with full_disk(room), pytest.raises(OSError) as caught:
            write_package(contents, target)
        assert "no file may be so large here" in str(explain(caught.value))
        assert target.read_bytes() == before and list(target.parent.iterdir()) == [target]


def test_word_boundaries_come_along(exp: Path, tmp_path: Path) -> None:
    from espnet_plugin.packages.loading import find_pretrained

    boundaries = write(exp / "word_times/boundaries.npz", b"x")
    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), None)
    assert contents.members["decoding/boundaries.npz"] == boundaries
    packed = yaml.safe_load(texts(contents)["decoding/decode.yaml"])
    assert packed == {"boundary_file": "decoding/boundaries.npz"}
    # a decoding that names its own keeps it
    other = write(tmp_path / "other.npz", b"y")
    decoding = write(tmp_path / "decode.yaml", {"beam_size": 3, "boundary_file": str(other)})
    contents = collect(exp, "full_sum", stage_model(exp, "full_sum"), decoding)
    assert contents.members["decoding/other.npz"] == other
    assert "decoding/boundaries.npz" not in contents.members
    # the experiment itself, not packed
    write(exp / "full_sum/config.yaml", {"token_list": ["<blank>"]})
    found = find_pretrained(exp / "full_sum", tmp_path / "cache")
    assert found.options == {"boundary_file": str(boundaries)}
