"""Pronunciation variants from the lexicon to the aligner's loss and its choice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.data.kaldi_files import read_integers, read_table
from espnet_plugin.data.lexicon import Lexicon, numbered_word, read_lexicon, split_variant
from espnet_plugin.models.variants import pack_variants, unpack_variants
from tests.tiny_model import PHONEMES, write_data, write_model

TEXTS = {"u0": "AB BA", "u1": "BA", "u2": "AB AB BA"}
LEXICON = "AB A B\nAB(2) B B\nAB(3) B\nBA B A\nBA(2) A\n"


def test_numbers_name_variants() -> None:
    lexicon = Lexicon({"the": (("DH", "AH"), ("DH", "IY")), "a(2)": (("AH",),)})
    assert lexicon.labels(["the", "the(2)", "a(2)"]) == ["DH", "AH#", "DH", "IY#", "AH#"]
    assert lexicon.missing(["the", "the(3)", "the(0)", "the(2)", "a", "a(2)"]) == [
        "a", "the(0)", "the(3)",
    ]  # fmt: skip
    for variant in range(3):
        assert split_variant(numbered_word("the", variant)) == ("the", variant)


def test_packed_variants_come_back() -> None:
    words = [[[1, 2], [3]], [[4, 5, 6]]]
    assert unpack_variants(pack_variants(words)) == words and unpack_variants([]) == []
    with pytest.raises(ValueError, match="packed"):
        unpack_variants([1, 3, 2])


@pytest.fixture(scope="module")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("aligner")
    (folder / "lexicon.txt").write_text(LEXICON)
    config, model = write_model(
        folder / "model", token_list=PHONEMES, token_type="word", preprocessor="lexicon",
        preprocessor_conf={"lexicon": str(folder / "lexicon.txt")},
        loss="ctc", loss_conf={"variants": True},
    )  # fmt: skip
    options = write_data(folder / "data", TEXTS)
    options += ["--data_path_and_name_and_type", f"{folder / 'data/text'},text,text"]
    return folder, [*options, "--train_config", str(config), "--model_file", str(model)]


def test_the_aligner_chooses_what_it_prefers(aligner, tmp_path: Path) -> None:
    from espnet_plugin.jobs.align import main

    folder, options = aligner
    out = tmp_path / "out"
    given = [*options, "--output_dir", str(out), "--prior_scale", "0", "--batch_size", "2"]
    assert main([*given, "--variants", "true"]) == 0
    lexicon = read_lexicon(folder / "lexicon.txt")
    chosen, alignment = read_table(out / "text"), read_integers(out / "alignment")
    scores = {utt: float(score) for utt, score in read_table(out / "score").items()}
    for utt, text in TEXTS.items():
        words = chosen[utt].split()
        assert [split_variant(word)[0] for word in words] == text.split()
        labels = [PHONEMES[label] for label in alignment[utt] if label]
        assert labels == lexicon.labels(words)
    # No transcript of fixed pronunciations is aligned better, and the chosen one as well.
    best = dict.fromkeys(TEXTS, -1e9)
    for first in ("AB", "AB(2)", "AB(3)"):
        for second in ("BA", "BA(2)"):
            swap = {"AB": first, "BA": second}
            table = {u: " ".join(swap[w] for w in t.split()) for u, t in TEXTS.items()}
            _fixed(folder, options, table, tmp_path / f"{first}-{second}", best)
    _fixed(folder, options, chosen, tmp_path / "chosen", same := dict.fromkeys(TEXTS, -1e9))
    for utt in TEXTS:
        assert scores[utt] == pytest.approx(same[utt], abs=1e-5) and scores[utt] >= best[utt] - 1e-5


def _fixed(folder: Path, options, table, out: Path, best: dict[str, float]) -> None:
    """Align transcripts whose pronunciations are given; keeps the best score per frame."""
    from espnet_plugin.jobs.align import main

    out.mkdir()
    (out / "words").write_text("".join(f"{u} {t}\n" for u, t in table.items()))
    config = yaml.safe_load((folder / "model/config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump({**config, "loss_conf": {}}))
    given = [v.replace(str(folder / "data/text"), str(out / "words")) for v in options]
    given[given.index(str(folder / "model/config.yaml"))] = str(out / "config.yaml")
    assert main([*given, "--output_dir", str(out / "out"), "--prior_scale", "0"]) == 0
    for utt, score in read_table(out / "out/score").items():
        best[utt] = max(best[utt], float(score))


def test_the_loss_sums_over_variants(aligner) -> None:
    from espnet_plugin.losses import encoder_full_sum_loss
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    folder, _ = aligner
    model, args = Task.build_model_from_file(
        folder / "model/config.yaml", folder / "model/model.pth"
    )
    preprocess, collate = Task.build_preprocess_fn(args, True), Task.build_collate_fn(args, True)
    torch.manual_seed(0)
    speech = {utt: torch.randn(40, 8).numpy() for utt in TEXTS}
    rows = [(u, preprocess(u, {"speech": speech[u], "text": TEXTS[u]})) for u in TEXTS]
    _, batch = collate(rows)
    loss = model.eval()(**batch)[0]
    frames, lengths = model.encode(batch["speech"], batch["speech_lengths"])
    logits = model.encoder_logits(frames)

    def sequence(text: str) -> torch.Tensor:
        labels = [PHONEMES.index(label) for label in preprocess.lexicon.labels(text.split())]
        row, size = list(TEXTS).index("u1" if len(text.split()) == 1 else "u0"), len(labels)
        return -encoder_full_sum_loss(
            logits[row : row + 1], torch.tensor([labels]), lengths[row : row + 1],
            torch.tensor([size]), reduction="sum",
        )  # fmt: skip

    pairs = [f"{a} {b}" for a in ("AB", "AB(2)", "AB(3)") for b in ("BA", "BA(2)")]
    expected = {
        "u0": -torch.stack([sequence(pair) for pair in pairs]).logsumexp(0),
        "u1": -torch.stack([sequence(word) for word in ("BA", "BA(2)")]).logsumexp(0),
    }
    from espnet_plugin.losses.variant_full_sum import variant_full_sum_loss
    from espnet_plugin.models.variants import batch_graph

    graph = batch_graph(batch["variants"], batch["variants_lengths"])
    losses = variant_full_sum_loss(logits, graph, lengths, reduction="none")
    torch.testing.assert_close(losses[0], expected["u0"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(losses[1], expected["u1"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss.squeeze(), losses.mean(), rtol=1e-5, atol=1e-4)


def test_variants_need_a_lexicon_and_the_monotonic_topology(tmp_path: Path) -> None:
    from espnet_plugin.models.criteria import CTCCriterion
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    with pytest.raises(ValueError, match="monotonic"):
        CTCCriterion(topology="ctc", variants=True)
    config, _ = write_model(tmp_path / "model", loss="ctc", loss_conf={"variants": True})
    _, args = Task.build_model_from_file(config)
    with pytest.raises(ValueError, match="lexicon"):
        Task.build_preprocess_fn(args, True)
