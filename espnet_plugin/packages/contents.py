"""What a package of an experiment holds, member by member.

meta.yaml            what is what (`package`)
model/               model.pth, config.yaml, feats_stats.npz, tokens.txt, bpe.model or lexicon
decoding/            decode.yaml: options of the search with the tuned scales; its lexicon
lm/                  language models that decode.yaml names, with their configurations
stages/<stage>.yaml  configuration of every train stage
pipeline.json        the state of the pipeline: what ran, how long
RESULTS.md, report/  tables and figures
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin import __version__
from espnet_plugin.data.decode_files import BOUNDARIES, BOUNDARY_FOLDER
from espnet_plugin.data.lm_spec import BOUNDARY_OPTION, parse_lm
from espnet_plugin.packages.imports import module_names
from espnet_plugin.packages.package import (
    CONFIG,
    DECODING,
    FILE_KEYS,
    IMPORTS,
    MODEL,
    read_mapping,
)
from espnet_plugin.packages.portable import VOCABULARY, Places
from espnet_plugin.packages.references import TRAINING_ONLY
from espnet_plugin.packages.sources import PIPELINE_STATE, TrainedModel
from espnet_plugin.packages.subwords import portable_subwords
from espnet_plugin.scoring.phoneme_words import WORD_COUNTS

#: Options of one decoding job, not of the search.
JOB_OPTIONS = frozenset({
    "config", "output_dir", "data_path_and_name_and_type", "key_file", "batch_size", "ngpu", "seed",
    "imports", "num_workers", "log_level", "allow_variable_data_keys", "train_config", "model_file",
    "asr_train_config", "asr_model_file",
})  # fmt: skip
_LM_OPTIONS = ("lm", "ilm_lm")
_LM_FILES = ("lm_file", "lm_train_config", "ngram_file")


@dataclass
class Contents:
    """Members of a package, and what meta.yaml says about them.

    Attributes:
        places: how absolute paths are replaced.
        members: name in the package -> file to copy, or content.
        files, yaml_files, extra: see `Package`.
    """

    places: Places
    base: Path
    members: dict[str, Path | bytes] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    yaml_files: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def add(self, source: Path, folder: str, name: str | None = None) -> str:
        """Copy a file into a folder of the package; returns its name there.

        Raises:
            ValueError: there is no such file.
        """
        path = self.locate(source)
        if not path.is_file():
            raise ValueError(
                f"{source}: no such file, but the model needs it (looked in {Path.cwd()} and "
                f"{self.base})"
            )
        stem, suffix = Path(name or path.name).stem, Path(name or path.name).suffix
        member, count = f"{folder}/{stem}{suffix}", 1
        while self.members.get(member, path) != path:
            count += 1
            member = f"{folder}/{stem}_{count}{suffix}"
        self.members[member] = path
        return member

    def add_yaml(self, data: Mapping[str, Any], member: str) -> str:
        """A configuration, without absolute paths."""
        text = yaml.safe_dump(self.places.clean_data(data), sort_keys=False, allow_unicode=True)
        self.members[member] = text.encode()
        return member

    def add_text(self, source: Path, member: str) -> None:
        """A text file without absolute paths; nothing if there is none."""
        if source.is_file():
            text = source.read_text(encoding="utf-8", errors="replace")
            self.members[member] = self.places.clean(text).encode()

    def locate(self, path: Path) -> Path:
        """A path of the experiment, which may be relative to the recipe's folder."""
        return path if path.exists() or path.is_absolute() else self.base / path


def collect(exp: Path, stage: str, model: TrainedModel, decoding: Path | None) -> Contents:
    """Everything that belongs to the model of one stage of an experiment.

    Args:
        exp: folder of the pipeline.
        stage: whose model.
        decoding: YAML with options of `decode`; files that it names come along.

    Raises:
        ValueError: something the model needs is missing or broken.
    """
    state = read_mapping(exp / PIPELINE_STATE) if (exp / PIPELINE_STATE).is_file() else {}
    base = Path((state.get("invocation") or {}).get("cwd") or ".")
    known = {exp.absolute(): f"exp/{exp.absolute().name}", exp.absolute().parent: "exp"}
    contents = Contents(Places({base: "", **known, Path.home(): ""}), base)
    _add_model(contents, model)
    options = {} if decoding is None else read_mapping(decoding)
    boundaries = exp / BOUNDARY_FOLDER / BOUNDARIES
    if not options.get(BOUNDARY_OPTION) and boundaries.is_file():
        options[BOUNDARY_OPTION] = str(boundaries.absolute())
    if options:
        _add_decoding(contents, options)
    _add_records(contents, exp, state)
    contents.extra.update(
        {"version": __version__, "stage": stage, "checkpoint": str(model.model_file.name)}
    )
    return contents


def _add_model(contents: Contents, model: TrainedModel) -> None:
    contents.files[MODEL] = contents.add(model.model_file.resolve(), "model", "model.pth")
    given = read_mapping(model.train_config)
    imports = module_names(given.get("imports"), str(model.train_config))
    if imports:
        contents.extra[IMPORTS] = list(imports)
    config = _with_files(given, contents, "model")
    contents.yaml_files[CONFIG] = contents.add_yaml(config, "model/config.yaml")
    tokens = config.get("token_list")
    if isinstance(tokens, list):
        text = "".join(f"{token}\n" for token in tokens)
        contents.members["model/tokens.txt"] = text.encode()


def _with_files(config: Mapping[str, Any], contents: Contents, folder: str) -> dict[str, Any]:
    """A training configuration whose files are members; where training data was, is left out."""
    kept = {
        key: ([] if isinstance(value, list) else None) if key in TRAINING_ONLY else value
        for key, value in config.items()
    }

    def visit(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: v if k in VOCABULARY else visit(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [visit(inner) for inner in value]
        if not isinstance(value, str) or not value or "\n" in value:
            return value
        path = contents.locate(Path(value))
        if key in FILE_KEYS or ("/" in value and path.is_file()):
            return _add_named(contents, path, folder)
        return value

    result: dict[str, Any] = visit(kept)
    return result


def _add_named(contents: Contents, path: Path, folder: str) -> str:
    """A file that a configuration names, and what lies beside it and belongs to it."""
    member = contents.add(path, folder)
    counts = path.with_name(WORD_COUNTS)
    if path.name.startswith("lexicon") and counts.is_file():
        contents.add(counts, folder)
    subwords = portable_subwords(path)
    if subwords is not None:
        contents.members[member] = subwords
    return member


def _add_decoding(contents: Contents, given: Mapping[str, Any]) -> None:
    """Options of the search, with the language models and the lexicon that they name."""
    options = {
        name: value
        for name, value in given.items()
        if name not in JOB_OPTIONS and value is not None
    }
    for name in _LM_OPTIONS:
        value = options.get(name)
        if isinstance(value, str):
            options[name] = _add_lm(contents, value)
        elif value:  # tuned to nothing: downloads and decoding are cheaper without it
            used = [text for text in value if parse_lm(text).scale != 0]
            options[name] = [_add_lm(contents, text) for text in used]
    if options.get("lm_file"):
        parameters, lm_config = _add_espnet_lm(
            contents, Path(options["lm_file"]), options.get("lm_train_config")
        )
        options["lm_file"] = contents.files["lm_file"] = parameters
        options["lm_train_config"] = contents.yaml_files["lm_train_config"] = lm_config
    for name, value in options.items():
        if name in (*_LM_OPTIONS, "lm_file", "lm_train_config") or not isinstance(value, str):
            continue
        if name in ("lexicon", BOUNDARY_OPTION, *_LM_FILES):
            folder = "lm" if name in _LM_FILES else "decoding"
            options[name] = contents.add(Path(value), folder)
    contents.extra[DECODING] = contents.add_yaml(options, "decoding/decode.yaml")


def _add_lm(contents: Contents, text: str) -> str:
    spec = parse_lm(text)
    if spec.kind.startswith("espnet"):
        member, _ = _add_espnet_lm(contents, spec.path, spec.config)
    else:
        member = contents.add(spec.path, "lm")
    return str(replace(spec, path=Path(member), config=None))


def _add_espnet_lm(contents: Contents, path: Path, config: str | Path | None) -> tuple[str, str]:
    """A model of ESPnet's LM task in a folder of its own: parameters and config.yaml."""
    source = Path(config) if config else path.parent / "config.yaml"
    number = 1 + sum(name.startswith("lm/neural") for name in contents.members) // 2
    folder = f"lm/neural{number}"
    member = contents.add(contents.locate(path).resolve(), folder, "model.pth")
    portable = _with_files(read_mapping(contents.locate(source)), contents, folder)
    return member, contents.add_yaml(portable, f"{folder}/config.yaml")


def _add_records(contents: Contents, exp: Path, state: Mapping[str, Any]) -> None:
    """How the model came about: configurations of all stages, the pipeline's state, results."""
    steps = dict(state.get("steps") or {})
    for name in steps:
        stage = name.removeprefix("train:")
        if stage != name and (exp / stage / "config.yaml").is_file():
            contents.add_yaml(read_mapping(exp / stage / "config.yaml"), f"stages/{stage}.yaml")
    if state:
        private = ("pid", "host", "heartbeat", "message")
        steps = {
            name: {key: value for key, value in step.items() if key not in private}
            for name, step in steps.items()
        }
        arguments = (state.get("invocation") or {}).get("arguments") or []
        clean = contents.places.clean_data(
            {**state, "steps": steps, "invocation": {"arguments": arguments}}
        )
        contents.members[PIPELINE_STATE] = (json.dumps(clean, indent=2) + "\n").encode()
    contents.add_text(exp / "RESULTS.md", "RESULTS.md")
    contents.add_text(exp / "report" / "report.md", "report/report.md")
    for job in ("alignment", "nbest"):
        contents.add_text(exp / job / "quality.md", f"report/{job}_quality.md")
    for picture in sorted((exp / "report").glob("*.png")):
        contents.members[f"report/{picture.name}"] = picture
