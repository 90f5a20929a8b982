"""benchmarks/streaming.py on a folder of features: whose word ends count, how late labels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omniio import kaldi

from benchmarks import streaming
from espnet_plugin.search import TimedWord


def word(text: str, last: int) -> TimedWord:
    """A word whose last label is on this frame."""
    return TimedWord(text, last, last, 1.0)


def test_only_words_that_the_offline_decoding_has_right_have_times(tmp_path: Path) -> None:
    kaldi.save_ark(str(tmp_path / "a.ark"), {"s-1": np.ones((50, 3), np.float32)})
    (tmp_path / "feats.scp").write_text(f"s-1 {tmp_path}/a.ark:4\n")
    (tmp_path / "text").write_text("s-1 GO TO SIX\n")
    ctm = tmp_path / "ctm"
    ctm.write_text("s-1 1 0.100 0.100 GO 1.0\ns-1 1 0.200 0.100 TWO 0.5\ns-1 1 0.30 0.2 SIX 1.0\n")
    (said,) = streaming.from_folder(tmp_path, ctm)
    assert said.speech.shape == (50, 3) and said.words == ["GO", "TO", "SIX"]
    assert np.allclose(said.times, [(0.1, 0.2), (np.nan, np.nan), (0.3, 0.5)], equal_nan=True)
    assert streaming.with_tail(said.speech) is said.speech

    # chunks of 4 frames of 40 ms: frame 5 is complete at 0.32 s, frame 12 at 0.64 s
    found = [word("GO", 5), word("TO", 6), word("SIX", 12)]
    late = streaming.latencies(said, found, 4, 0.04, 0.0075)
    assert late == pytest.approx([0.32 + 0.0075 - 0.2, 0.64 + 0.0075 - 0.5])
