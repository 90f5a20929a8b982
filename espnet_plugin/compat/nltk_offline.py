"""Keeps `import g2p_en` from downloading.

ESPnet imports g2p_en, where it is installed, with its tokenizers, and g2p_en then fetches a
dictionary and a tagger: error messages without a network, and minutes of waiting behind a firewall
that drops packets, in every program of every job.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def no_nltk_downloads() -> Iterator[None]:
    """Imports of g2p_en inside use the data that are there, and are silent about the rest."""
    if importlib.util.find_spec("g2p_en") is None:
        yield
        return
    import nltk

    fetch, nltk.download = nltk.download, lambda *_args, **_options: True
    try:
        with warnings.catch_warnings():
            # of its source text, under new versions of Python
            warnings.simplefilter("ignore", SyntaxWarning)
            yield
    finally:
        nltk.download = fetch
