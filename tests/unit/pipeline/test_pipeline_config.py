"""Pipeline YAML: merging, kindness to floats, unknown keys."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.data.lm_spec import named_files
from espnet_plugin.pipeline.plan.command_line import add_pipeline_options, pipeline_config
from espnet_plugin.pipeline.plan.config import deep_merge, espnet_options, load_pipeline_config


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nested_options_merge_and_base_is_left_alone() -> None:
    base: dict[str, Any] = {
        "encoder": "conformer",
        "encoder_conf": {"num_blocks": 12, "dropout_rate": 0.1},
    }
    merged = deep_merge(base, {"encoder_conf": {"dropout_rate": 0.25}})
    assert merged["encoder_conf"] == {"num_blocks": 12, "dropout_rate": 0.25}
    assert base["encoder_conf"]["dropout_rate"] == 0.1


def test_another_class_drops_the_options_of_the_old_one() -> None:
    base = {"scheduler": "onecyclelinear", "scheduler_conf": {"peak_lr": 1.0}}
    merged = deep_merge(base, {"scheduler": "constantlineardecay", "scheduler_conf": {"a": 2}})
    assert merged["scheduler_conf"] == {"a": 2}
    assert deep_merge(base, {"scheduler": "onecyclelinear"})["scheduler_conf"] == {"peak_lr": 1.0}
    assert "scheduler_conf" not in deep_merge(base, {"scheduler": None})


def test_precedence_of_base_file_base_and_stage(tmp_path: Path) -> None:
    write(tmp_path / "model.yaml", "a: file\nb: file\nc: file\nc_conf: {x: 1}\n")
    path = write(
        tmp_path / "p.yaml",
        "base_config: model.yaml\nbase: {b: base, c_conf: {y: 2}}\n"
        "train_stages:\n  align: {c_conf: {x: 3}, max_steps: 5}\n  viterbi: v.yaml\n",
    )
    write(tmp_path / "v.yaml", "lr: 1e-4\nn: 10\n")
    config = load_pipeline_config(path)
    assert config.train_stages["align"] == {
        "a": "file",
        "b": "base",
        "c": "file",
        "c_conf": {"x": 3, "y": 2},
        "max_steps": 5,
    }
    assert "max_steps" not in espnet_options(config.train_stages["align"])
    assert config.train_stages["viterbi"]["lr"] == pytest.approx(1e-4)
    assert config.train_stages["viterbi"]["n"] == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_stage: {}", "unknown key 'train_stage' .did you mean train_stages"),
        ("base: {}", "train_stages is missing or empty"),
        ("train_stages: {a: 3}", "train_stages.a must be a mapping"),
        ("train_stages: [1]", "train_stages must be a mapping"),
        ("base_config: no.yaml\ntrain_stages: {a: {}}", "no.yaml: no such configuration"),
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_pipeline_config(write(tmp_path / "p.yaml", text))


def test_extends_holds_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    write(tmp_path / "far/small.yaml", "encoder: a\nencoder_conf: {size: 1, drop: 0.1}\nseed: 1\n")
    write(tmp_path / "far/model.yaml", "base_config: small.yaml\nencoder_conf: {size: 2}\n")
    write(
        tmp_path / "far/parent.yaml",
        "base_config: model.yaml\nalignment: {prior_scale: 0.3, source: encoder}\n"
        "train_stages: {align: {max_epoch: 5}, viterbi: {max_epoch: 9, scheduler: x, "
        "scheduler_conf: {lr: 1.0}}}\n",
    )
    child = write(
        tmp_path / "child.yaml",
        "extends: far/parent.yaml\nbase: {seed: 2}\nalignment: {prior_scale: 0.0}\n"
        "train_stages: {viterbi: {scheduler: y}}\n",
    )
    config = load_pipeline_config(child)
    assert config.path == child
    assert config.alignment == {"prior_scale": 0.0, "source": "encoder"}
    model = {"encoder": "a", "encoder_conf": {"size": 2, "drop": 0.1}, "seed": 2}
    assert config.train_stages["align"] == {**model, "max_epoch": 5}
    # another scheduler: the options of the old one are gone
    assert config.train_stages["viterbi"] == {**model, "max_epoch": 9, "scheduler": "y"}


def test_a_model_file_of_the_child_replaces_that_of_the_parent(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "encoder: a\n")
    write(tmp_path / "b.yaml", "encoder: b\n")
    write(tmp_path / "p.yaml", "base_config: a.yaml\ntrain_stages: {align: {}}\n")
    child = write(tmp_path / "c.yaml", "extends: p.yaml\nbase_config: b.yaml\n")
    assert load_pipeline_config(child).train_stages["align"] == {"encoder": "b"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "extends: b.yaml", "b.yaml": "extends: a.yaml"}, "leads back to itself"),
        ({"a.yaml": "base_config: m.yaml", "m.yaml": "base_config: m.yaml"}, "leads back"),
        ({"a.yaml": "extends: [b.yaml]"}, "extends must be the path"),
        ({"a.yaml": "extends: gone.yaml"}, "gone.yaml: no such configuration"),
        ({"a.yaml": "extends: b.yaml", "b.yaml": "tran_stages: {}"}, "b.yaml: unknown key"),
    ],
)
def test_broken_links_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        write(tmp_path / name, text + "\n")
    with pytest.raises(ValueError, match=message):
        load_pipeline_config(tmp_path / "a.yaml")


def test_the_word_ngram_of_nbest_lists_is_the_one_of_the_command_line(tmp_path: Path) -> None:
    text = "train_stages: {mbr: {}}\nnbest: {lm: ['word:{--word_arpa}:0.4', 'ngram:g.arpa:0.2']}\n"
    path = write(tmp_path / "p.yaml", text)
    parser = argparse.ArgumentParser()
    add_pipeline_options(parser, data_required=False)

    def lms(*given: str) -> list[str]:
        models: list[str] = pipeline_config(
            parser.parse_args(["--config", str(path), *given])
        ).nbest["lm"]
        return models

    assert lms("--word_arpa", "my exp/w.arpa") == ["word:my exp/w.arpa:0.4", "ngram:g.arpa:0.2"]
    with pytest.raises(ValueError, match=r"no such file: \{--word_arpa\}"):
        named_files({"lm": lms()[:1]})
    write(path, "train_stages: {mbr: {}}\nnbest: {lm: 'word:own.arpa:0.4'}\n")
    assert lms("--word_arpa", "w.arpa") == ["word:own.arpa:0.4"]
