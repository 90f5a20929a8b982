"""Losses of other packages in a pipeline, and options of the command line beside the YAML's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from espnet_plugin.bin import show_config, train
from espnet_plugin.bin.plan import get_parser as plan_parser
from espnet_plugin.jobs import collect_stats, decode_stages
from espnet_plugin.pipeline.launch.commands import decode_arguments, job_arguments, stage_config
from espnet_plugin.pipeline.plan import losses
from espnet_plugin.pipeline.plan.command_line import (
    mapping_option,
    parse_with_stage_args,
    read_command_line,
    section_from_arguments,
)
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.steps.statistics import _stats_config
from espnet_plugin.planning.data_size import DataSize
from espnet_plugin.planning.probe_job import probe_arguments
from tests.unit.pipeline.helpers import set_keys, states

LAB = """
from espnet_plugin.extend import register_loss

class Contrast:
    needs = ("alignment",)

register_loss("contrast", Contrast)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module `mylab` that registers the loss `contrast`, which needs an alignment."""
    (tmp_path / "mylab.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mylab", None)
    losses._losses.pop("contrast", None)


def contrast(corpus: Path, **more: Any) -> None:
    """align, then a stage with the lab's loss."""
    set_keys(
        corpus,
        stage_scheduler_conf={"stages": ["align", "mine"]},
        train_stages={"align": {"max_epoch": 1}, "mine": {"loss": "contrast", "max_epoch": 1}},
        **more,
    )


def read(arguments: list[str]) -> Any:
    args, stage_args = parse_with_stage_args(train.get_parser(), arguments)
    return read_command_line(args, stage_args)


@pytest.mark.parametrize("place", ["YAML", "command line"])
def test_a_loss_of_another_package_trains(
    corpus: Path, arguments: list[str], lab: None, place: str
) -> None:
    contrast(corpus, **({"imports": ["mylab"]} if place == "YAML" else {}))
    more = [] if place == "YAML" else ["--imports", "mylab"]
    assert train.main([*arguments, *more]) == 0
    assert list(states(corpus)) == ["train:align", "job:alignment", "train:mine"]
    exp = corpus / "exp/t"
    for stage in ("align", "mine"):
        assert yaml.safe_load((exp / f"conf/{stage}.yaml").read_text())["imports"] == ["mylab"]
    assert "--imports mylab" in (exp / "alignment/logdir/log.1").read_text()
    check = json.loads((exp / "conf/check.json").read_text())
    position = check["job:alignment"].index("--imports")
    assert check["job:alignment"][position + 1] == "mylab"
    # of what changes no result, one more import makes nothing stale
    (corpus / "other_lab.py").write_text("")
    assert train.main([*arguments, *more, "--imports", "other_lab"]) == 0


def test_every_program_is_told_of_the_import(corpus: Path, arguments: list[str]) -> None:
    config, options = read([*arguments, "--imports", "json", "csv"])
    stage, model, data = make_plan(config)[0], corpus / "exp/t/align/m.pth", corpus / "dump/valid"
    size = DataSize(np.array([100]), np.array([5]), 13, 7, 100.0, "here")
    probed = probe_arguments(stage, size, options, corpus / "plan")
    configs = [
        stage_config(stage, options, {}),  # training, its check, and the probe of a budget
        _stats_config(stage, options),
        yaml.safe_load(Path(probed[probed.index("--config") + 1]).read_text()),
    ]
    assert [config["imports"] for config in configs] == [["json", "csv"]] * 3
    jobs = [
        job_arguments(options, model, data, {}, "keys", "output"),
        decode_arguments(options, model, data, None, "keys", "output"),
    ]
    for job in jobs:
        position = job.index("--imports")
        assert job[position + 1 : position + 3] == ["json", "csv"]


def test_without_its_import_a_loss_is_unknown(
    corpus: Path, arguments: list[str], lab: None, caplog: pytest.LogCaptureFixture
) -> None:
    contrast(corpus)
    assert train.main(arguments) == 2
    assert "unknown loss 'contrast'" in caplog.text and "--imports MODULE" in caplog.text
    caplog.clear()
    assert train.main([*arguments, "--imports", "no_such_lab"]) == 2
    assert "cannot import no_such_lab" in caplog.text and "PYTHONPATH" in caplog.text


def test_imports_of_both_files_where_one_extends_the_other(tmp_path: Path) -> None:
    for name, text in (
        ("base", "imports: [one]\ntrain_stages: {align: {}}\n"),
        ("mine", "extends: base.yaml\nimports: [two, one]\n"),
        ("plain", "extends: mine.yaml\n"),
        ("bad", "extends: base.yaml\nimports: two\n"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
    for name in ("mine", "plain"):
        assert load_pipeline_config(tmp_path / f"{name}.yaml").imports == ("one", "two")
    with pytest.raises(ValueError, match="imports must be a list"):
        load_pipeline_config(tmp_path / "bad.yaml")


def test_the_stage_scheduler_of_the_command_line(
    corpus: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    conf = ["--stage_scheduler_conf", "{stages: [align, viterbi]}"]
    assert train.main([*arguments, *conf]) == 0
    assert list(states(corpus)) == ["train:align", "job:alignment", "train:viterbi"]
    set_keys(corpus, stage_scheduler_conf={"stages": ["align"]})
    config, _ = read([*arguments, "--stage_scheduler", "full_sum_only"])
    assert config.stage_scheduler_conf == {}, "options of another scheduler stayed"
    yaml_of = ["--config", str(corpus / "pipeline.yaml")]
    assert show_config.main([*yaml_of, "--stage_scheduler", "full_sum_only"]) == 0
    assert yaml.safe_load(capsys.readouterr().out.splitlines()[-1]) == {"loss": "full_sum"}


def test_arguments_of_jobs_go_over_the_yamls_sections(corpus: Path, arguments: list[str]) -> None:
    set_keys(corpus, nbest={"nbest": 4, "lm": "ngram:a.arpa:0.1"})
    given = ["--alignment_args", "--batch_size 4 --prior_scale 0 --realign '{after: viterbi}'"]
    given += ["--nbest_args", "--nbest 8 --lm ngram:b.arpa:0.4 word:c.arpa:0.5 --riskless"]
    config, options = read([*arguments, *given])
    assert config.alignment["batch_size"] == 4 and config.alignment["prior_scale"] == 0
    assert config.alignment["min_score_per_frame"] == -2.0, "the YAML's own is gone"
    assert config.alignment["realign"] == {"after": "viterbi"}
    assert config.nbest["nbest"] == 8 and config.nbest["riskless"] is True
    assert config.nbest["lm"] == ["ngram:b.arpa:0.4", "word:c.arpa:0.5"]
    assert not options.stage_args
    set_keys(corpus, nbest={})
    wide = ["--nbest_args", "--beam_size 3"]
    assert train.main([*arguments, *wide]) == 0
    assert "--beam_size 3" in (corpus / "exp/t/nbest/logdir/log.1").read_text()
    assert train.main(arguments) == 2, "another list size must make the lists stale"


def test_arguments_given_twice_are_joined(arguments: list[str]) -> None:
    twice = ["--viterbi_args", "--max_epoch 3 --seed 1", "--viterbi_args=--max_epoch 5"]
    _, options = read([*arguments, *twice])
    assert options.stage_args["viterbi"] == ["--max_epoch", "3", "--seed", "1", "--max_epoch", "5"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--viterb_args", "--seed 2"], "--viterb_args: no such stage is planned .*mean viterbi"),
        (["--stage_scheduler", "full_sum_only", "--mbr_args", "--seed 2"], "planned: full_sum"),
        (["--stage_scheduler", "full_sum_only", "--nbest_args", "--nbest 2"], "no step takes them"),
        (["--alignment_args", "--nj 1 --nj 2"], "--nj is given twice"),
        (["--alignment_args", "4 --nj 1"], "expected --OPTION VALUE, got '4'"),
        (["--bpemodel", "bpe.model"], "needs --token_type bpe, not char"),
        (["--stage_scheduler_conf", "{stags: [align]}"], "stage_scheduler_conf: .*stags"),
        (["--imports", "a-b"], "--imports: imports must be a list of modules"),
    ],
)
def test_an_option_that_would_be_dropped_is_an_error(
    arguments: list[str], given: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read([*arguments, *given])


def test_all_commands_refuse_it(
    corpus: Path, arguments: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    more = ["--viterb_args", "--seed 2"]
    data = ["--decode_data", str(corpus / "dump/valid")]
    commands: list[tuple[Any, list[str]]] = [
        (train, []),
        (collect_stats, []),
        (decode_stages, data),
    ]
    for module, others in commands:
        caplog.clear()
        assert module.main([*arguments, *more, *others]) == 2
        assert "did you mean viterbi?" in caplog.text, module
    args, stage_args = parse_with_stage_args(plan_parser(), [*arguments, *more])
    with pytest.raises(ValueError, match="did you mean viterbi"):
        read_command_line(args, stage_args)


def test_options_without_effect_may_be_empty(arguments: list[str]) -> None:
    """As scripts pass variables that nobody set."""
    _, options = read([*arguments, "--elsewhere_args", ""])
    assert options.stage_args == {"elsewhere": []}


def test_values_as_yaml_has_them() -> None:
    assert mapping_option("{a: 1e-3, b: [x, y]}") == {"a": 1e-3, "b": ["x", "y"]}
    assert mapping_option("a=1e-3 b='[x, y]'") == {"a": 1e-3, "b": ["x", "y"]}
    given = ["--a=1e-3", "--b", "-0.5", "--c", "--d", "x", "2"]
    assert section_from_arguments("j", given) == {"a": 1e-3, "b": -0.5, "c": True, "d": ["x", 2]}
    for text in ("stages", "{a: [}", "[1]"):
        with pytest.raises(Exception, match="expected"):
            mapping_option(text)
