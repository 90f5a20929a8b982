"""Train, pack, wipe everything, load the file elsewhere: the results are the same.

One tiny training serves all tests of this file: noisy patterns of three letters, a stage of the
paper's topology, and after it one of the standard topology.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from espnet_plugin.bin import evaluate, pack, train
from espnet_plugin.corpora.kaldi_dir import write_ark, write_table
from espnet_plugin.packages.sources import open_package

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOKENS = ("<blank>", "<unk>", "<space>", "A", "B", "C", "<sos/eos>")
WORDS = ("AB", "BCA", "CC", "BA")
FEATURES = 8
CONFIG: dict[str, Any] = {
    "stage_scheduler_conf": {"stages": ["full_sum", "standard"]},
    "base": {
        "encoder": "progressive_conformer",
        "encoder_conf": {
            "output_size": 24,
            "attention_heads": 2,
            "linear_units": 32,
            "num_blocks": 2,
            "interctc_layer_idx": [1],  # which ESPnet's own inference must not stumble over
            "vgg_channels": [4, 4, 4],
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
            "macaron_style": True,
            "cnn_module_kernel": 3,
            "rel_pos_type": "latest",
        },
        "decoder": "feedforward_prediction",
        "decoder_conf": {"embed_size": 8, "hidden_size": 16},
        "model_conf": {"joint_conf": {"joint_size": 24}},
        "optim": "adam",
        "optim_conf": {"lr": 5e-3},
        "batch_type": "unsorted",
        "batch_size": 8,
        "num_workers": 0,
        "keep_nbest_models": 2,
        "use_tensorboard": False,
        "use_matplotlib": False,
        "num_att_plot": 0,
    },
    "train_stages": {
        "full_sum": {"loss": "full_sum", "max_epoch": 12},
        "standard": {
            "loss": "full_sum",
            "max_epoch": 6,
            "model_conf": {"topology": "rnnt"},
            # what is packed is the plain model, which ESPnet alone can load
            "accelerators": {
                "rep_conv": {"kernels": [1]},
                "sparse": {"sparsity": 0.5, "every": 5, "start": "magnitude"},
            },
        },
    },
}
# Run in a process of its own, in an empty folder: nothing but the packed files is there.
ELSEWHERE = """
import json, sys
import numpy as np
import espnet_plugin
from espnet2.bin.asr_inference import Speech2Text as Stock
from espnet_model_zoo.downloader import ModelDownloader
from espnet_plugin.inference.speech2text import Speech2Text

monotonic, standard, bare, speech = sys.argv[1:]
utterances = list(np.load(speech).values())

def told(recognise):
    results = [recognise(utterance)[0] for utterance in utterances]
    return [[list(map(int, r[2])), float(r[3].score), r[0]] for r in results]

def stock(recognise):  # the blank that ESPnet's hypotheses begin with is not among its tokens
    return [list(map(int, recognise(utterance)[0][2])) for utterance in utterances]

print("RESULT" + json.dumps({
    "monotonic": told(Speech2Text.from_pretrained(monotonic)),
    "bare": told(Speech2Text.from_pretrained(bare)),
    "greedy": told(Speech2Text.from_pretrained(standard, search="greedy", max_symbols=1)),
    "stock": stock(Stock.from_pretrained(standard, beam_size=1)),
    "zoo": stock(Stock(**ModelDownloader("zoo").download_and_unpack(standard), beam_size=1)),
}))
"""


@dataclass(frozen=True)
class Published:
    """What is left after everything else was wiped."""

    monotonic: Path
    standard: Path
    bare: Path
    again: Path
    speech: Path
    expected: dict[str, Any]
    weights: dict[str, torch.Tensor]
    tuned: dict[str, dict[str, torch.Tensor]]
    evaluations: list[tuple[int, str]]
    recipe: Path


def make_corpus(root: Path) -> None:
    """Letters as noisy patterns of 16 frames; 48 + 6 utterances, and ESPnet's statistics."""
    generator = np.random.default_rng(0)
    patterns = {letter: generator.standard_normal((16, FEATURES)) * 2 for letter in "ABC "}
    for part, count in (("train", 48), ("valid", 6)):
        keys = [f"{part}{n:02d}" for n in range(count)]
        text = {key: " ".join(generator.choice(WORDS, 2)) for key in keys}
        clean = {k: np.concatenate([patterns[letter] for letter in text[k]]) for k in keys}
        speech = {k: x + 0.3 * generator.standard_normal(x.shape) for k, x in clean.items()}
        data, stats = root / "dump" / part, root / "exp/stats" / part
        write_table(data / "feats.scp", write_ark(root / f"{part}.ark", speech.items()))
        write_table(data / "text", text)
        (data / "feats_dim").write_text(f"{FEATURES}\n")
        write_table(stats / "speech_shape", {k: f"{len(x)},{FEATURES}" for k, x in speech.items()})
        write_table(stats / "text_shape.char", {k: f"{len(t)},7" for k, t in text.items()})
        frames = np.concatenate(list(speech.values()))
        sums = {"sum": frames.sum(0), "sum_square": (frames**2).sum(0)}
        np.savez(stats / "feats_stats.npz", count=len(frames), **sums)
        if part == "valid":
            np.savez(root.parent / "speech.npz", **speech)
    (root / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    (root / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


def make_decoding(root: Path) -> Path:
    """A lexicon, a word bigram and a neural language model, each with a scale of its own."""
    from espnet2.tasks.lm import LMTask

    (root / "words.txt").write_text("".join(f"{word} {' '.join(word)}\n" for word in WORDS))
    unigrams = "".join(f"-0.{n + 4}\t{word}\t-0.2\n" for n, word in enumerate(WORDS))
    (root / "words.arpa").write_text(
        "\\data\\\nngram 1=7\nngram 2=2\n\n\\1-grams:\n-99\t<s>\t-0.1\n-1.2\t</s>\n-3\t<unk>\n"
        f"{unigrams}\n\\2-grams:\n-0.1\tAB BA\n-0.7\tCC </s>\n\n\\end\\\n"
    )
    lm = root / "exp/lm"
    lm.mkdir()
    config = {**LMTask.get_default_config(), "token_list": list(TOKENS), "output_dir": str(lm)}
    config.update(lm="seq_rnn", lm_conf={"unit": 8, "nlayers": 1}, token_type="char")
    (lm / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    model, _ = LMTask.build_model_from_file(lm / "config.yaml")
    torch.save(model.state_dict(), lm / "model.pth")
    options = {
        "search": "lexicon",
        "lexicon": str(root / "words.txt"),
        "beam_size": 6,
        "nbest": 2,
        "ilm_scale": 0.15,
        "lm": [f"word:{root}/words.arpa:0.6", f"espnet:{lm}/model.pth:0.35"],
    }
    path = root / "decode_tuned.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


def command(root: Path, python: str, *more: str) -> list[str]:
    return [
        *("--config", str(root / "pipeline.yaml"), "--expdir", str(root / "exp")),
        *("--train_data", str(root / "dump/train"), "--valid_data", str(root / "dump/valid")),
        *("--stats_dir", str(root / "exp/stats"), "--feats_type", "extracted"),
        *("--token_list", str(root / "tokens.txt"), "--train_threads", "1"),
        *("--python", python, *more),
    ]


def originals(exp: Path, decoding: Path, speech: Path) -> dict[str, Any]:
    """Results of the models as they lie in the experiment, before packing."""
    from espnet_plugin.inference.speech2text import Speech2Text

    def told(stage: str, **options: Any) -> list[list[Any]]:
        files = exp / stage / "config.yaml", exp / stage / "valid.loss.ave.pth"
        recognise = Speech2Text(*files, **options)
        results = [recognise(utterance)[0] for utterance in np.load(speech).values()]
        return [[r[2], r[3].score, r[0]] for r in results]

    return {
        "monotonic": told("full_sum", **yaml.safe_load(decoding.read_text())),
        "bare": told("full_sum"),
        "greedy": told("standard", search="greedy", max_symbols=1),
    }


def fine_tune(root: Path, model: Path, python: str) -> dict[str, dict[str, torch.Tensor]]:
    """Two stages that learn nothing: all of a packed model, which makes the N-best lists, and its
    encoder alone."""
    standard = {**CONFIG["train_stages"]["standard"], "max_epoch": 1, "accelerators": {}}
    config = {
        "stage_scheduler_conf": {"stages": ["mbr", "standard"]},
        "base": {**CONFIG["base"], "optim": "sgd", "optim_conf": {"lr": 0.0}},
        "train_stages": {
            "mbr": {"loss": "mbr", "max_epoch": 1, "init_from": str(model)},
            "standard": {**standard, "init_from": {"model": str(model), "parts": ["encoder"]}},
        },
        "nbest": {"nbest": 2, "beam_size": 2},
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert train.main(command(root, python, "--tag", "tuned")) == 0
    files = {stage: root / f"exp/tuned/{stage}/valid.loss.ave.pth" for stage in ("mbr", "standard")}
    return {stage: dict(torch.load(path, weights_only=True)) for stage, path in files.items()}


def evaluate_twice(root: Path, models: list[Path], python: str) -> list[tuple[int, str]]:
    """Statuses and hypotheses: with the first model, again, and with another into its folder."""
    data, results = root / "dump/valid", []
    for model in (models[0], models[0], models[1]):
        given = ["--model", str(model), "--data", str(data), "--exp", str(root / "exp/evaluation")]
        status = evaluate.main([*given, "--python", python])
        text = root / "exp/evaluation/decode/full_sum_packed/valid/text"
        results.append((status, text.read_text()))
    results.append((0, (root / "exp/evaluation/RESULTS.md").read_text()))
    return results


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, preloaded_python: str) -> Published:
    base = tmp_path_factory.mktemp("published")
    root = base / "recipe"
    root.mkdir()
    make_corpus(root)
    assert train.main(command(root, preloaded_python, "--tag", "tag")) == 0
    exp, decoding = root / "exp/tag", make_decoding(root)
    expected = originals(exp, decoding, base / "speech.npz")
    weights = torch.load(exp / "full_sum/valid.loss.ave.pth", weights_only=True)
    files = [base / f"{name}.zip" for name in ("monotonic", "again", "bare", "standard")]
    tuned = ["--stage", "full_sum", "--inference_config", str(decoding)]
    options = [tuned, [*tuned, "--verify", "false"], ["--stage", "full_sum"], []]
    for path, more in zip(files, options, strict=True):
        assert pack.main(["--exp", str(exp), "--outpath", str(path), *more]) == 0
    cache = pytest.MonkeyPatch()
    cache.setenv("ESPNET_PROGRESSIVE_CACHE", str(base / "cache"))
    states = fine_tune(root, files[0], preloaded_python)
    evaluations = evaluate_twice(root, [files[0], files[2]], preloaded_python)
    cache.undo()
    shutil.rmtree(root)
    monotonic, again, bare, standard = files
    speech = base / "speech.npz"
    return Published(
        monotonic=monotonic,
        standard=standard,
        bare=bare,
        again=again,
        speech=speech,
        expected=expected,
        weights=dict(weights),
        tuned=states,
        evaluations=evaluations,
        recipe=root,
    )


@pytest.fixture(scope="module")
def elsewhere(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of a fresh process in an empty folder of an empty home."""
    home = tmp_path_factory.mktemp("elsewhere")
    files = (published.monotonic, published.standard, published.bare, published.speech)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG"))
    }
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, files)],
        cwd=home,
        env={**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return result


def test_the_models_recognise_something(published: Published) -> None:
    """Otherwise equal results would say nothing."""
    for name, results in published.expected.items():
        assert len({tuple(tokens) for tokens, _, _ in results}) > 3, (name, results)


@pytest.mark.parametrize("name", ["monotonic", "bare", "greedy"])
def test_the_same_results_elsewhere(
    published: Published, elsewhere: dict[str, Any], name: str
) -> None:
    expected, found = published.expected[name], elsewhere[name]
    assert [tokens for tokens, _, _ in found] == [tokens for tokens, _, _ in expected]
    assert [text for _, _, text in found] == [text for _, _, text in expected]
    scores = [score for _, score, _ in expected]
    assert [score for _, score, _ in found] == pytest.approx(scores, abs=1e-5)


def test_the_command_evaluate_decodes_and_scores(published: Published) -> None:
    first, again, other, results = published.evaluations
    assert first == again and first[0] == 0
    found = [line.partition(" ")[2] for line in first[1].splitlines()]
    assert found == [text for _, _, text in published.expected["monotonic"]]
    assert other[0] == 2, "another model's output was mixed into the folder"
    assert "|full_sum_packed/valid|6|12|" in results[1]


def test_the_language_models_take_part(published: Published) -> None:
    with_lm = [score for _, score, _ in published.expected["monotonic"]]
    assert with_lm != [score for _, score, _ in published.expected["bare"]]
    words = {word for _, _, text in published.expected["monotonic"] for word in text.split()}
    assert words and words <= set(WORDS)


@pytest.mark.parametrize("loader", ["stock", "zoo"])
def test_espnets_own_speech2text_gives_the_same(
    published: Published, elsewhere: dict[str, Any], loader: str
) -> None:
    assert elsewhere[loader] == [tokens for tokens, _, _ in published.expected["greedy"]]


def test_the_same_bytes_and_no_place_of_the_packing_machine(published: Published) -> None:
    assert published.monotonic.read_bytes() == published.again.read_bytes()
    package = open_package(published.monotonic, published.monotonic.parent / "look")
    for path in package.root.rglob("*"):
        if path.is_file():
            assert str(published.recipe).encode() not in path.read_bytes(), path
    assert package.extra["stage"] == "full_sum"


def test_fine_tuning_from_the_file(published: Published) -> None:
    def equal(stage: str) -> dict[str, bool]:
        return {
            name: torch.equal(value, published.weights[name])
            for name, value in published.tuned[stage].items()
            if value.is_floating_point() and "running" not in name
        }

    assert all(equal("mbr").values())
    standard = equal("standard")
    assert all(
        same for name, same in standard.items() if name.startswith(("encoder.", "normalize."))
    )
    # the encoder's output layer is left as it was made by both trainings, from the same seed
    made_anew = [name for name in standard if name.startswith(("joint_network.", "decoder."))]
    assert not all(standard[name] for name in made_anew)
    assert not standard["joint_network.output.weight"]


def test_a_packed_model_that_was_tampered_with(published: Published, tmp_path: Path) -> None:
    """A changed model must not load: ESPnet alone would leave missing parameters random."""
    from espnet_plugin.inference.speech2text import Speech2Text

    package = open_package(published.bare, tmp_path / "cache")
    weights = dict(published.weights)
    del weights["joint_network.output.weight"]
    torch.save(weights, package.model_file)
    with pytest.raises(ValueError, match=r"lacks parameters .*joint_network\.output\.weight"):
        Speech2Text.from_pretrained(str(package.root))
