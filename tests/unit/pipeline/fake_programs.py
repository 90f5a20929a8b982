"""Stand-ins for the programs that the pipeline starts: same files, no ESPnet, milliseconds.

Called as ``python fake_programs.py -m espnet_plugin.bin.<name> options``. The "model" is a
number that every epoch changes in a way that depends on the stage's inputs, so that a wrong
resume, init or alignment shows in the result.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

PAUSE = float(os.environ.get("FAKE_PAUSE", "0"))


def options(arguments: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    key = ""
    for token in arguments:
        if token.startswith("--"):
            key = token[2:]
            found.setdefault(key, [])
        else:
            found[key].append(token)
    return found


def replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    os.replace(temporary, path)


def asr_train(given: dict[str, list[str]]) -> int:
    config = json.loads(json.dumps(load_yaml(given["config"][0])))
    folder = Path(given["output_dir"][-1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("fake: true\n")
    epochs = int(given.get("max_epoch", [config.get("max_epoch", 3)])[-1])
    state = {"epoch": 0, "value": 1}
    if given.get("init_param"):
        state["value"] = int(Path(given["init_param"][0].split(":")[0]).read_text())
    for item in given["train_data_path_and_name_and_type"]:
        path, name, _ = item.split(",")
        if name in ("alignment", "nbest"):
            state["value"] += sum(map(ord, Path(path).read_text()))
    checkpoint = folder / "checkpoint.pth"
    if given["resume"][-1] == "true" and checkpoint.exists():
        state = json.loads(checkpoint.read_text())
    if os.environ.get("FAKE_FAIL") == folder.name:
        print("RuntimeError: out of memory")
        return 1
    count = "" if "FAKE_NO_COUNT" in os.environ else ": N-batch=7, m"
    print(f"[h] 2026-01-01 00:00:00,000 (x:1) INFO: [train] mini-batch sizes summary{count}")
    for epoch in range(state["epoch"] + 1, epochs + 1):
        stamp = f"2026-01-01 00:00:{epoch:02d},000"
        print(f"[h] {stamp} (trainer:1) INFO: {epoch}/{epochs}epoch started", flush=True)
        time.sleep(PAUSE)
        factor = int(config.get("factor", 3))
        state = {"epoch": epoch, "value": (state["value"] * factor + epoch) % 1000003}
        replace(checkpoint, json.dumps(state))
        if os.environ.get("FAKE_KILL") == folder.name:
            os.kill(os.getpid(), signal.SIGKILL)
        print(
            f"[h] {stamp} (trainer:2) INFO: {epoch}epoch results: [train] loss={1 / epoch:.3f}, "
            f"optim0_lr0=1.000e-04, time=1 minute and 2.3 seconds, [valid] loss=0.500, wer=0.250",
            flush=True,
        )
    (folder / "valid.loss.ave.pth").write_text(str(state["value"]))
    if folder.parent.name == "probe":
        import torch

        # 30 s for the iterations that were asked for, 5 s for validation
        times = {
            k: {"time": {"__timedelta_seconds__": v}} for k, v in (("train", 30), ("valid", 5))
        }
        torch.save({"reporter": {"stats": {1: times}}}, checkpoint)
    return 0


def load_yaml(path: str) -> Any:
    import yaml

    return yaml.safe_load(Path(path).read_text())


def per_utterance(given: dict[str, list[str]], files: dict[str, str]) -> int:
    """One line per utterance and file; continues after the lines that are there."""
    folder = Path(given["output_dir"][0])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / next(iter(files))).parent.mkdir(parents=True, exist_ok=True)
    value = Path((given.get("model_file") or given["asr_model_file"])[0]).read_text()
    if "prior_only" in given:
        (folder / "prior_sums").write_text("2\n1.0\n0.5\n0.5\n")
        return 0
    first = folder / next(iter(files))
    done = {line.split()[0] for line in first.read_text().splitlines()} if first.exists() else set()
    streams = [(folder / name).open("a") for name in files]
    for key in Path(given["key_file"][0]).read_text().split():
        if key in done:
            continue
        time.sleep(PAUSE / 10)
        if key == os.environ.get("FAKE_SKIP"):
            with (folder / "skipped").open("a") as skipped:
                skipped.write(f"{key} too short\n")
            continue
        for stream, content in zip(streams, files.values(), strict=True):
            stream.write(f"{key} {content.replace('V', str(int(value) % 7))}\n")
            stream.flush()
    return 0


def run_many(spec: dict[str, Any]) -> int:
    for command in spec["commands"]:
        with open(command["log"], "a") as log:
            log.write(" ".join(command["arguments"]) + "\n")
            try:
                status = run(command["program"], options(command["arguments"]))
            except OSError:
                traceback.print_exc(file=log)
                return 1
        if status:
            return status
        Path(command["done"]).touch()
    return 0


def move_log(log: Path) -> None:
    """As ESPnet's launcher does it: train.log to train.1.log, that one to train.2.log, ..."""
    names = [log, *(log.with_name(f"{log.stem}.{n}{log.suffix}") for n in range(1, 9))]
    for old, new in reversed(list(itertools.pairwise(names))):
        if old.exists():
            os.replace(old, new)


def main() -> int:
    name = sys.argv[2].rpartition(".")[2]
    if name == "check_config":
        configs = Path(sys.argv[3]).parent.glob("*.yaml")
        return 2 if any("nonsense" in path.read_text() for path in configs) else 0
    if name == "launch":  # ESPnet's launcher: runs what follows "--", output to its --log
        cut = sys.argv.index("--")
        command, log = sys.argv[cut + 1 :], Path(sys.argv[sys.argv.index("--log") + 1])
        move_log(log)
        with log.open("w") as stream:
            return subprocess.call(command, stdout=stream)
    if name == "run_many":
        return run_many(json.loads(Path(sys.argv[3]).read_text()))
    given = options(sys.argv[3:])
    return run(name, given)


def run(name: str, given: dict[str, list[str]]) -> int:
    if name == "asr_train":
        return asr_train(given)
    if name == "align":
        files = {"alignment": os.environ.get("FAKE_ALIGNMENT", "0 V 0 3 0 0"), "score": "-0.05"}
        if given.get("variants") == ["true"]:
            files["text"] = "A(2) B"
        return per_utterance(given, files)
    if name == "nbest":
        files = {"nbest": "2 1 1 V 3", "nbest_lm": "-1 -2", "nbest_risk": "0 1"}
        files |= {"nbest_am": "-3 -4", "nbest_rank": "1"}
        return per_utterance(given, files)
    if name == "learn_boundaries":
        if os.environ.get("FAKE_FAIL") == name:
            return 1
        Path(given["output_dir"][0], "boundaries.npz").write_text("x")
        return 0
    return decode(given)


def decode(given: dict[str, list[str]]) -> int:
    """Hypothesis n says "A" n times; the options in effect are left in search.yaml."""
    settings = load_yaml(given["config"][0]) if "config" in given else {}
    settings["lm"] = given.get("lm", settings.get("lm", []))
    for name, kind in (("nbest", int), ("beam_size", int), ("ilm_scale", float)):
        settings[name] = kind(given.get(name, [settings.get(name, 1)])[-1])
    settings["word_times"] = given.get("word_times", ["align"])[-1]
    settings["boundary_file"] = given.get("boundary_file", [None])[-1]
    files = {}
    for n in range(1, settings["nbest"] + 1):
        parts = {"am": -n, "ilm": -n, "pronunciation": 0, "lms": [-n] * len(settings["lm"])}
        score = json.dumps(parts)
        values = (" ".join("A" * n), "A", "1", f"-{n}", score)
        names = ("text", "token", "token_int", "score", "score_parts")
        for name, value in zip(names, values, strict=True):
            files[f"{n}best_recog/{name}"] = value
            (Path(given["output_dir"][0]) / f"{n}best_recog").mkdir(parents=True, exist_ok=True)
    (Path(given["output_dir"][0]) / "search.yaml").write_text(json.dumps(settings))
    return per_utterance(given, {**files, "word_times": "0.1 0.2 A 0.9", "timing": "2 0.1 0.1 0"})


if __name__ == "__main__":
    sys.exit(main())
