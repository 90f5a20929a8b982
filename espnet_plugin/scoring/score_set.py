"""Score one decoding of one test set: words, characters, tokens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.lexicon import Lexicon
from espnet_plugin.data.text_units import Tokenizer, characters
from espnet_plugin.scoring.decode_dirs import Transcripts, read_transcripts
from espnet_plugin.scoring.dump import write_score_dir
from espnet_plugin.scoring.edit_distance import EDIT_COSTS, Costs, Counts, align, count_errors

UtteranceCounts = dict[str, Counts]


def score_units(
    transcripts: Transcripts,
    tokenize: Tokenizer,
    folder: Path | None = None,
    speakers: Mapping[str, str] | None = None,
    costs: Costs = EDIT_COSTS,
) -> UtteranceCounts:
    """Count the errors of each utterance in one kind of unit.

    Args:
        tokenize: from a transcript to its units.
        folder: where to write ref.trn, hyp.trn and result.txt, if anywhere.
    """
    references = {key: tokenize(text) for key, text in transcripts.references.items()}
    hypotheses = {key: tokenize(text) for key, text in transcripts.hypotheses.items()}
    aligned = align(list(references.values()), [hypotheses[key] for key in references], costs)
    steps = dict(zip(references, aligned, strict=True))
    counts = {key: count_errors(value) for key, value in steps.items()}
    if folder is not None:
        write_score_dir(folder, references, hypotheses, steps, counts, speakers or {})
    return counts


def score_set(
    data_dir: Path,
    decode_dir: Path,
    *,
    tokenize: Tokenizer | None = None,
    lexicon: Lexicon | None = None,
    skipped: Sequence[Path] = (),
    removed: Sequence[str] = (),
    costs: Costs = EDIT_COSTS,
) -> dict[str, UtteranceCounts]:
    """Score a decoding against a data directory and write ``score_{wer,cer,ter}`` beside it.

    Args:
        data_dir: holds ``text`` (words), perhaps ``utt2spk``.
        decode_dir: holds ``text`` and, of a phoneme system, ``token``.
        tokenize: into the model's tokens; without it there is no TER.
        lexicon: of a phoneme system; its TER compares ``token`` with the words' phonemes.
        skipped: see `read_transcripts`.
        removed: symbols such as ``<noise>`` that count in the TER only, as in ESPnet.

    Returns:
        {"WER": {utterance: counts}, "CER": ..., "TER": ...}

    Raises:
        ValueError: see `read_transcripts`.
    """
    table = data_dir / "utt2spk"
    speakers = read_table(table) if table.is_file() else {}
    words = read_transcripts(data_dir / "text", decode_dir / "text", skipped)
    if words.skipped:
        logging.warning(
            "%s: %d utterances were not decoded; all their words count as deleted",
            decode_dir,
            len(words.skipped),
        )
    spoken = words.without(removed)
    jobs: dict[str, tuple[Transcripts, Tokenizer]] = {
        "WER": (spoken, fields),
        "CER": (spoken, characters),
    }
    if lexicon is not None:
        labels = _label_transcripts(words, decode_dir / "token", lexicon)
        if labels is not None:
            jobs["TER"] = (labels, fields)
    elif tokenize is not None:
        jobs["TER"] = (words, tokenize)
    return {
        unit: score_units(pair, split, decode_dir / f"score_{unit.lower()}", speakers, costs)
        for unit, (pair, split) in jobs.items()
    }


def _label_transcripts(
    words: Transcripts, hypothesis: Path, lexicon: Lexicon
) -> Transcripts | None:
    """Both sides as phoneme labels; None if the lexicon lacks a word of the references."""
    missing = lexicon.missing(w for text in words.references.values() for w in fields(text))
    if missing:
        logging.warning("no TER: the lexicon lacks words of the references: %s", some(missing))
        return None
    decoded = read_table(hypothesis, allow_empty=True)
    references = {
        key: " ".join(lexicon.labels(fields(text))) for key, text in words.references.items()
    }
    return Transcripts(references, {key: decoded.get(key, "") for key in references}, words.skipped)
