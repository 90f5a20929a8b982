"""A stream is the offline search of the same masked model, however it is cut, in bounded memory."""

from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.inference.stream_features import StreamFeatures
from espnet_plugin.inference.streaming import SpeechStream, StreamingSpeech2Text, StreamResult
from tests.tiny_model import ENCODER, LM_ARPA, write_model

CHUNKED = {**ENCODER, "num_blocks": 2, "chunk_sizes": [2, 4, 0], "left_context": 5}
RAW: dict[str, Any] = {"input_size": None, "encoder_conf": CHUNKED}
FRONT_ENDS = {
    "kaldi_fbank": {"fs": 8000, "n_mels": 8, "win_length": 200, "hop_length": 80},
    "default": {"fs": 8000, "n_mels": 8, "n_fft": 256, "hop_length": 80},
}
RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models by the name of their front-end, and `rnnt`, `features`, `offline`."""
    folder = tmp_path_factory.mktemp("streaming")
    for name, options in FRONT_ENDS.items():
        write_model(folder / name, frontend=name, frontend_conf=options, **RAW)
    write_model(folder / "features", encoder_conf=CHUNKED)
    write_model(folder / "rnnt", "rnnt", decoder="lstm_prediction", encoder_conf=CHUNKED)
    write_model(folder / "offline")
    (folder / "lm.arpa").write_text(LM_ARPA)
    return folder


def load(folder: Path, name: str, **options: Any) -> StreamingSpeech2Text:
    place = folder / name
    options = {"search_engine": "torch", **options}
    return StreamingSpeech2Text(place / "config.yaml", place / "model.pth", **options)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Samples [L] that are louder and softer."""
    generator = np.random.default_rng(seed)
    count = round(seconds * RATE)
    loud = np.repeat(generator.uniform(0.001, 0.5, count // 400 + 1), 400)[:count]
    return (loud * generator.standard_normal(count)).astype(np.float32)


def pieces(speech: np.ndarray, seed: int, longest: int) -> list[np.ndarray]:
    """Random cuts, empty pieces among them."""
    chosen, found, start = random.Random(seed), [], 0
    while start < len(speech):
        end = start + chosen.choice([0, 1, chosen.randint(1, longest)])
        found.append(speech[start:end])
        start = end
    return found


def run(stream: SpeechStream, speech: list[np.ndarray]) -> list[StreamResult]:
    results = [result for piece in speech for result in stream.feed(piece)]
    return results + stream.finish()


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_features_of_pieces_are_those_of_the_whole(folder: Path, name: str) -> None:
    model = load(folder, name).asr_model
    for seed, samples in enumerate((300, 1601, 1679, 1680, 8000)):
        speech = torch.from_numpy(noise(samples / RATE, seed))
        with torch.no_grad():
            (whole,), _ = model.features(speech[None], torch.tensor([samples]))
        stream = StreamFeatures(model)
        found = [stream.feed(torch.from_numpy(p)) for p in pieces(speech.numpy(), seed, 700)]
        assert stream.kept < 1200
        found.append(stream.finish())
        torch.testing.assert_close(torch.cat(found), whole, atol=1e-4, rtol=1e-4)
    assert StreamFeatures(model).finish().shape == (0, 8)


CASES = [
    ("kaldi_fbank", 20.0, {}),
    ("kaldi_fbank", 40.0, {"ilm_scale": 0.2}),
    ("default", 120.0, {"score_beam": 3.0}),
    ("default", 320.0, {}),
]


@pytest.mark.parametrize(("name", "milliseconds", "options"), CASES)
def test_a_stream_of_samples_is_the_offline_search(
    folder: Path, name: str, milliseconds: float, options: dict[str, Any]
) -> None:
    milliseconds *= 2  # a frame is 40 ms
    recognise = load(folder, name, chunk_ms=milliseconds, nbest=4, beam_size=5, **options)
    assert (recognise.chunk, recognise.rate) == (milliseconds / 40, RATE)
    for seed in range(2):
        speech = noise(0.9 + 0.37 * seed, seed)
        same_as_offline(recognise, speech, pieces(speech, seed, 1500))


def same_as_offline(
    recognise: StreamingSpeech2Text, speech: np.ndarray, cut: list[np.ndarray]
) -> None:
    results = run(recognise.open(), cut)
    wanted = recognise(speech)
    assert [r.final for r in results] == [False] * (len(results) - 1) + [True]
    final = results[-1]
    assert [(h.tokens, h.frames) for h in final.nbest] == [(h.tokens, h.frames) for *_, h in wanted]
    for found, (*_, offline) in zip(final.nbest, wanted, strict=True):
        assert found.score == pytest.approx(offline.score, abs=1e-3)
        assert found.am_score == pytest.approx(offline.am_score, abs=1e-3)
    assert final.text == wanted[0][0]
    for earlier in results[:-1]:
        assert final.text.startswith(earlier.stable.rstrip())
        assert earlier.heard <= final.heard


@pytest.mark.parametrize("name", ["features", "rnnt"])
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_a_stream_of_features_is_the_offline_search(folder: Path, name: str, chunk: int) -> None:
    lm = [f"ngram:{folder / 'lm.arpa'}:0.4"]
    recognise = load(folder, name, chunk_ms=40 * chunk, beam_size=4, nbest=3, lm=lm)
    generator = np.random.default_rng(chunk)
    for seed in range(2):
        feats = generator.standard_normal((90 + seed, 8)).astype(np.float32)
        same_as_offline(recognise, feats, pieces(feats, seed, 30))


def test_silence_ends_a_segment_and_the_next_is_searched_anew(folder: Path) -> None:
    """Each segment is the offline search of its encoder frames."""
    options = {"chunk_ms": 80, "beam_size": 4, "blank_penalty": -6.0}
    recognise = load(folder, "features", endpoint=0.2, **options)
    feats = np.random.default_rng(3).standard_normal((900, 8)).astype(np.float32)
    results = run(recognise.open(), pieces(feats, 0, 50))
    finals = [result for result in results if result.final]
    assert len(finals) > 3 and [f.segment for f in finals] == list(range(len(finals)))
    frames, _ = recognise.asr_model.encode(torch.from_numpy(feats)[None], torch.tensor([900]))
    for final in finals:
        first, end = round(final.start / 0.04), round(final.heard / 0.04)
        part = frames[:, first:end]
        (found,) = recognise.search(part, torch.tensor([end - first]))
        assert found[0].tokens == final.tokens and final.tokens
        assert tuple(f + first for f in found[0].frames) == final.frames
        if final is not finals[-1]:
            assert end - 1 - final.frames[-1] >= 5
    without = run(load(folder, "features", **options).open(), [feats])
    assert sum(result.final for result in without) == 1


def test_streams_do_not_disturb_each_other(folder: Path) -> None:
    recognise = load(folder, "features", chunk_ms=80)
    generator = np.random.default_rng(5)
    both = [generator.standard_normal((120, 8)).astype(np.float32) for _ in range(2)]
    streams = [recognise.open(), recognise.open()]
    for start in range(0, 120, 7):
        for stream, feats in zip(streams, both, strict=True):
            stream.feed(feats[start : start + 7])
    finals = [stream.finish()[-1].tokens for stream in streams]
    assert finals == [tuple(recognise(feats)[0][2]) for feats in both]


def test_words_of_a_lexicon(folder: Path, tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("AB A B\nBA B A\nA A\n")
    recognise = load(
        folder, "features", search="lexicon", lexicon=lexicon, chunk_ms=80, blank_penalty=1.0
    )
    feats = np.random.default_rng(7).standard_normal((160, 8)).astype(np.float32)
    results = run(recognise.open(), pieces(feats, 1, 40))
    assert results[-1].text == recognise(feats)[0][0] != ""
    assert len(results) > 2
    assert all(results[-1].text.startswith(result.stable) for result in results)


def test_a_stream_that_ends_anywhere_is_finished(folder: Path) -> None:
    recognise = load(folder, "kaldi_fbank", chunk_ms=160)
    stream = recognise.open(RATE)
    stream.feed(noise(0.25))  # 25 feature frames: a chunk, and the half of one
    (*_, final) = stream.finish()
    assert final.final and final.heard == pytest.approx(7 * 0.04)
    assert stream.finish() == []
    with pytest.raises(ValueError, match="finished; open another"):
        stream.feed(noise(0.1))
    (nothing,) = recognise.open().finish()
    assert (nothing.text, nothing.final, nothing.heard) == ("", True, 0.0)


def test_what_cannot_stream_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"sees whole utterances and cannot stream.*chunk_sizes"):
        load(folder, "offline")
    with pytest.raises(ValueError, match=r"100 ms does not fit the subsampling: .* take 80 or 120"):
        load(folder, "features", chunk_ms=100)
    with pytest.raises(ValueError, match="take 40 or 80"):
        load(folder, "features", chunk_ms=15)
    with pytest.raises(ValueError, match="search greedy does not stream"):
        load(folder, "features", search="greedy")
    with pytest.raises(ValueError, match="endpoint must be positive"):
        load(folder, "features", endpoint=0.0)
    recognise = load(folder, "default")
    with pytest.raises(ValueError, match=r"stream has 44100 Hz, the model takes 8000 Hz.*ffmpeg"):
        recognise.open(44100)
    with pytest.raises(ValueError, match=r"takes samples \[L\], got the shape \(5, 2\)"):
        recognise.open().feed(np.zeros((5, 2), dtype=np.float32))
    from espnet2.layers.utterance_mvn import UtteranceMVN

    recognise.asr_model.normalize = UtteranceMVN()
    from espnet_plugin.inference.stream_features import check_streams

    with pytest.raises(ValueError, match="UtteranceMVN needs the whole utterance"):
        check_streams(recognise.asr_model)


def long_stream(folder: Path, seconds: int) -> None:
    """Nothing that is kept may grow."""
    recognise = load(folder, "kaldi_fbank", chunk_ms=640, beam_size=3, endpoint=0.8)
    stream, peaks, sizes = recognise.open(), [], []
    for second in range(seconds):
        stream.feed(noise(1.0, second))
        sizes.append(stream.sizes())
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # kilobytes
    for name in ("samples", "features", "state", "hypotheses", "nodes"):
        assert max(kept[name] for kept in sizes) <= BOUNDS[name], name
    assert peaks[-1] - peaks[len(peaks) // 10] < 40_000


#: 3 hypotheses of at most 200 undecided labels, and the frames of a chunk.
BOUNDS = {"samples": 2000, "features": 64, "state": 2000, "hypotheses": 3, "nodes": 1 + 3 * 220}


def test_two_minutes_in_constant_memory(folder: Path) -> None:
    long_stream(folder, 120)


@pytest.mark.slow
def test_an_hour_in_constant_memory(folder: Path) -> None:
    long_stream(folder, 3600)
