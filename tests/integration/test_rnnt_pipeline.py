"""The whole pipeline in the standard topology, and ESPnet's own search of what comes out.

align -> viterbi -> re-alignment -> viterbi -> full_sum -> mbr with ESPnet itself, a few random
features; then ESPnet's `asr_inference`, whose BeamSearchTransducer knows nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet_plugin.data.kaldi_files import read_integers, read_table
from espnet_plugin.search.align.entries import entry_labels, frame_count
from tests.integration.test_pipeline_kill import CONFIG, make_corpus, start

pytestmark = pytest.mark.slow
STAGES = ["align", "viterbi", "again", "full_sum", "mbr"]
ESPNET = "import espnet_plugin\nfrom espnet2.bin.asr_inference import main\nmain()\n"


def write_config(root: Path) -> None:
    base = {**CONFIG["base"], "accum_grad": 1}
    base["model_conf"] = {"topology": "rnnt", "joint_conf": {"joint_size": 16}}
    stages = {name: {"max_epoch": 1} for name in STAGES}
    stages["align"] |= CONFIG["train_stages"]["align"] | {"max_epoch": 1}
    stages["again"]["loss"] = "viterbi"
    for name in ("viterbi", "again"):
        stages[name]["loss_conf"] = {"chunk_size": 6, "chunk_hop": 3}
    config = {
        "base": base,
        "stage_scheduler_conf": {"stages": STAGES},
        "train_stages": stages,
        "alignment": {**CONFIG["alignment"], "realign": [{"after": "viterbi"}]},
        "nbest": CONFIG["nbest"],
    }
    (root / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def test_from_the_aligner_to_espnets_own_search(tmp_path: Path, preloaded_python: str) -> None:
    make_corpus(tmp_path)
    write_config(tmp_path)
    process = start(tmp_path, "rnnt", preloaded_python)
    log = tmp_path / "rnnt.log"
    assert process.wait() == 0, log.read_text()[-3000:]
    exp = tmp_path / "exp/rnnt"
    first, second = (
        read_integers(exp / name / "alignment") for name in ("alignment", "realignment")
    )
    assert first.keys() == second.keys() and len(first) == 30
    for utt, entries in second.items():
        assert min(first[utt]) >= 0 and frame_count(entries) == len(first[utt])
        assert entry_labels(entries) == entry_labels(first[utt])
    command = (exp / "again/train.log").read_text().splitlines()[0]
    assert f"{exp / 'realignment/alignment'},alignment,text_int" in command
    figures = json.loads((exp / "nbest/quality.json").read_text())
    assert figures["utterances"] == 24 and 0 <= figures["first_share"] <= 1
    data = tmp_path / "dump/valid/feats.scp"
    for stage in ("viterbi", "mbr"):
        arguments = ["--asr_train_config", str(exp / stage / "config.yaml")]
        arguments += ["--asr_model_file", str(exp / stage / "valid.loss.ave.pth")]
        arguments += ["--data_path_and_name_and_type", f"{data},speech,kaldi_ark"]
        arguments += ["--output_dir", str(tmp_path / stage), "--beam_size", "3"]
        arguments += ["--ctc_weight", "0.0", "--num_workers", "0"]
        result = subprocess.run(
            [sys.executable, "-c", ESPNET, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        text = read_table(tmp_path / stage / "1best_recog/text", allow_empty=True)
        assert sorted(text) == [f"valid{n:02d}" for n in range(6)]
