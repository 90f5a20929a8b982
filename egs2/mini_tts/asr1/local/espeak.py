"""eSpeak NG through ctypes; the shared library and its voices come with `espeakng-loader`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

# Values of speak_lib.h.
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_POSITION_CHARACTER = 1
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
# Half of the usual: several variants clip at 100.
_QUIET = 50

_PHONEME_EVENTS = 1
_LIST_END, _PHONEME = 0, 7


class _Identity(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Delivery:
    """How a sentence is spoken: eSpeak's voice name, words a minute, pitch and its range (0-99)."""

    voice: str
    words_per_minute: int
    pitch: int
    pitch_range: int


class Espeak:
    """One initialised library. Use one object per process.

    What it says depends on all that it has said before (phases of its oscillators, its random
    numbers), so for the same bytes every time, fork a fresh process for each sentence.
    """

    def __init__(self) -> None:
        """Load the library.

        Raises:
            ValueError: the package is missing, or the library does not start.
        """
        try:
            import espeakng_loader
        except ImportError as error:
            raise ValueError(
                "the synthetic corpus needs the package espeakng-loader: "
                "pip install 'espnet-progressive[demo]'"
            ) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = int(
            self._library.espeak_Initialize(
                _SYNCHRONOUS, 0, ctypes.c_char_p(data), _DONT_EXIT | _PHONEME_EVENTS
            )
        )
        if self.sample_rate <= 0:
            raise ValueError(f"eSpeak NG does not start with the voices in {data.decode()}")
        # The library seeds the noise of breathy voices with the time of day.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._pieces: list[bytes] = []
        self._phonemes: list[tuple[int, int, bytes]] = []  # sample, position in the text, name
        self._callback = _CALLBACK(self._collect)  # kept: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        for event in events:
            if event.type == _LIST_END:
                break
            if event.type == _PHONEME:
                self._phonemes.append((event.sample, event.text_position, event.id.string))
        return 0

    def say(self, sentence: str, delivery: Delivery) -> np.ndarray:
        """Return the sentence as float64 samples [T] in -1..1 at `sample_rate`.

        Raises:
            ValueError: an unknown voice, or nothing came back.
        """
        if self._library.espeak_SetVoiceByName(delivery.voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {delivery.voice!r}")
        for parameter, value in (
            (_RATE, delivery.words_per_minute),
            (_VOLUME, _QUIET),
            (_PITCH, delivery.pitch),
            (_RANGE, delivery.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        self._phonemes.clear()
        text = sentence.encode() + b"\0"
        self._library.espeak_Synth(text, len(text), 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.frombuffer(b"".join(self._pieces), dtype=np.int16)
        if not samples.any():
            raise ValueError(f"{delivery.voice!r} said nothing for {sentence!r}")
        return samples / 32768.0

    def word_times(self) -> list[tuple[float, float]]:
        """Seconds from the first sound to the end of each word of the last sentence.

        A word begins with its first phoneme, and ends where the next word's first phoneme or a
        pause begins. (eSpeak's events of words come a phoneme early before some vowels.)
        """
        spans: list[list[int]] = []
        speaking: int | None = None  # where in the text the word stands whose phonemes come
        for sample, position, name in self._phonemes:
            word = None if name.startswith(b"_") else position
            if word == speaking:
                continue
            if speaking is not None:
                spans[-1].append(sample)
            if word is not None:
                spans.append([sample])
            speaking = word
        return [(start / self.sample_rate, end / self.sample_rate) for start, end in spans]
