"""The model card: README.md of a repository on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from espnet_plugin import __version__
from espnet_plugin.publishing.model_card_facts import Facts, Score, cost
from espnet_plugin.report.training_table import clock

FIGURE = "pipeline.png"
_TAGS = ("espnet", "audio", "automatic-speech-recognition", "transducer", "espnet-progressive")
_METRICS = {"WER": "wer", "CER": "cer"}  # units, and what the Hub calls them
_CITATION = """```bibtex
@inproceedings{zhou22efficient,
  author = {Wei Zhou and Wilfried Michel and Ralf Schl\\"uter and Hermann Ney},
  title = {Efficient Training of Neural Transducer for Speech Recognition},
  booktitle = {Proc. Interspeech},
  year = {2022},
  note = {arXiv:2204.10586},
}
@inproceedings{watanabe18espnet,
  author = {Shinji Watanabe and Takaaki Hori and Shigeki Karita and Tomoki Hayashi and
            Jiro Nishitoba and Yuya Unno and Nelson {Enrique Yalta Soplin} and Jahn Heymann and
            Matthew Wiesner and Nanxin Chen and Adithya Renduchintala and Tsubasa Ochiai},
  title = {{ESPnet}: End-to-End Speech Processing Toolkit},
  booktitle = {Proc. Interspeech},
  pages = {2207--2211},
  year = {2018},
  doi = {10.21437/Interspeech.2018-1456},
}
```"""


@dataclass(frozen=True)
class CardOptions:
    """What only the publisher knows.

    Attributes:
        repo: ``owner/name``.
        license: of the model, an identifier of the Hub such as ``cc-by-4.0``.
        language: codes such as ``en``; empty leaves them out.
        datasets: of the Hub, or just names; the first one names the test sets.
    """

    repo: str
    license: str = "cc-by-4.0"
    language: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.datasets:
            if not re.fullmatch(r"([\w-]+/)?[\w.-]+", name):
                raise ValueError(
                    f"--datasets {name!r}: expected a name as on the Hub, such as librispeech_asr "
                    "or owner/name"
                )


def model_card(facts: Facts, options: CardOptions, *, figure: bool) -> str:
    """The card; the same facts give the same bytes.

    Args:
        facts: of the package.
        options: of the publisher.
        figure: whether FIGURE lies beside the card.
    """
    parts = [f"---\n{_front_matter(facts, options)}\n---", f"# {options.repo}", _what(facts)]
    if figure:
        parts.append(f"![the training pipeline]({FIGURE})")
    parts += ["## Use", _use(facts, options)]
    parts += _results(facts) + _training(facts)
    parts += ["## Citation", _CITATION]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: Facts, options: CardOptions) -> str:
    data = ModelCardData(
        language=list(options.language) or None,
        license=options.license,
        library_name="espnet",
        pipeline_tag="automatic-speech-recognition",
        tags=list(_TAGS),
        datasets=list(options.datasets) or None,
        metrics=sorted({metric for unit, metric in _METRICS.items() if facts.scores.get(unit)})
        or None,
        model_name=options.repo.partition("/")[2],
        eval_results=_eval_results(facts, options) or None,
    )
    return data.to_yaml().strip()


def _eval_results(facts: Facts, options: CardOptions) -> list[EvalResult]:
    """The published stage's rows, as the Hub's model-index wants them."""
    corpus = options.datasets[0] if options.datasets else "unknown"
    published = _published(facts)
    rows = [(u, m, row) for u, m in _METRICS.items() for row in facts.of_stage(u, published)]
    return [
        EvalResult(
            task_type="automatic-speech-recognition",
            task_name="Automatic Speech Recognition",
            dataset_type=corpus,
            dataset_name=f"{corpus} {row.data_set}",
            dataset_split=row.data_set,
            metric_type=metric,
            metric_value=row.error,
            metric_name=f"{unit} ({row.decoding})",
        )
        for unit, metric, row in rows
    ]


def _published(facts: Facts) -> str:
    trained = [step.name for step in facts.steps if step.trains]
    return facts.stage or (trained[-1] if trained else "")


def _what(facts: Facts) -> str:
    topology = {"monotonic": "strictly monotonic topology", "rnnt": "standard (RNN-T) topology"}
    encoder = str(facts.config.get("encoder", ""))
    takes = f"audio at {facts.rate} Hz" if facts.takes_audio else "extracted features, not audio"
    stage = _published(facts)
    sentences = [
        "A neural transducer for speech recognition, trained progressively with "
        f"espnet-progressive {__version__} inside ESPnet.",
        f"{facts.parameters / 1e6:.2f} M parameters. "
        f"Takes {takes}; {facts.labels} as labels; encoder `{encoder}`"
        + (f"; {topology.get(facts.topology, facts.topology)}." if facts.topology else "."),
        f"Train stage `{stage}`." if stage else "",
    ]
    return " ".join(filter(None, sentences))


def _use(facts: Facts, options: CardOptions) -> str:
    given = f"samples at {facts.rate} Hz" if facts.takes_audio else "features [frames, dimension]"
    name = "speech" if facts.takes_audio else "features"
    modules = f", imports={list(facts.imports)}" if facts.imports else ""
    python = f"""```python
from espnet_plugin.inference.speech2text import Speech2Text
recognise = Speech2Text.from_pretrained("{options.repo}"{modules})
text, tokens, token_ids, hypothesis = recognise({name})[0]  # {given}
```"""
    parts = ["With ESPnet and its plug-in espnet-progressive installed:", python]
    if facts.imports:
        names = ", ".join(f"`{name}`" for name in facts.imports)
        parts.insert(0, f"Needs the Python module {names} of another package, installed as well.")
    named = "".join(f" --imports {name}" for name in facts.imports)
    if facts.takes_audio:
        parts.append(
            "Audio files of any length into text, captions or CTM:\n\n```sh\n"
            f"espnet-progressive transcribe --model {options.repo}{named} talk.wav\n```"
        )
    if facts.topology == "rnnt":
        parts.append(
            "After `import espnet_plugin`, ESPnet's own search decodes it too: "
            "`espnet2.bin.asr_inference.Speech2Text.from_pretrained"
            f'("{options.repo}")`.'
        )
    return "\n\n".join(parts)


def _results(facts: Facts) -> list[str]:
    rows = facts.scores.get("WER", ())
    if not rows:
        return []
    sets = list(dict.fromkeys(row.data_set for row in rows))
    decodings = list(dict.fromkeys(row.decoding for row in rows))
    by_cell = {(row.decoding, row.data_set): row for row in rows}
    published = {row.decoding for row in facts.of_stage("WER", _published(facts))}
    sizes = {row.data_set: f" ({row.sentences} utterances)" for row in rows}
    head = [f"{name}{sizes[name]}" for name in sets]
    lines = [_line(["train stage, decoding", *head]), _line(["---"] * (len(sets) + 1))]
    for decoding in decodings:
        name = f"**{decoding}**" if decoding in published else decoding
        lines.append(_line([name, *(_cell(by_cell.get((decoding, s))) for s in sets)]))
    note = (
        f"Word error rates in per cent; this model's in bold. More: [RESULTS.md]({facts.results})."
    )
    return ["## Results", "\n".join(lines), note]


def _cell(row: Score | None) -> str:
    return "" if row is None else f"{row.error:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(cells) + "|"


def _training(facts: Facts) -> list[str]:
    if not facts.steps:
        return []
    lines = [_line(["step", "epochs", "wall-clock"]), _line(["---"] * 3)]
    lines += [_line([step.name, step.epochs, clock(step.seconds)]) for step in facts.steps]
    lines.append(_line(["**all**", "", f"**{cost(facts.steps)}**"]))
    where = {None: "", 0: "On CPU only. "}.get(facts.ngpu, f"On {facts.ngpu} GPU(s). ")
    versions = ", ".join(
        facts.environment[key]
        for key in ("espnet version", "pytorch version")
        if key in facts.environment
    )
    python = facts.environment.get("python version", "unknown")
    note = where + (f"Software: {versions}, Python {python}." if versions else "")
    return ["## Training cost", "\n".join(lines), *filter(None, [note.strip()])]
