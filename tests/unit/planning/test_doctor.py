"""doctor: what is missing is found and comes with a remedy; what is there passes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from espnet_plugin.bin import doctor
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.planning import doctor_machine as machine
from espnet_plugin.planning import doctor_software as software
from espnet_plugin.planning.checks import FAILED, NOTE, OK, WARNING, Check, Wishes
from espnet_plugin.planning.machine import GIB, Gpu
from espnet_plugin.planning.model_size import model_parameters
from espnet_plugin.scoring import hub5_nist

ROOT = Path(__file__).parents[3]
TINY = "train_stages: {align: {loss: ctc, num_workers: 2, keep_nbest_models: [5]}}\n"


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "train.yaml").write_text(TINY)
    places = ("--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump"))
    return ["--config", str(tmp_path / "train.yaml"), *places]


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def run(arguments: list[str]) -> dict[str, Check]:
    return by_name(doctor.examine(doctor.get_parser().parse_args(arguments)))


def test_a_machine_that_has_everything(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(arguments) == 0
    out = capsys.readouterr().out
    assert "package espnet" in out and "202611" in out and " 0 failed" in out
    assert doctor.main([*arguments, "--quiet", "true"]) == 0
    assert "package espnet" not in capsys.readouterr().out


def test_everything_wrong_is_listed_at_once(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub5_nist, "_DEBIAN", tmp_path)  # sctk may be installed
    (tmp_path / "empty").touch()
    wrong = [
        *("--train_hours", "100000000", "--num_nodes", "2", "--decode_cmd", "nosuch.pl --mem 4G"),
        *("--files", str(tmp_path / "lexicon.txt"), str(tmp_path / "empty")),
        *("--tools", "hubscr.pl", "--packages", "no-such-package"),
    ]
    assert doctor.main([*arguments, *wrong]) == 1
    out = capsys.readouterr().out
    for remedy in (
        f"{tmp_path / 'dump'}: ",
        "--dumpdir on another disk",
        "give --cuda_cmd slurm.pl",
        "'nosuch.pl --mem 4G': not found: nosuch.pl",
        "lexicon.txt: no such file",
        "empty: empty",
        "apt-get install sctk",
        "pip install no-such-package",
    ):
        assert remedy in out, remedy
    assert doctor.main([*arguments, *wrong, "--quiet", "true"]) == 1
    assert "FAILED: nodes: --num_nodes 2" in capsys.readouterr().out


@pytest.mark.parametrize(("kept", "models"), [("[3, 7]", 7), ("4", 4), ("null", 10)])
def test_models_kept_as_espnet_reads_them(
    kept: str, models: int, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "train.yaml").write_text(
        f"train_stages: {{align: {{loss: ctc, keep_nbest_models: {kept}}}}}\n"
    )
    _, wishes = doctor.read_wishes(doctor.get_parser().parse_args(arguments))
    assert wishes.models_kept == models


def test_a_broken_configuration_is_a_finding(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("train_stage: {}\n")
    found = run(arguments)["configuration"]
    assert found.status == FAILED and "did you mean train_stages" in found.found


def test_a_plan_that_begins_with_mbr_is_fine_with_a_model_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT / "egs2/an4/asr1")
    given = ["--config", "conf/train_progressive.yaml"]
    given += ["--stage_scheduler_conf", "{stages: [mbr]}"]
    refused = doctor.examine(doctor.get_parser().parse_args(given))[0]
    assert refused.status == FAILED and "needs N-best lists" in refused.found
    found = doctor.examine(doctor.get_parser().parse_args([*given, "--init_from", "m.zip"]))[0]
    assert found.status == OK and "yaml: mbr" in found.found


def test_python_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.python_version((3, 12)).status == OK
    assert software.python_version((3, 11)).status == FAILED
    assert "Python 3.12 or 3.13" in software.python_version((3, 14)).remedy
    assert software.package("espnet", "202611").status == OK
    other = software.package("espnet", "202301")
    assert other.status == FAILED and other.remedy == "pip install espnet==202301"
    assert software.optional_package("no-such-package", "x", "y").status == NOTE
    monkeypatch.setenv("PATH", "")
    assert software.optional_tool("sox", "x").status == NOTE


def test_a_missing_start_up_hook_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = "_espnet_progressive_startup"
    for there in (True, False):
        monkeypatch.delitem(sys.modules, hook, raising=False)
        if there:
            monkeypatch.setitem(sys.modules, hook, sys)
        found = [check for check in software.software_checks(Wishes()) if "hook" in check.name]
        assert [check.status for check in found] == ([] if there else [NOTE])


def test_programs_of_debians_sctk_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not on the PATH there; the scoring knows."""
    monkeypatch.setattr(hub5_nist, "_DEBIAN", tmp_path)
    assert software.tool("hubscr.pl-of-nobody").status == FAILED
    (tmp_path / "hubscr.pl-of-nobody").write_text("")
    (tmp_path / "hubscr.pl-of-nobody").chmod(0o755)
    found = software.tool("hubscr.pl-of-nobody")
    assert (found.status, found.found) == (OK, str(tmp_path / "hubscr.pl-of-nobody"))


def test_disk_space_of_two_folders_on_one_disk_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 100 h of 16 kHz: 1.1 x 100 x 3600 x 16000 x 2 x 0.6 bytes = 7.1 GiB in the dump; the models of
    # two stages: 2 x (5 + 1 + 3) x 80 M x 4 bytes and a quarter GiB = 5.6 GiB
    wishes = Wishes(
        expdir=tmp_path / "a/exp",
        dumpdir=tmp_path / "b/dump",
        train_hours=100,
        parameters=80_000_000,
        stages=2,
        models_kept=5,
    )
    monkeypatch.setattr(machine, "disk_free", lambda folder: 12 * GIB)
    found = by_name(list(machine.disks(wishes)))
    assert found["disk, dump"].status == found["disk, experiments"].status == FAILED
    assert "about 7.1 needed, 12.7 with the rest on this disk" in found["disk, dump"].found
    monkeypatch.setattr(machine, "disk_free", lambda folder: 13 * GIB)
    assert all(check.status == OK for check in machine.disks(wishes))
    monkeypatch.setattr(machine, "disk_free", lambda folder: 6 * GIB)
    kept = Wishes(**{**wishes.__dict__, "dump_copies": 0.0})
    assert all(check.status == OK for check in machine.disks(kept))


def test_temporary_folders_that_serve_for_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert machine.temporary_folder().status == OK
    noexec = SimpleNamespace(f_flag=os.ST_NOEXEC)
    with monkeypatch.context() as patch:
        patch.setattr(machine.os, "statvfs", lambda path: noexec)
        patch.setattr(machine, "disk_free", lambda folder: GIB)
        found = machine.temporary_folder()
    assert found.status == WARNING and f"{tmp_path}: mounted noexec" in found.found
    assert "set TMPDIR to a folder" in found.remedy
    with monkeypatch.context() as patch:
        patch.setattr(machine, "disk_free", lambda folder: 1 << 20)
        assert "0.00 GiB free" in machine.temporary_folder().found
        patch.setattr(machine.os, "statvfs", lambda path: noexec)
        both = machine.temporary_folder().found
        assert "0.00 GiB free" in both and "noexec" in both
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    assert "no folder that may be written" in machine.temporary_folder().found


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write anywhere, so the answer is made up
    monkeypatch.setattr(machine.os, "access", lambda path, mode: path != tmp_path)
    wishes = Wishes(dumpdir=tmp_path / "a/dump", expdir=Path.cwd())
    found = next(iter(machine.disks(wishes)))
    assert found.status == FAILED and "may not be written" in found.found


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_total", lambda: 8 * GIB)
    monkeypatch.setattr(machine, "memory_available", lambda: 4 * GIB)
    assert machine.memory(Wishes(nj=2)).status == OK
    # 16 jobs with a model of 0.3 GiB each
    assert machine.memory(Wishes(nj=16, parameters=80_000_000)).status == WARNING
    assert (
        machine.memory(Wishes(nj=16, parameters=80_000_000, decode_cmd="x.pl", ngpu=1)).status == OK
    )
    assert machine.memory(Wishes(training_bytes=9.0 * GIB)).status == FAILED
    assert machine.memory(Wishes(training_bytes=9.0 * GIB, ngpu=1)).status == OK


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = Wishes(ngpu=2, training_bytes=20.0 * GIB)
    monkeypatch.setattr(machine, "cuda_of_torch", lambda: "13.0")
    monkeypatch.setattr(machine, "gpus", lambda: None)
    (found,) = machine.gpu_checks(wishes)
    assert found.status == FAILED and "no NVIDIA driver" in found.found
    small = Gpu("RTX", 11 * GIB, 5 * GIB, "570.1")
    monkeypatch.setattr(machine, "gpus", lambda: [small])
    found = list(machine.gpu_checks(wishes))
    text = " ".join(f"{check.status} {check.found} {check.remedy}" for check in found)
    assert "give --ngpu 1" in text and "5.0 GiB free: others use" in text
    assert "training needs 20.0 GiB" in text and "NVIDIA's driver to 580" in text
    big = Gpu("H200", 140 * GIB, 139 * GIB, "580.65.06")
    monkeypatch.setattr(machine, "gpus", lambda: [big, big])
    assert {check.status for check in machine.gpu_checks(wishes)} == {OK}
    (elsewhere,) = machine.gpu_checks(Wishes(ngpu=8, cuda_cmd="slurm.pl"))
    assert elsewhere.status == NOTE and "doctor there" in elsewhere.remedy


def test_driver_and_torch() -> None:
    assert machine.driver("535.104", "12.4").status == OK
    assert machine.driver("470.82", "12.4").status == FAILED
    assert "without CUDA" in machine.driver("580.1", None).found
    version = machine.cuda_of_torch()
    assert version is None or version[0].isdigit()


def test_job_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("slurm.pl", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not list(machine.submission("--decode_cmd", "local"))
    (found,) = machine.submission("--decode_cmd", "slurm.pl --mem 4G")
    assert found.status == OK and "sbatch" in found.found
    (tmp_path / "sbatch").unlink()
    (found,) = machine.submission("--decode_cmd", "slurm.pl --mem 4G")
    assert found.status == FAILED and "not found: sbatch" in found.found


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: (256, 8192))
    found = machine.open_files()
    assert found.status == WARNING and found.remedy.startswith("`ulimit -n 4096`")
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert machine.open_files().status == OK
    assert machine.shared_memory(tmp_path / "shm").status == NOTE
    monkeypatch.setattr(machine, "_LEAST_SHM", 1 << 60)
    assert "--shm-size" in machine.shared_memory(tmp_path).remedy
    assert machine.cores(Wishes(nj=100000)).status == WARNING


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("egs2/librispeech/asr1/conf/train_progressive.yaml", 78_610_995),
        ("egs2/swbd/asr1/conf/train_progressive.yaml", 78_466_766),
        (
            "egs2/librispeech/asr1/conf/tuning/train_progressive_ebranchformer_bpe5000.yaml",
            126_561_176,
        ),
    ],
)
def test_the_size_of_a_model_is_about_right(path: str, parameters: int) -> None:
    """Against counts of the built models (test_paper_configs.py)."""
    stage = make_plan(load_pipeline_config(ROOT / path))[0]
    found = model_parameters(stage.options)
    assert found is not None and 0.8 < found / parameters < 1.0
    assert model_parameters({"encoder": "rnn"}) is None


def test_doctor_and_plan_start_without_torch_and_espnet() -> None:
    code = (
        "import sys, espnet_plugin.bin.doctor, espnet_plugin.bin.plan\n"
        "sys.exit('torch' in sys.modules or 'espnet2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
