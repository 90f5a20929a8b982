"""Splitting, repairing and merging of data-parallel jobs; the Kaldi-style backend."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from espnet_plugin.jobs import run_many
from espnet_plugin.pipeline.launch.job_backends import ProgressMeter
from espnet_plugin.pipeline.launch.jobs import (
    Job,
    make_job,
    merge_outputs,
    repair_outputs,
    run_jobs,
)
from espnet_plugin.pipeline.launch.jobs import split_keys as split
from espnet_plugin.pipeline.launch.process import ChildFailed
from espnet_plugin.pipeline.plan.options import RunOptions

FAKE = Path(__file__).parent / "fake_programs.py"


def job(folder: Path, count: int = 5, nj: int = 2, cmd: str = "local") -> Job:
    model = folder.parent / "model"
    model.write_text("10")
    options = RunOptions(
        exp=folder.parent,
        train_data=folder,
        valid_data=folder,
        stats_dir=folder,
        decode_cmd=cmd,
        python=f"{sys.executable} {FAKE}",
    )

    def arguments(keys: str, output: str) -> list[str]:
        return ["--model_file", str(model), "--key_file", keys, "--output_dir", output]

    keys = [f"u{n}" for n in reversed(range(count))]
    outputs = ("alignment", "score")
    return make_job("align", folder, keys, "align", arguments, outputs, options, {"nj": nj})


def run(work: Job) -> None:
    run_jobs([work], 2, lambda: None, lambda line: None)


def test_parts_are_disjoint_complete_and_even(tmp_path: Path) -> None:
    work = job(tmp_path / "a", count=7, nj=3)
    assert split(work) == 3
    parts = [(work.logdir / f"keys.{n}.scp").read_text().split() for n in (1, 2, 3)]
    assert [key for part in parts for key in part] == sorted(work.keys)
    assert sorted(map(len, parts)) == [2, 2, 3]


def test_more_parts_than_keys_and_kept_split(tmp_path: Path) -> None:
    assert split(job(tmp_path / "a", count=2, nj=9)) == 2
    assert split(job(tmp_path / "a", count=2, nj=1)) == 2
    with pytest.raises(ValueError, match="over other utterances"):
        split(job(tmp_path / "a", count=3))


def test_run_merges_sorted(tmp_path: Path) -> None:
    work = job(tmp_path / "a")
    run(work)
    lines = (work.folder / "alignment").read_text().splitlines()
    assert lines == [f"u{n} 0 3 0 3 0 0" for n in range(5)]
    assert (work.folder / "skipped").read_text() == ""


def test_resume_keeps_complete_lines_only(tmp_path: Path) -> None:
    work = job(tmp_path / "a")
    split(work)
    output = work.logdir / "output.1"
    output.mkdir()
    (output / "alignment").write_text("u0 9\nu1 9\nu2 9")  # u2 was cut off by a kill
    (output / "score").write_text("u0 -9\n")  # and u1's score was not yet written
    repair_outputs(work, 1)
    assert (output / "alignment").read_text() == "u0 9\n"
    run(work)
    lines = (work.folder / "alignment").read_text().splitlines()
    assert lines[:2] == ["u0 9", "u1 0 3 0 3 0 0"] and len(lines) == 5


def test_lost_utterance_is_named(tmp_path: Path) -> None:
    work = job(tmp_path / "a", count=2, nj=1)
    split(work)
    output = work.logdir / "output.1"
    output.mkdir()
    (output / "alignment").write_text("u0 1\n")
    (output / "score").write_text("u0 1\n")
    with pytest.raises(ValueError, match="alignment has no line for u1"):
        merge_outputs(work, 1)
    (output / "skipped").write_text("u1 too short\n")
    merge_outputs(work, 1)
    assert (work.folder / "skipped").read_text() == "u1 too short\n"


def test_failing_part_shows_its_log(tmp_path: Path) -> None:
    work = job(tmp_path / "a", count=2, nj=1)
    (tmp_path / "model").unlink()
    with pytest.raises(ChildFailed, match="FileNotFoundError"):
        run(work)
    assert not (work.folder / "alignment").exists()


def test_kaldi_style_backend(tmp_path: Path) -> None:
    """A minimal run.pl: JOB=1:n, a log, a command in which JOB stands for the number."""
    script = tmp_path / "run.sh"
    script.write_text(
        '#!/bin/bash\nset -e\n[ "$1" = --mem ] && shift 2\nn=${1#JOB=1:}; log=$2; shift 2\n'
        'for j in $(seq $n); do "${@//JOB/$j}" >"${log//JOB/$j}" 2>&1; done\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    work = job(tmp_path / "a", cmd=f"{script} --mem 4G")
    run(work)
    assert len((work.folder / "alignment").read_text().splitlines()) == 5
    assert (work.logdir / "done.2").exists() and (work.logdir / "log.2").exists()


def test_no_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no utterances"):
        job(tmp_path / "a", count=0)


def test_meter_estimates_and_is_quiet_when_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    file, shown = tmp_path / "text", list[str]()
    file.write_text("u0 from an earlier attempt\n")
    meter = ProgressMeter("nbest", 41, [file, tmp_path / "none"], shown.append)
    for second in range(1, 60):
        now[0] = second
        meter()
    assert shown == []
    file.write_text("u\n" * 21)
    now[0] = 60
    meter()
    assert shown == ["nbest      21/41 utterances  ETA 1:00"]


def test_a_killed_part_of_a_job_is_called_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot write so itself; the others' results stay."""

    def module(name: str) -> SimpleNamespace:
        def main(arguments: list[str]) -> int:
            if arguments == ["2"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        return SimpleNamespace(main=main)

    monkeypatch.setattr(run_many.importlib, "import_module", module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # which it changes
    names = [str(number) for number in (1, 2)]
    places = {
        n: {"log": str(tmp_path / f"log.{n}"), "done": str(tmp_path / f"done.{n}")} for n in names
    }
    commands = [{"program": "align", "arguments": [n], **places[n]} for n in names]
    assert run_many.run({"parallel": 1, "commands": commands}) == [str(tmp_path / "log.2")]
    assert (tmp_path / "done.1").exists() and not (tmp_path / "done.2").exists()
    failed = ChildFailed("align", 1, tmp_path / "log.2")
    assert str(failed).startswith("align: exit status 1: killed by signal 9: killed from outside")
    assert "a smaller --nj, then give the same command again" in str(failed)


@pytest.mark.parametrize("ngpu", ["0", "1"])
def test_no_process_is_forked_that_has_looked_at_a_gpu(
    ngpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ESPnet imports initialises CUDA, which a forked child cannot use."""
    (tmp_path / "looks.py").write_text(
        "import json, os, sys\n"
        "loaded = os.getpid(), os.environ['CUDA_VISIBLE_DEVICES']\n"
        "def main(arguments):\n"
        "    with open('looks.json', 'w') as file:\n"
        "        json.dump([*loaded, os.getpid(), arguments], file)\n"
        "if __name__ == '__main__':\n"
        "    main(sys.argv[1:])\n"
    )
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(run_many, "program_module", lambda name: name)
    monkeypatch.setattr(run_many, "SHARED", ())  # ESPnet takes seconds to import
    monkeypatch.delitem(sys.modules, "looks", raising=False)
    arguments = ["--ngpu", ngpu, "--nbest", "4"]
    place = {"log": str(tmp_path / "log"), "done": str(tmp_path / "done")}
    spec = {"parallel": 1, "commands": [{"program": "looks", "arguments": arguments, **place}]}
    assert run_many.run(spec) == []
    imported, visible, ran, given = json.loads((tmp_path / "looks.json").read_text())
    assert given == arguments
    if ngpu == "1":
        assert imported == ran and visible == "0"
    else:
        assert imported == os.getpid() != ran and visible == ""
