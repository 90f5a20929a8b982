"""Naming a language model on a command line or in a YAML: ``KIND:FILE:SCALE``.

    ngram:exp/ngram/char_3gram.arpa:0.3      n-grams over the transducer's labels
    word:lm/4gram.arpa.gz:0.8                n-grams over words
    espnet:exp/lm/valid.loss.ave.pth:0.4     ESPnet's LM task, over the transducer's labels
    espnet-text:exp/wordlm/valid.loss.ave.pth:0.4    likewise, with units of its own (rescoring)

N-gram files are ARPA (.arpa, .gz), or KenLM's binary format (.bin, .binary, .klm, .mmap). An ESPnet
model's ``config.yaml`` lies beside its parameters, or is named: ``espnet:x.pth@conf/lm.yaml:0.4``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

KINDS = ("ngram", "word", "espnet", "espnet-text")
FORM = "KIND:FILE:SCALE, such as word:lm/3gram.arpa:0.8"
#: In a pipeline YAML: the file of the option --word_arpa; where an n-gram is made varies.
WORD_ARPA = "{--word_arpa}"
#: Of models whose scales are still to be tuned, together; the paper's for N-best lists.
START_SCALE = 0.4
#: Bytes of an ARPA file, packed or not, from which on KenLM reads it: the tables of our own reader
#: would take many times as much memory.
LARGE_ARPA = 200_000_000
#: Option of decode: where words begin and end in the sound (`search.align.word_hmm`).
BOUNDARY_OPTION = "boundary_file"
#: Options of decode that name a file which results depend on, besides the language models.
FILE_OPTIONS = ("lexicon", "ngram_file", "lm_file", "lm_train_config", BOUNDARY_OPTION)
#: Options of decode that hold language models.
LM_OPTIONS = ("lm", "ilm_lm")
ESPNET_LM_OPTIONS = ("lm_train_config", "lm_file", "lm_weight", "ngram_file", "ngram_weight")


@dataclass(frozen=True)
class LmSpec:
    """A language model.

    Attributes:
        kind: One of ``KINDS``.
        path: ARPA file, or parameters of an ESPnet model.
        scale: What its log-probability is multiplied with; None: not said.
        config: Configuration of an ESPnet model, if not ``config.yaml`` beside ``path``.
    """

    kind: str
    path: Path
    scale: float | None = None
    config: Path | None = None

    def __str__(self) -> str:
        config = "" if self.config is None else f"@{self.config}"
        scale = "" if self.scale is None else f":{self.scale:g}"
        return f"{self.kind}:{self.path}{config}{scale}"

    @property
    def config_path(self) -> Path:
        """Where the configuration of an ESPnet model is."""
        return self.config or self.path.parent / "config.yaml"

    def with_scale(self, scale: float) -> LmSpec:
        """The same model under another scale."""
        return replace(self, scale=float(scale))


def parse_lm(text: str) -> LmSpec:
    """Read ``KIND:FILE`` or ``KIND:FILE:SCALE``; of ESPnet's models also ``FILE@CONFIG.yaml``.

    Raises:
        ValueError: another form, an unknown kind or no file name.
    """
    kind, colon, rest = str(text).partition(":")
    if kind not in KINDS or not colon:
        raise ValueError(
            f"language model {text!r} is not of the form {FORM}; kinds: {', '.join(KINDS)}"
        )
    path, scale = rest, None
    head, colon, tail = rest.rpartition(":")
    if colon:
        with contextlib.suppress(ValueError):  # else it is a colon of the file name
            path, scale = head, float(tail)
    if not path:
        raise ValueError(f"language model {text!r} names no file; the form is {FORM}")
    file, at, config = path.rpartition("@")
    if kind.startswith("espnet") and at and file and config.endswith((".yaml", ".yml")):
        return LmSpec(kind, Path(file), scale, Path(config))
    return LmSpec(kind, Path(path), scale)


def with_start_scales(models: Sequence[str]) -> list[str]:
    """The language models, each with a scale; those without share ``START_SCALE``.

    Raises:
        ValueError: see `parse_lm`.
    """
    specs = [parse_lm(text) for text in models]
    share = START_SCALE / max(1, sum(spec.scale is None for spec in specs))
    return [str(spec if spec.scale is not None else spec.with_scale(share)) for spec in specs]


def lm_specs(options: Mapping[str, Any]) -> list[LmSpec]:
    """The language models of decode's options: ``lm`` first, then ESPnet's names for them.

    ``lm_file`` with ``lm_train_config`` and ``lm_weight``, and ``ngram_file`` with
    ``ngram_weight`` mean what they mean for ESPnet's ``asr_inference``.

    Raises:
        ValueError: see `parse_lm`; or a model without scale.
    """
    given = options.get("lm") or []
    specs = [parse_lm(text) for text in ([given] if isinstance(given, str) else given)]
    if options.get("lm_file"):
        config = options.get("lm_train_config")
        weight = _weight(options, "lm_weight", 1.0)
        config = Path(config) if config else None
        specs.append(LmSpec("espnet", Path(options["lm_file"]), weight, config))
    if options.get("ngram_file"):
        weight = _weight(options, "ngram_weight", 0.9)
        specs.append(LmSpec("ngram", Path(options["ngram_file"]), weight))
    for spec in specs:
        if spec.scale is None:
            raise ValueError(f"language model {spec}: its scale is missing; the form is {FORM}")
    return specs


def _weight(options: Mapping[str, Any], name: str, espnets: float) -> float:
    value = options.get(name)
    return espnets if value is None else float(value)


def lm_options(specs: Iterable[LmSpec]) -> dict[str, Any]:
    """Options of decode for language models, the inverse of `lm_specs`; None: to be unset."""
    # One list keeps their order, by which scores in N-best lists are told apart.
    return {**dict.fromkeys(ESPNET_LM_OPTIONS), "lm": [str(spec) for spec in specs]}


def named_files(options: Mapping[str, Any]) -> list[Path]:
    """Files that decode's options name and its results depend on.

    Raises:
        ValueError: see `parse_lm`; or a file that does not exist.
    """
    files = [Path(options[name]) for name in FILE_OPTIONS if options.get(name)]
    for name in LM_OPTIONS:
        value = options.get(name) or []
        for text in [value] if isinstance(value, str) else value:
            spec = parse_lm(text)
            files.append(spec.path)
            if spec.kind.startswith("espnet"):
                files.append(spec.config_path)
    return require_files(files)


def require_files(files: Iterable[Path]) -> list[Path]:
    """The files, if they are all there.

    Raises:
        ValueError: naming all that do not exist.
    """
    files = list(files)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise ValueError(f"no such file: {', '.join(missing)}; named by the decoding options")
    return files
