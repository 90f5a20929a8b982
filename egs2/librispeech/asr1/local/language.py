"""The official lexicon without stress, and the text for language models with utterance ids."""

from __future__ import annotations

import gzip
import importlib.util
import logging
import os
import time
import zlib
from pathlib import Path

from espnet_plugin.corpora.disk_space import gigabytes, require_space
from espnet_plugin.corpora.faults import explain
from espnet_plugin.data.lexicon import Lexicon, read_lexicon
from espnet_plugin.data.lm_spec import LARGE_ARPA

PHONEMES = 39  # ARPAbet without stress; with end-of-word versions, the paper's 78 labels
_SAY_EVERY = 30.0  # seconds
_UNPACKED = 4  # a text's size over that of its gzip file, with the ids


def without_stress(lexicon: Lexicon) -> Lexicon:
    """Drop the stress digits of ARPAbet vowels; variants that become equal are one."""
    plain = {
        word: tuple(dict.fromkeys(tuple(p.rstrip("012") for p in variant) for variant in variants))
        for word, variants in lexicon.pronunciations.items()
    }
    return Lexicon(plain, lexicon.source)


def official_lexicon(path: Path, allow_subset: bool = False) -> Lexicon:
    """Read the official lexicon without stress.

    Args:
        allow_subset: accept other phonemes than the 39, as those of a smaller lexicon.

    Raises:
        ValueError: it is damaged, or another lexicon.
    """
    lexicon = without_stress(read_lexicon(path))
    if len(lexicon.phonemes) != PHONEMES and not allow_subset:
        raise ValueError(
            f"{path}: {len(lexicon.phonemes)} phonemes without stress, the official lexicon has "
            f"{PHONEMES}; fetch it again (--allow_subset accepts others)"
        )
    logging.info(
        "%s: %d words, %d phonemes", path, len(lexicon.pronunciations), len(lexicon.phonemes)
    )
    return lexicon


def require_reader(name: str, size: int) -> None:
    """Check that the word n-gram can be read when it is wanted, days from now.

    Args:
        name: of the model, as --word_lm takes it.
        size: bytes of its file.

    Raises:
        ValueError: it is too large for our own reader, and KenLM is not installed.
    """
    if size >= LARGE_ARPA and importlib.util.find_spec("kenlm") is None:
        raise ValueError(
            f"--word_lm {name}: a model of {gigabytes(size)} is read by KenLM, which is not "
            "installed; `pip install kenlm`, or take --word_lm 3-gram.pruned.1e-7"
        )


def prepare_lm_text(source: Path, target: Path) -> None:
    """Write the gzipped text as ``librispeech_lm_0000001 WORDS`` lines, empty lines left out.

    A text that was made from the same file before is kept.

    Raises:
        ValueError: the file cannot be read to its end, or the disk is too full.
    """
    stamp = target.with_name(target.name + ".made_from")
    status = source.stat()
    identity = f"{source.absolute()} {status.st_size} {status.st_mtime_ns}\n"
    if target.is_file() and stamp.is_file() and stamp.read_text() == identity:
        return
    require_space(target.parent, _UNPACKED * status.st_size, "text for language models")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    count, said = 0, time.monotonic()
    try:
        with (
            gzip.open(source, "rt", encoding="utf-8") as text,
            partial.open("w", encoding="utf-8") as file,
        ):
            for line in text:
                words = line.split()
                if not words:
                    continue
                count += 1
                file.write(f"librispeech_lm_{count:08d} {' '.join(words)}\n")
                if time.monotonic() - said > _SAY_EVERY:
                    said = time.monotonic()
                    logging.info("%s: %.1f million lines", target, count / 1e6)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        partial.unlink()
        if isinstance(error, OSError) and explain(error):  # a full disk is not the text's fault
            raise
        raise ValueError(f"{source}: cannot be read ({error}); fetch it again") from error
    os.replace(partial, target)
    stamp.write_text(identity)
    logging.info("%s: %d lines", target, count)
