"""ESPnet's cleaners of transcripts, by name."""

from __future__ import annotations

from collections.abc import Callable

#: What ESPnet's TextCleaner knows.
CLEANERS = ("tacotron", "jaconv", "vietnamese", "korean_cleaner", "whisper_en", "whisper_basic")
NO_CLEANER = "none"  # ESPnet's word for it


def load_cleaner(name: str | None) -> Callable[[str], str]:
    """The function from a transcript to the clean one; without a name it changes nothing.

    Raises:
        ValueError: ESPnet knows no such cleaner, or lacks the package that it needs.
    """
    if name is None or name in ("", NO_CLEANER):
        return str
    if name not in CLEANERS:
        raise ValueError(f"--cleaner {name}: ESPnet knows {', '.join(CLEANERS)}")
    from espnet2.text.cleaner import TextCleaner

    clean = TextCleaner(name)
    try:
        clean("a")
    except (RuntimeError, TypeError, ImportError) as error:
        raise ValueError(f"--cleaner {name}: {error}") from error

    def cleaned(text: str) -> str:
        return str(clean(text))

    return cleaned
